"""Conversations at once: what they cost, and how evenly their packets leave.

    python -m bench.load [--calls 20] [--seconds 20]

Opens legs of plain RTP (`voxtrunk bench rtp`) with the flavor `v2v` (bench/turns/voxtrunk.yml), which answers the
questions that every caller asks all the time, on engines that only take time and whose cost is not counted. The
callers are those of `voxtrunk bench media`, which measures the media path without a conversation, and tells what its
figures mean.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from bench.turns.clips import TURNS, Speaker
from bench.turns.scripts import turn_clips
from bench.turns.systems import CALLER_NICE, answering, engines, port_of, running, voxtrunk
from connector.audio import FRAME_SECONDS
from connector.cli.bench.media.figures import Spread, cost
from connector.cli.bench.media.generator import Received, callers, talk
from connector.cli.bench.media.plan import Plan
from connector.cli.bench.media.processes import Usage, resident_kib, usage

QUESTIONS_SECONDS = 6.0
"""From the beginning of one question to the next."""


def sayings(calls: int) -> list[Sequence[bytes]]:
    """What each caller asks again and again, each from another question on."""
    frames = round(QUESTIONS_SECONDS / FRAME_SECONDS)
    speaker = Speaker()
    questions = [[*clip.frames, *speaker.silence()][:frames] for clip in turn_clips(speaker, TURNS, None)]
    return [list(itertools.chain(*questions[call % 8 :], *questions[: call % 8])) for call in range(calls)]


async def run(options: argparse.Namespace) -> dict[str, Any]:
    with engines() as url:
        async with aiohttp.ClientSession() as session:
            await answering(session, url)
        async with running(voxtrunk("v2v", options.calls), url, options.log) as (process, addresses):
            plan = Plan(options.calls, options.settle, options.seconds, "PCMU")
            calling = callers(plan)
            for caller, address, says in zip(calling, addresses, sayings(options.calls), strict=True):
                caller.says = says
                caller.call(port_of(address))
            with suppress(PermissionError):
                os.nice(CALLER_NICE)
            usages: list[Usage] = []
            late, began, ended = await asyncio.to_thread(
                talk, calling, plan, lambda word: usages.append(usage(process))
            )
            memory = resident_kib(process)
    received = [Received.of(caller, began, ended) for caller in calling]
    used = cost(usages[0], usages[1], options.calls, {process: "loop"}, None, 0.0)
    return {
        "calls": options.calls,
        "packets": sum(len(packets.at) for packets in received),
        "lost": sum(packets.lost for packets in received),
        "pacing_ms": asdict(Spread.of(np.concatenate([packets.deviations() for packets in received]))),
        "late_ms": asdict(Spread.of([1000 * seconds for seconds in late])),
        "cpu_percent_per_call": {
            "loop": round(sum(share.ran for share in used.threads if share.role == "loop") / options.calls, 3),
            "all": used.per_call,
        },
        "memory_mb": round(memory / 1024),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="Measure many conversations at once.")
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--settle", type=float, default=3.0, help="seconds of calls before it is measured")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), metavar="FILE", help="what the system says")
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
