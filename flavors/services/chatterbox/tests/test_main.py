"""The command: the model's download, the exit status, the end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.hub import Hub

TURBO = "ResembleAI/chatterbox-turbo"
SERVICE = Path(__file__).parents[1]
WITH_TONES = """
import asyncio, logging
from chatterbox_service.app import serve
from chatterbox_service.settings import parse
from tests.fakes.engine import ToneEngine

async def open_engine():
    return ToneEngine()

logging.basicConfig(level="INFO", format="%(message)s")
asyncio.run(serve(parse(["--port", "0"], {})[0], open_engine))
"""


@asynccontextmanager
async def process(
    *arguments: str, folder: Path, **environment: str
) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    """A Python process of the service, which is killed where it has not ended."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "CHATTERBOX_"))}
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=folder,
        env=kept | {"PYTHONPATH": str(SERVICE), "HF_HOME": str(folder / "hub")} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def run(*arguments: str, folder: Path, **environment: str) -> tuple[int | None, str]:
    """Exit status and output of `chatterbox-service`."""
    async with process("-m", "chatterbox_service", *arguments, folder=folder, **environment) as started:
        output, _ = await started.communicate()
        return started.returncode, output.decode()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_the_model_is_downloaded_once_and_on_from_where_it_was_cut_off(tmp_path: Path) -> None:
    weights = bytes(range(256)) * 200_000
    async with Hub(TURBO, {"t3.safetensors": weights, "conds.pt": b"voice", "README.md": b"not needed"}) as hub:
        hub.break_after = 30_000_000
        status, output = await run("--fetch", folder=tmp_path, HF_ENDPOINT=hub.url)
        assert status == 0
        files = await asyncio.to_thread(contents, Path(output.splitlines()[-1]))
        assert files == {"conds.pt": b"voice", "t3.safetensors": weights}
        assert None not in hub.ranges["t3.safetensors"][1:], "it went on"
        hub.ranges.clear()
        status, output = await run("--fetch", folder=tmp_path, HF_ENDPOINT=hub.url)
        assert (status, hub.ranges) == (0, {})
    status, output = await run("--fetch", folder=tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert status == 0, "without the hub, the files are still there"


async def test_a_hub_that_fails_again_and_again(tmp_path: Path) -> None:
    async with Hub(TURBO, {"conds.pt": b"voice"}) as hub:
        hub.break_after = 0
        status, output = await run("--fetch", folder=tmp_path, HF_ENDPOINT=hub.url)
    assert status == 1
    assert "start again to go on" in output
    assert "Traceback" not in output


async def test_a_gated_model_says_what_to_do_and_comes_with_the_token(tmp_path: Path) -> None:
    async with Hub(TURBO, {"conds.pt": b"voice"}) as hub:
        hub.token = "hf_right"
        for token in ({}, {"HF_TOKEN": "hf_wrong"}):
            status, output = await run("--fetch", folder=tmp_path, HF_ENDPOINT=hub.url, **token)
            assert status == 1
            assert "set HF_TOKEN" in output
            assert f"https://huggingface.co/{TURBO}" in output
            assert "hf_wrong" not in output
        status, _ = await run("--fetch", folder=tmp_path, HF_ENDPOINT=hub.url, HF_TOKEN="hf_right")
        assert status == 0


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--fetch"], 1, "the hub cannot be reached"),
        (["--no-download", "--port", "0"], 1, "--no-download was given"),
        (["--host", "192.0.2.1"], 2, "is not loopback"),
        (["--model", "nano"], 2, "'turbo', 'standard' or 'multilingual'"),
    ],
)
async def test_what_goes_wrong_is_said_and_shown_in_the_exit_status(
    tmp_path: Path, arguments: list[str], status: int, told: str
) -> None:
    ended, output = await run(*arguments, folder=tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert ended == status
    assert told in output
    assert "Traceback" not in output


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        status, output = await run("--port", str(port), folder=tmp_path)
    assert status == 1
    assert f"'127.0.0.1', {port}" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_well(tmp_path: Path, number: signal.Signals) -> None:
    async with process("-c", WITH_TONES, folder=tmp_path) as started:
        assert started.stdout is not None
        log = ""
        while "ready model=" not in log:
            log += (await started.stdout.readline()).decode()
        address = re.search(r"host=(\S+) port=(\d+)", log)
        assert address is not None
        async with aiohttp.ClientSession() as http, http.get(f"http://{address[1]}:{address[2]}/readyz") as response:
            assert response.status == 200
        started.send_signal(number)
        assert await started.wait() == 0


async def test_where_the_device_fails_the_process_ends_so_that_it_is_started_again(tmp_path: Path) -> None:
    broken = "    engine = ToneEngine()\n    engine.fault.set_result('no GPU')\n    return engine"
    failing = WITH_TONES.replace("    return ToneEngine()", broken)
    async with process("-c", failing, folder=tmp_path) as started:
        output, _ = await started.communicate()
    assert started.returncode != 0
    assert "EngineLost: no GPU" in output.decode()
