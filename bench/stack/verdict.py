"""What the figures of a phase mean: did it go well, was something left behind, what was the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.stack.processes import Share

GENERATOR = "generator"
"""The component that makes calls and media: SIPp and this program."""

SLOWEST_ANSWER = 0.5
"""Seconds: T1 of RFC 3261. A caller who waits longer for a first answer sends the INVITE again."""
FULL = 0.9
"""Share of a core from which on a thread has no time left."""
BUSY = 0.05
"""Share of all CPUs' time: with less than this idle the machine has none left."""
DISTURBED = 0.25
"""Cores: where other programs use more, time that a thread waited says nothing about it."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """On one component's UDP sockets: most bytes that waited in one of them, datagrams dropped."""

    waiting: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Phase:
    """Figures of one stretch of load.

    `rate`: calls per second wanted; `calls` begun, `set_up`: of them answered and over in good order; `heard`: of
    them with the audio that they should have heard. `ringing`, `answered`: seconds from INVITE to 180 and to 200.
    `late_calls`, `late_packets`: seconds that the generator itself was late. `idle`: share of all CPUs' time;
    `others`: cores that programs used which have nothing to do with it.
    """

    rate: int
    seconds: float
    hold: float
    calls: int
    set_up: int
    heard: int
    retransmissions: int
    ringing: Sequence[float]
    answered: Sequence[float]
    late_calls: Sequence[float]
    late_packets: Sequence[float]
    shares: Sequence[Share]
    pressure: Mapping[str, Pressure] = field(default_factory=dict)
    idle: float = 1.0
    others: float = 0.0
    errors: str = ""


def slowest(phase: Phase) -> float:
    """95th percentile from INVITE to 200, seconds; 0 where no call was answered."""
    return float(np.percentile(phase.answered, 95)) if phase.answered else 0.0


def broke(phase: Phase) -> str:
    """Why the load of `phase` was too much, "" where it was carried."""
    if phase.set_up < phase.calls:
        return f"{phase.calls - phase.set_up} of {phase.calls} calls failed"
    if slowest(phase) > SLOWEST_ANSWER:
        return f"a call in twenty waited {slowest(phase) * 1000:.0f} ms or longer for its answer"
    return ""


def saturated(phase: Phase) -> tuple[str, str]:
    """The component that had no more to give, and the evidence; ("", evidence) where none shows.

    A thread that ran or wanted to run all the time counts, and so does a socket that lost datagrams. The generator
    is named where it was at its end itself: then nothing is said about the others.
    """
    disturbed = phase.others > DISTURBED
    asked = sorted(phase.shares, key=lambda share: -(share.ran if disturbed else share.ran + share.waited))
    full = [share for share in asked if share.ran + (0.0 if disturbed else share.waited) >= FULL]
    by_generator = [share for share in full if share.component == GENERATOR]
    if by_generator:
        return GENERATOR, f"{_busy(by_generator[0])}: what the others could do is not known"
    dropped = sorted(((one.dropped, name) for name, one in phase.pressure.items() if one.dropped), reverse=True)
    lost = f"; {dropped[0][0]} datagrams to {dropped[0][1]} were dropped" if dropped else ""
    if full:
        return full[0].component, _busy(full[0]) + lost
    if disturbed:
        return "", f"other programs used {phase.others:.1f} cores: measure again when they do not"
    if phase.idle < BUSY and asked:
        return asked[0].component, f"no CPU was left on the machine, {_busy(asked[0])}{lost}"
    if dropped:
        return dropped[0][1], f"its sockets dropped {dropped[0][0]} datagrams"
    return "", f"no thread was busy all the time{', ' + _busy(asked[0]) if asked else ''}"


def _busy(share: Share) -> str:
    """Such as `UA, SIP receiver: ran 71 % and waited 24 % of a core`."""
    return f"{share.component}, {share.name}: ran {share.ran:.0%} and waited {share.waited:.0%} of a core"


def left_behind(before: Mapping[str, int], after: Mapping[str, int], allowances: Mapping[str, int]) -> dict[str, int]:
    """What each counter of `before` has more now, by its name; those within their allowance are left out."""
    grown = {name: after.get(name, 0) - value for name, value in before.items()}
    return {name: more for name, more in grown.items() if more > allowances.get(name, 0)}
