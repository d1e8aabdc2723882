"""What becomes of packets on the way: loss and jitter, seeded, so that every system gets the very same packets."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from connector.audio import FRAME_SECONDS

BURST = 3.0
"""Mean length of a burst of lost packets."""
SHARE_WITHIN = 0.95
"""Share of the packets that the stated jitter holds for."""
LONGEST = 2.0
"""No packet is later than so many times the jitter."""


class Impairment(NamedTuple):
    """One row. `loss`: share of packets lost, in bursts where `bursty`. `jitter`: seconds."""

    loss: float = 0.0
    bursty: bool = False
    jitter: float = 0.0

    def __str__(self) -> str:
        kind = "bursty" if self.bursty else "random"
        loss = f"{100 * self.loss:g}% {kind}" if self.loss else "no loss"
        return f"{loss}, {1000 * self.jitter:.0f} ms" if self.jitter else loss


class Arrival(NamedTuple):
    """Packet number `packet` is there at `at`; it left at packet * 20 ms. Seconds."""

    at: float
    packet: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Packets in the order of their arrival. `ticks`: when frames are pulled, 20 ms apart, in a phase of its own."""

    arrivals: Sequence[Arrival]
    ticks: Sequence[float]
    count: int
    """Packets that left."""

    @property
    def phase(self) -> float:
        """Seconds from a packet's departure to the next tick."""
        return self.ticks[0]


def trace(impairment: Impairment, packets: int, seed: int) -> Trace:
    """`packets` packets under `impairment`.

    Random loss is Bernoulli's. Bursts are those of a Gilbert-Elliott channel that loses all in its bad state
    and nothing in its good one (Gilbert 1960), of three packets on average. Jitter J is an exponentially
    distributed delay of each packet on its own, below J for 95 % of them and never above 2 J; what it
    overtakes arrives out of order.
    """
    # A generator for each, so that rows which differ in loss alone jitter alike, and the other way round.
    losing, jittering = random.Random(f"loss {seed}"), random.Random(f"jitter {seed}")
    phase = random.Random(f"phase {seed}").uniform(0.0, FRAME_SECONDS)
    lost = bursts(losing, impairment.loss, BURST if impairment.bursty else None, packets)
    arrivals = sorted(
        Arrival(packet * FRAME_SECONDS + delay(jittering, impairment.jitter), packet) for packet in range(packets)
    )
    kept = [arrival for arrival in arrivals if not lost[arrival.packet]]
    return Trace(kept, [phase + slot * FRAME_SECONDS for slot in range(packets)], packets)


def bursts(draw: random.Random, loss: float, burst: float | None, packets: int) -> list[bool]:
    """Which packets are lost; `burst`: mean length in packets, None where each is lost on its own."""
    to_bad, to_good = (loss, 1.0 - loss) if burst is None else (loss / (burst * (1.0 - loss)), 1.0 / burst)
    lost, bad = [], draw.random() < loss
    for _ in range(packets):
        lost.append(bad)
        bad = draw.random() < (1.0 - to_good if bad else to_bad)
    return lost


def delay(draw: random.Random, jitter: float) -> float:
    """Of one packet beyond the fastest, seconds."""
    mean = jitter / -math.log(1.0 - SHARE_WITHIN)
    return min(LONGEST * jitter, draw.expovariate(1.0) * mean)
