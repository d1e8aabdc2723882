"""What the receive path costs a call per 20 ms: a packet put in, a frame taken out, decoded.

    python -m bench.receive [--packets 20000] [--json]

Best and median of runs of 100 packets: other work on the machine shows in the median alone. Nothing is read from a
socket and nothing is parsed here; that, too, is in the figures of `voxtrunk bench media`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from connector.audio import FRAME_SECONDS
from connector.codec.registry import CODECS, make_codec, spoken
from connector.receiver.path import ReceivePath
from connector.rtp.packet import RtpPacket
from connector.rtp.session import PayloadKind, RtpSession

RUN = 100
"""Packets timed together: two seconds of a call."""
PHASE = 0.01
"""From a packet's arrival to the tick, seconds."""


class Line(NamedTuple):
    """What happens on the way. `loss`: share of packets; `jitter`: seconds."""

    loss: float = 0.0
    jitter: float = 0.0

    def __str__(self) -> str:
        return f"loss {self.loss:.0%}, jitter {1000 * self.jitter:.0f} ms"


LINES = (Line(), Line(jitter=0.04), Line(loss=0.05), Line(loss=0.05, jitter=0.04), Line(loss=1.0))


class Cost(NamedTuple):
    """µs per 20 ms of one call."""

    best: float
    median: float


def payloads(name: str) -> Sequence[bytes]:
    """Ten seconds of a voice-like tone in a codec."""
    codec = make_codec(name)
    frame = round(codec.rate * FRAME_SECONDS)
    times = np.arange(500 * frame) / codec.rate
    phase = 2 * np.pi * (140 * times + 5 * np.sin(4 * times))
    samples = (5000 * (np.sin(phase) + 0.5 * np.sin(3 * phase))).astype(np.int16)
    return [codec.encode(part) for part in np.split(samples, 500)]


def measure(name: str, line: Line, packets: int) -> Cost:
    """The cost of `packets` packets of a codec over a line."""
    draw = random.Random(1)
    codec = make_codec(name)
    step = round(codec.clock_rate * FRAME_SECONDS)
    sounds = payloads(name)
    path = ReceivePath(RtpSession(codec.clock_rate, {0: PayloadKind.AUDIO}), codec)
    arrivals = sorted(
        (index * FRAME_SECONDS + draw.uniform(0, line.jitter), index)
        for index in range(packets)
        if draw.random() >= line.loss
    )
    following = 0
    costs = []
    for begin in range(0, packets - RUN, RUN):
        ticks = []
        for tick in range(begin, begin + RUN):
            now = tick * FRAME_SECONDS + PHASE
            arrived = []
            while following < len(arrivals) and arrivals[following][0] <= now:
                at, index = arrivals[following]
                arrived.append((RtpPacket(0, index & 0xFFFF, index * step, 1, sounds[index % len(sounds)]), at))
                following += 1
            ticks.append((now, arrived))
        started = time.perf_counter()
        for now, arrived in ticks:
            for packet, at in arrived:
                path.push(packet, at)
            path.pull(now)
            path.tick()
        costs.append((time.perf_counter() - started) / RUN * 1e6)
    return Cost(min(costs), statistics.median(costs))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the receive path costs per 20 ms of a call.")
    parser.add_argument("--packets", type=int, default=20_000, help="per line (default: 20000)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    names = [codec.name for codec in spoken(CODECS)]
    results = {name: {str(line): measure(name, line, options.packets) for line in LINES} for name in names}
    if options.json:
        print(
            json.dumps(
                {name: {line: cost._asdict() for line, cost in costs.items()} for name, costs in results.items()}
            )
        )
        return
    for name, costs in results.items():
        for line, cost in costs.items():
            print(f"{name:5} {line:25} {cost.best:6.1f} µs best {cost.median:7.1f} µs median")


if __name__ == "__main__":
    main()
