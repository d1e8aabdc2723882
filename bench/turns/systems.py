"""The engines and the systems under test, as processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.turns.phone import Line, Rtp
from bench.turns.twilio import MediaStream

HERE = Path(__file__).parent
CONFIG = HERE / "voxtrunk.yml"

CALLER_NICE, SYSTEM_NICE = -10, -5
"""What keeps the machine's other work out of the figures, where the user may set it."""

START_SECONDS = 60.0


@dataclass(frozen=True)
class System:
    """A system under test: a command that is told by ENGINES where the engines are.

    `address`: where it takes calls, `rtp:HOST:PORT` or `twilio:ws://HOST:PORT/PATH`; None where it prints the line
    {"ports": [...]} once it takes calls over RTP on them.
    """

    name: str
    command: Sequence[str]
    address: str | None = None


def voxtrunk(flavor: str, calls: int = 1) -> System:
    """The one that takes `calls` calls with a flavor of voxtrunk.yml."""
    executable = Path(sys.executable).parent / "voxtrunk"
    command = [executable, "-c", CONFIG, "bench", "rtp", "--flavor", flavor, "--calls", calls]
    return System("voxtrunk", [*map(str, command)])


def pipecat(python: Path) -> System:
    """Pipecat, as peers/pipecat_media_streams.py runs it in the environment of `python`."""
    port = free_port()
    command = [python, HERE / "peers" / "pipecat_media_streams.py", "--port", port]
    return System("pipecat", [*map(str, command)], f"twilio:ws://127.0.0.1:{port}/ws")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def connect(address: str) -> Line:
    """Calls a system. Raises ValueError where `address` is none."""
    kind, _, rest = address.partition(":")
    match kind:
        case "twilio":
            return await MediaStream.open(rest)
        case "rtp":
            return Rtp(rest.partition(":")[0], port_of(address))
    raise ValueError(f"{address}: rtp:HOST:PORT or twilio:ws://HOST:PORT/PATH")


def port_of(address: str) -> int:
    """Of an address for RTP."""
    return int(address.rpartition(":")[2])


@contextmanager
def engines() -> Iterator[str]:
    """The engines in a process of their own; their URL."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.turns.engines", str(port)])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


async def answering(session: aiohttp.ClientSession, url: str) -> None:
    """Waits until the engines are there."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            with suppress(aiohttp.ClientError):
                async with session.get(f"{url}/v1/models") as response:
                    await response.read()
                    return
            await asyncio.sleep(0.1)


@asynccontextmanager
async def running(system: System, url: str, log: Path) -> AsyncIterator[tuple[int, list[str]]]:
    """Starts `system` on the engines at `url`; its process, and the addresses where it takes calls."""
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *system.command,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "ENGINES": url, "OPENAI_API_KEY": "stub"},
        )
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, process.pid, SYSTEM_NICE)
        try:
            yield process.pid, [system.address] if system.address else await _announced(process)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


async def _announced(process: asyncio.subprocess.Process) -> list[str]:
    assert process.stdout is not None
    async with asyncio.timeout(START_SECONDS):
        async for line in process.stdout:
            if line.startswith(b'{"ports": '):
                return [f"rtp:127.0.0.1:{port}" for port in json.loads(line)["ports"]]
    raise SystemExit("the system under test ended before it took calls; --log FILE keeps what it said")
