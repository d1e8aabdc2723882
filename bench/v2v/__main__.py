"""The referee: how much silence a system leaves between caller and agent when its engines only take time.

    python -m bench.v2v                                       voxtrunk, as bench/v2v/voxtrunk.yml configures it
    python -m bench.v2v --name NAME --command "..." [--port N]  any other system that answers plain RTP

See README.md for the scripts and for what each figure means.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import aiohttp

from bench.v2v import figures
from bench.v2v.phone import Caller, Rtp, now
from bench.v2v.scripts import SHORT_PAUSE, Control, barge_clips, barge_in, turns, turns_script

HERE = Path(__file__).parent

ENGINES_NICE, CALLER_NICE, SYSTEM_NICE = -10, -10, -5
"""What keeps the machine's other work out of the figures, where the user may set it."""

START_SECONDS = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.v2v", description="Measure voice to voice.")
    parser.add_argument("--name", help="of the system in the table (default: the flavor's)")
    parser.add_argument("--flavor", default="stub", help="of bench/v2v/voxtrunk.yml")
    parser.add_argument("--command", help="another system; ENGINES holds the engines' URL")
    parser.add_argument("--port", type=int, help='its RTP port (default: it prints {"ports": [N]} as a line)')
    parser.add_argument("--scripts", default="turns,turns:1.0,barge:6", help="comma list (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=1, help="times that all scripts are run")
    parser.add_argument("--settle", type=float, default=2.0, help="seconds of line noise before a script begins")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every single figure there")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), metavar="FILE", help="what the system says")
    with suppress(PermissionError):
        os.nice(CALLER_NICE)
    asyncio.run(run(parser.parse_args()))


async def run(options: argparse.Namespace) -> None:
    command = shlex.split(options.command) if options.command else voxtrunk(options.flavor, calls=1)
    calls = []
    with engines() as url:
        async with aiohttp.ClientSession() as session:
            await answering(session, url)
            async with system(command, url, options.port, options.log) as (process, [port]):
                for _ in range(options.repeat):
                    for script in options.scripts.split(","):
                        calls.append(await call(script, Control(session, url), process, port, options.settle))
                        say(f"{script} at a load of {os.getloadavg()[0]:.1f}: {calls[-1]}")
                        await asyncio.sleep(3.0)  # until its end is noticed
    summary = figures.summary(options.name or options.flavor, calls)
    if options.json:
        options.json.write_text(json.dumps({"summary": summary, "calls": figures.as_json(calls)}))
    print(json.dumps(summary, indent=1), figures.table([summary]), sep="\n\n")


async def call(script: str, control: Control, process: int, port: int, settle: float) -> figures.Call:
    """One call that runs `script`: `turns[:PAUSE]` or `barge[:COUNT]`."""
    kind, _, argument = script.partition(":")
    pause = float(argument or SHORT_PAUSE) if kind == "turns" else None
    clips, barge = turns_script(pause or SHORT_PAUSE), barge_clips()
    rtp = Rtp(port)
    caller = Caller(rtp, control.part)
    try:
        async with asyncio.TaskGroup() as tasks:
            clock = tasks.create_task(caller.run())
            await asyncio.sleep(settle)
            await caller.wait_quiet(0.7, 15)  # the greeting, if any
            began, cpu = now(), figures.cpu_seconds(process)
            exchanges = await turns(caller, control, clips) if kind == "turns" else []
            interruptions = await barge_in(caller, control, barge, int(argument or 6)) if kind == "barge" else []
            seconds, used = now() - began, figures.cpu_seconds(process) - cpu
            clock.cancel()
    finally:
        rtp.close()
    return figures.Call(
        script=script,
        pause=pause,
        seconds=seconds,
        cpu_seconds=used,
        memory_mb=figures.memory_mb(process),
        pacing=figures.pacing(rtp.packets),
        late=figures.percentile([1000 * late for late in caller.late], 99, digits=2) or 0.0,
        exchanges=exchanges,
        interruptions=interruptions,
    )


@contextmanager
def engines() -> Iterator[str]:
    """The stub engines in a process of their own; their URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, HERE / "engines.py", str(port)])
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


def voxtrunk(flavor: str, calls: int) -> list[str]:
    """The command that takes `calls` calls with a flavor of voxtrunk.yml."""
    command = [Path(sys.executable).parent / "voxtrunk", "bench", "rtp", "-c", HERE / "voxtrunk.yml"]
    return [*map(str, command), "--flavor", flavor, "--calls", str(calls)]


@asynccontextmanager
async def system(command: list[str], url: str, port: int | None, log: Path) -> AsyncIterator[tuple[int, list[int]]]:
    """The system under test: its process, and the ports where it takes RTP."""
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "ENGINES": url, "OPENAI_API_KEY": "stub"},
        )
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, process.pid, SYSTEM_NICE)
        try:
            yield process.pid, [port] if port else await announced_ports(process)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


async def announced_ports(process: asyncio.subprocess.Process) -> list[int]:
    """What the line {"ports": [...]} tells that the system prints once it takes calls."""
    assert process.stdout is not None
    async with asyncio.timeout(START_SECONDS):
        async for line in process.stdout:
            if line.startswith(b'{"ports": '):
                ports: list[int] = json.loads(line)["ports"]
                return ports
    raise SystemExit("the system under test ended before it took calls; --log FILE keeps what it said")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
