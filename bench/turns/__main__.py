"""The referee: how a system takes turns on the telephone, when its engines only take time.

    python -m bench.turns                                 voxtrunk, as bench/turns/voxtrunk.yml configures it
    python -m bench.turns --peers --pipecat-python PYTHON and Pipecat, in the same run
    python -m bench.turns --command "..." --address rtp:127.0.0.1:40000   any other system

See README.md for the scripts and for what each figure means. Exit status 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

import aiohttp

from bench.turns import figures
from bench.turns.clips import FIRST, INTERRUPTION, TURNS, Speaker, Utterance, read_utterances
from bench.turns.limits import judged, missed, table
from bench.turns.manners import (
    AGENT,
    backchannel_clips,
    backchannels,
    echo_paths,
    echoes,
    interruption_clips,
    interruptions,
)
from bench.turns.phone import Caller, now
from bench.turns.scripts import Control, barge_in, turn_clips, turns
from bench.turns.systems import CALLER_NICE, System, answering, connect, engines, pipecat, running, voxtrunk

REFEREE = "turns,turns:1.0,turns:0.7,barge:6"
MANNERS = "echo:10,echo-of-tones:4,backchannels:20,interruptions:10"

BETWEEN_CALLS_SECONDS = 3.0
"""Until a system has noticed that a call is over."""

Script = Callable[[Caller, Control], Awaitable[Sequence[figures.Outcome]]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.turns", description="Measure turn-taking.")
    parser.add_argument("--scripts", default=f"{REFEREE},{MANNERS}", help="comma list (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=1, help="times that all scripts are run")
    parser.add_argument("--utterances", type=Path, metavar="FILE", help="say these: [[name, [part, ...]], ...]")
    parser.add_argument("--voice", default=Speaker.voice, help="the caller's, program:voice (default: %(default)s)")
    parser.add_argument(
        "--noise", type=float, default=Speaker.noise_dbfs, help="of the line, dBFS (default: %(default)s)"
    )
    parser.add_argument("--peers", action="store_true", help="run Pipecat's defaults as well")
    parser.add_argument("--pipecat-python", type=Path, default=Path("python"), help="of the environment that has it")
    parser.add_argument("--flavor", default="v2v", help="of bench/turns/voxtrunk.yml (default: %(default)s)")
    parser.add_argument("--command", help="another system instead; ENGINES holds the engines' URL")
    parser.add_argument("--address", help="where that takes calls: rtp:HOST:PORT or twilio:ws://HOST:PORT/PATH")
    parser.add_argument("--settle", type=float, default=2.0, help="seconds of line noise before a script begins")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every single figure there")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), metavar="FILE", help="what the systems say")
    options = parser.parse_args()
    systems = (
        [System("other", shlex.split(options.command), options.address)]
        if options.command
        else [voxtrunk(options.flavor)]
    )
    if options.peers:
        systems.append(pipecat(options.pipecat_python))
    speaker = Speaker(options.voice, options.noise)
    utterances = read_utterances(options.utterances) if options.utterances else TURNS
    scripts = {text: script_of(text, speaker, utterances) for text in options.scripts.split(",")}
    with suppress(PermissionError):
        os.nice(CALLER_NICE)
    calls = asyncio.run(run(systems, list(scripts.items()) * options.repeat, speaker, options.settle, options.log))
    summaries = {name: figures.summary(taken) for name, taken in calls.items()}
    if options.json:
        kept = {name: {"summary": summaries[name], "calls": figures.as_json(calls[name])} for name in calls}
        options.json.write_text(json.dumps(kept, indent=1))
    print(table(summaries))
    sys.exit(bool(missed(judged(summaries[systems[0].name]))))


async def run(
    systems: Sequence[System],
    scripts: Sequence[tuple[str, Script]],
    speaker: Speaker,
    settle: float,
    log: Path,
) -> dict[str, list[figures.Call]]:
    """Every system's calls: script by script, one system after the other, each with engines of its own."""
    calls: dict[str, list[figures.Call]] = {system.name: [] for system in systems}
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        ready = []
        for system in systems:
            url = stack.enter_context(engines())
            await answering(session, url)
            process, [address] = await stack.enter_async_context(running(system, url, log))
            ready.append((system.name, process, address, Control(session, url)))
        for text, script in scripts:
            for name, process, address, control in ready:
                await control.speech()
                calls[name].append(await call(script, text, address, control, process, speaker, settle))
                print(f"{name} {text} at a load of {os.getloadavg()[0]:.1f}: {calls[name][-1]}", file=sys.stderr)
            await asyncio.sleep(BETWEEN_CALLS_SECONDS)
    return calls


def script_of(text: str, speaker: Speaker, utterances: Sequence[Utterance]) -> Script:
    """`turns[:PAUSE]`, or another `SCRIPT:COUNT`, with all that is said made beforehand. Raises ValueError."""
    kind, _, argument = text.partition(":")
    question = speaker.says(FIRST)
    match kind:
        case "turns":
            return partial(turns, clips=turn_clips(speaker, utterances, float(argument) if argument else None))
        case "barge":
            interruption = speaker.says(INTERRUPTION)
            return partial(barge_in, question=question, interruption=interruption, count=int(argument))
        case "echo" | "echo-of-tones":
            voice = AGENT if kind == "echo" else None
            return partial(echoes, question=question, paths=echo_paths(int(argument)), voice=voice)
        case "backchannels":
            return partial(backchannels, question=question, sounds=backchannel_clips(speaker, int(argument)))
        case "interruptions":
            return partial(interruptions, question=question, clips=interruption_clips(speaker, int(argument)))
    raise ValueError(f"{text}: no such script")


async def call(
    script: Script, name: str, address: str, control: Control, process: int, speaker: Speaker, settle: float
) -> figures.Call:
    """One call to `address`, a port of `process`, that runs `script`."""
    line = await connect(address)
    caller = Caller(line, speaker, control.part)
    try:
        async with asyncio.TaskGroup() as tasks:
            clock = tasks.create_task(caller.run())
            await asyncio.sleep(settle)
            await caller.wait_quiet(0.7, 15)  # the greeting, if any
            began, cpu = now(), figures.cpu_seconds(process)
            outcomes = await script(caller, control)
            seconds, used = now() - began, figures.cpu_seconds(process) - cpu
            clock.cancel()
    finally:
        await line.close()
    return figures.Call(
        script=name,
        seconds=seconds,
        cpu_seconds=used,
        memory_mb=figures.memory_mb(process),
        pacing=figures.pacing(caller.packets),
        late=figures.percentile([1000 * late for late in caller.late], 99, digits=2) or 0.0,
        outcomes=outcomes,
    )


if __name__ == "__main__":
    main()
