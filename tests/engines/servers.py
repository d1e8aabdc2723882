"""The servers of the GPU box, here on the CPU: real ones, each a process in an environment of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.engines.checkpoints import store

ROOT = Path(__file__).parents[2]
KEY = "s3cret"
"""What both servers want to see as bearer token."""
LLM_MODEL = "micro-llama"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers. `address`: where, without a path."""

    address: str
    log: Path

    @property
    def base_url(self) -> str:
        """As the option of our engines."""
        return f"{self.address}/v1"

    def metrics(self) -> dict[str, float]:
        """What `/metrics` says, by name: the sum over all labels."""
        with urllib.request.urlopen(f"{self.address}/metrics", timeout=10) as answer:  # noqa: S310 - our own address
            lines = answer.read().decode().splitlines()
        found: dict[str, float] = {}
        for line in lines:
            if line and not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                name = series.partition("{")[0]
                found[name] = found.get(name, 0.0) + float(value)
        return found


def vllm(log: Path) -> Iterator[Server]:
    """vLLM with the micro Llama."""
    port = free_port()
    command = [
        str(store.home() / "vllm-venv/bin/python"), "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(store.folder("llama")), "--served-model-name", LLM_MODEL,
        "--host", "127.0.0.1", "--port", str(port),
        "--enable-auto-tool-choice", "--tool-call-parser", "llama3_json",
        "--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "16", "--block-size", "32",
    ]  # fmt: skip
    environment = {
        "VLLM_API_KEY": KEY,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    yield from _serving("vLLM", command, environment, f"http://127.0.0.1:{port}", "/health", log, 300)


def chatterbox(log: Path) -> Iterator[Server]:
    """Our speech server with the micro Chatterbox Turbo."""
    port = free_port()
    command = [
        str(store.home() / "engines-venv/bin/python"), "-m", "tests.engines.micro_chatterbox",
        "--model", "turbo", "--folder", str(store.folder("chatterbox-turbo")), "--device", "cpu",
        "--voices", str(log.parent / "voices"), "--streams", "4", "--port", str(port),
    ]  # fmt: skip
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'flavors/services/chatterbox'}", "CHATTERBOX_TOKEN": KEY}
    yield from _serving("Chatterbox", command, environment, f"http://127.0.0.1:{port}", "/readyz", log, 120)


def _serving(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    address: str,
    ready: str,
    log: Path,
    seconds: float,
) -> Iterator[Server]:
    """Runs `command` until the generator is closed; yields once `ready` is answered with 200."""
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **quiet, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + seconds
        while not _answers(address + ready):
            if process.poll() is not None or time.monotonic() > deadline:
                ended = process.poll() is not None
                what = f"ended with {process.returncode}" if ended else f"was not ready within {seconds:g} s"
                raise RuntimeError(f"{name} {what}: {_end(log)}")
            time.sleep(0.25)
        yield Server(address, log)
    finally:
        # The session holds the server's own children, too.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


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
