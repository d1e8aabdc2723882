"""The servers of the GPU box, here on the CPU: real ones, each a process in an environment of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.engines.checkpoints import store

ROOT = Path(__file__).parents[2]
KEY = "s3cret"
"""What all servers want to see as bearer token."""
LLM_MODEL = "micro-llama"


class Server:
    """A server as a process, at an address that it keeps: it can be killed, and started again.

    Its port is held by nobody while it is down; on loopback nobody else is likely to be given it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        port: int,
        ready: str,
        log: Path,
        patience: float,
    ) -> None:
        """`ready`: the path that is answered with 200 once it serves, within `patience` seconds."""
        self.address = f"http://127.0.0.1:{port}"
        self.log = log
        self._name = name
        self._command = [*command, "--host", "127.0.0.1", "--port", str(port)]
        self._environment = environment
        self._ready = self.address + ready
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """As the option of our engines."""
        return f"{self.address}/v1"

    def start(self) -> None:
        """Starts it and waits until it serves; raises what `wait` raises."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Starts it, and does not wait for it."""
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env={**os.environ, **quiet, **self._environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                # The server's own children are of its session, too.
                start_new_session=True,
            )

    def wait(self) -> None:
        """Returns once it serves; raises `RuntimeError` with the end of its log where it does not."""
        deadline = time.monotonic() + self._patience
        while not _answers(self._ready):
            status = self._process.poll() if self._process is not None else 0
            if status is not None or time.monotonic() > deadline:
                self.stop()
                what = f"was not ready within {self._patience:g} s" if status is None else f"ended with {status}"
                raise RuntimeError(f"{self._name} {what}: {_end(self.log)}")
            time.sleep(0.25)

    def kill(self) -> None:
        """Kills it and its children with -9."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """From now on it accepts connections (its kernel does) and says nothing, until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on after `freeze`."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends it as an operator would; what does not end is killed. Idempotent."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self.kill()

    def metrics(self) -> dict[str, float]:
        """What `/metrics` says: each series as it is written there, and by name alone the sum over all labels."""
        headers = {"Authorization": f"Bearer {KEY}"}
        request = urllib.request.Request(f"{self.address}/metrics", headers=headers)  # noqa: S310 - our own address
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own address
            lines = answer.read().decode().splitlines()
        found: dict[str, float] = {}
        for line in lines:
            if line and not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                for name in {series, series.partition("{")[0]}:
                    found[name] = found.get(name, 0.0) + float(value)
        return found

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def vllm(log: Path, slots: int = 16) -> Server:
    """vLLM with the micro Llama, which writes so many replies at once."""
    command = [
        str(store.home() / "vllm-venv/bin/python"), "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(store.folder("llama")), "--served-model-name", LLM_MODEL,
        "--enable-auto-tool-choice", "--tool-call-parser", "llama3_json",
        "--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", str(slots), "--block-size", "32",
    ]  # fmt: skip
    environment = {
        "VLLM_API_KEY": KEY,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    return Server("vLLM", command, environment, port=free_port(), ready="/health", log=log, patience=300)


def chatterbox(log: Path) -> Server:
    """Our speech server with the micro Chatterbox Turbo."""
    command = [
        str(store.home() / "engines-venv/bin/python"), "-m", "tests.engines.micro_chatterbox",
        "--model", "turbo", "--folder", str(store.folder("chatterbox-turbo")), "--device", "cpu",
        "--voices", str(log.parent / "voices"), "--streams", "4",
    ]  # fmt: skip
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'flavors/services/chatterbox'}", "CHATTERBOX_TOKEN": KEY}
    return Server("Chatterbox", command, environment, port=free_port(), ready="/readyz", log=log, patience=120)


def whisper(log: Path) -> Server:
    """Our transcription server with the micro Whisper."""
    command = [
        sys.executable, "-m", "whisper_service", "--model", str(store.folder("whisper")), "--language", "en",
        "--device", "cpu", "--compute-type", "int8", "--cpu-threads", "1",
    ]  # fmt: skip
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'flavors/services/whisper'}", "WHISPER_TOKEN": KEY}
    return Server("Whisper", command, environment, port=free_port(), ready="/readyz", log=log, patience=60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])


def free_port() -> int:
    """A TCP port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
