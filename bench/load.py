"""Many calls at once: what they cost, and how evenly their packets leave.

    python -m bench.load [--flavor echo|stub] [--calls 50] [--seconds 20]

Opens legs of plain RTP (`voxtrunk bench rtp`) and calls each from a socket of its own, a packet each 20 ms; the
calls are spread evenly over these 20 ms. The flavor `stub` (bench/v2v/voxtrunk.yml) answers the questions that every
caller asks all the time, on engines that only take time and whose cost is not counted.

* pacing: |interval - 20 ms| between packets with consecutive sequence numbers, by the kernel's receive timestamps
  (SO_TIMESTAMPNS): how late this program reads them does not matter
* late: how late this program sent its own packets. A machine that keeps it waiting keeps the legs waiting too
* cpu: user and system time per call as a share of one core; `loop` is the event loop's thread alone
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from bench.v2v.__main__ import CALLER_NICE, answering, engines, system, voxtrunk
from bench.v2v.clips import FRAME, noise_frames, turn_clips
from bench.v2v.figures import cpu_seconds, memory_mb, percentile
from connector.audio import FRAME_SECONDS
from connector.codec.g711 import MuLaw

SO_TIMESTAMPNS = 35
"""Of asm-generic/socket.h; Python has no name for it."""

TONE_HERTZ = 400
QUESTIONS_SECONDS = 6.0
"""From the beginning of one question to the next."""


@dataclass
class Line:
    """One caller: what it says again and again, and what came back as (sequence number, kernel time)."""

    socket: socket.socket
    says: Sequence[bytes]
    ssrc: int
    sent: int = 0
    received: list[tuple[int, float]] = field(default_factory=list)

    def send(self) -> None:
        payload = self.says[self.sent % len(self.says)]
        header = struct.pack("!BBHII", 0x80, 0, self.sent & 0xFFFF, self.sent * FRAME & 0xFFFFFFFF, self.ssrc)
        self.sent += 1
        with suppress(ConnectionRefusedError):
            self.socket.send(header + payload)

    def read(self) -> None:
        with suppress(BlockingIOError):
            while True:
                data, ancillary, _, _ = self.socket.recvmsg(2048, 64)
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
                self.received.append((int.from_bytes(data[2:4], "big"), seconds + nanoseconds / 1e9))


def line(port: int, says: Sequence[bytes], ssrc: int) -> Line:
    connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    connection.setblocking(False)
    connection.bind(("127.0.0.1", 0))
    connection.connect(("127.0.0.1", port))
    return Line(connection, says, ssrc)


def talk(lines: Sequence[Line], seconds: float) -> list[float]:
    """Keeps all lines alive for `seconds`; returns how late each packet was sent."""
    late: list[float] = []
    readable = selectors.DefaultSelector()
    for caller in lines:
        readable.register(caller.socket, selectors.EVENT_READ, caller)
    step = FRAME_SECONDS / len(lines)
    begun = time.monotonic()
    for number in range(round(seconds / step)):
        due = begun + number * step
        while (left := due - time.monotonic()) > 0:
            for key, _ in readable.select(left):
                key.data.read()
        late.append(time.monotonic() - due)
        lines[number % len(lines)].send()
    readable.close()
    return late


def pacing(received: Sequence[tuple[int, float]]) -> list[float]:
    """Deviations of one line, milliseconds."""
    pairs = itertools.pairwise(received)
    return [abs(then - now - FRAME_SECONDS) * 1000 for (n, now), (m, then) in pairs if (m - n) & 0xFFFF == 1]


def lost(received: Sequence[tuple[int, float]]) -> int:
    """Sequence numbers that never came."""
    return sum(max(0, ((m - n) & 0xFFFF) - 1) for (n, _), (m, _) in itertools.pairwise(received))


def sayings(flavor: str, calls: int) -> list[Sequence[bytes]]:
    """What each caller says: an echo's the same tone, others questions, each caller from another one on."""
    if flavor == "echo":
        samples = np.rint(8000 * np.sin(2 * np.pi * TONE_HERTZ * np.arange(FRAME) / 8000)).astype(np.int16)
        return [[MuLaw().encode(samples)]] * calls
    frames = round(QUESTIONS_SECONDS / FRAME_SECONDS)
    questions = [[*clip.frames, *noise_frames()][:frames] for clip in turn_clips(0.35)]
    return [list(itertools.chain(*questions[call % 8 :], *questions[: call % 8])) for call in range(calls)]


def loop_seconds(process: int) -> float:
    """User and system time of the process's first thread, which runs the event loop."""
    fields = Path(f"/proc/{process}/task/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def run(options: argparse.Namespace) -> dict[str, Any]:
    says = sayings(options.flavor, options.calls)
    with engines() as url:
        async with aiohttp.ClientSession() as session:
            await answering(session, url)
        command = voxtrunk(options.flavor, options.calls)
        async with system(command, url, None, options.log) as (process, ports):
            lines = [line(port, what, number) for number, (port, what) in enumerate(zip(ports, says, strict=True))]
            with suppress(PermissionError):
                os.nice(CALLER_NICE)
            await asyncio.to_thread(talk, lines, options.settle)
            for caller in lines:
                caller.received.clear()
            began, cpu, loop = time.monotonic(), cpu_seconds(process), loop_seconds(process)
            late = await asyncio.to_thread(talk, lines, options.seconds)
            seconds = time.monotonic() - began
            used, looped = cpu_seconds(process) - cpu, loop_seconds(process) - loop
            memory = memory_mb(process)
    deviations = [deviation for caller in lines for deviation in pacing(caller.received)]
    return {
        "flavor": options.flavor,
        "calls": options.calls,
        "packets": sum(len(caller.received) for caller in lines),
        "lost": sum(lost(caller.received) for caller in lines),
        "pacing_ms": {f"p{p:g}": percentile(deviations, p, digits=3) for p in (50, 99, 99.9, 100)},
        "late_ms": {f"p{p:g}": percentile([1000 * value for value in late], p, digits=3) for p in (50, 99, 99.9, 100)},
        "cpu_percent_per_call": {
            "loop": round(100 * looped / seconds / options.calls, 3),
            "all": round(100 * used / seconds / options.calls, 3),
        },
        "memory_mb": round(memory),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="Measure many calls at once.")
    parser.add_argument("--flavor", default="echo", help="echo, or one of bench/v2v/voxtrunk.yml")
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--settle", type=float, default=3.0, help="seconds of calls before it is measured")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), metavar="FILE", help="what the system says")
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
