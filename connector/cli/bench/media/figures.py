"""The figures of a run: what is told of each, as dataclasses that make the JSON."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connector.cli.bench.media.processes import Usage
from connector.cli.bench.media.voices import Heard

GROWTH_TOLERANCE = 1.1
"""Cost per call may be this much more at the next larger number of calls before it counts as growing."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How values lie, milliseconds; None where there are none."""

    p50: float | None
    p99: float | None
    p999: float | None
    max: float | None

    @classmethod
    def of(cls, values: NDArray[np.float64] | Sequence[float]) -> Spread:
        """Of `values`, milliseconds."""
        if not len(values):
            return cls(None, None, None, None)
        return cls(*(round(float(value), 3) for value in np.percentile(values, (50, 99, 99.9, 100))))


@dataclass(frozen=True, slots=True)
class Audio:
    """Whose audio the callers heard.

    `windows`: half seconds, by tone. `packets`: one by one, for codecs without memory: `own`, `other`, `silent`,
    `altered` (concealed, faded or stretched: nobody's own payload). `deaf`: calls without any own window.
    """

    windows: Heard
    packets: Mapping[str, int]
    deaf: int


@dataclass(frozen=True, slots=True)
class Line:
    """What the generator saw, all calls together.

    `pacing`: |interval - 20 ms| of consecutive packets by the kernel's receive timestamps; `pacing_subtracted`: the
    interval less that between the generator's own packets, which an echo returns. `late`: how late the generator sent,
    against its schedule; `late_share`: packets sent more than 1 ms late. `round_trip`: from a packet's sending to its
    audio's return. Counts of packets: `sent`, `received`, of these `lost` on the way here, and `disordered`.
    """

    pacing: Spread
    pacing_subtracted: Spread
    late: Spread
    late_share: float
    round_trip: Spread
    sent: int
    received: int
    lost: int
    disordered: int
    audio: Audio

    @classmethod
    def of_json(cls, text: str) -> Line:
        """What the generator printed."""
        made = json.loads(text)
        for name in ("pacing", "pacing_subtracted", "late", "round_trip"):
            made[name] = Spread(**made[name])
        audio = made["audio"]
        made["audio"] = Audio(Heard(**audio["windows"]), audio["packets"], audio["deaf"])
        return cls(**made)


@dataclass(frozen=True, slots=True)
class ThreadShare:
    """One thread, or all with the same `role`: what it `ran`, and `waited` for a core, as percent of one core."""

    role: str
    ran: float
    waited: float


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of a process, its threads and its children over the measured window.

    `per_call`: percent of a core, `user` and `system` likewise (in steps of the kernel's tick). `threads`: percent of a
    core for all calls, the busiest first. `elsewhere`: percent of a core that other programs of the machine used.
    """

    per_call: float
    user: float
    system: float
    threads: Sequence[ThreadShare]
    elsewhere: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory, MiB: before there was a call, during the calls, after their end; KiB that each call took."""

    before: float
    during: float
    after: float
    per_call_kib: float


@dataclass(frozen=True, slots=True)
class Step:
    """One number of calls, measured."""

    calls: int
    seconds: float
    cost: Cost
    line: Line
    memory: Memory
    recordings: Mapping[str, Any] | None
    """`files`, and whose audio is in their channels (`caller`, `agent`: windows as in `Audio`); None: not recorded."""
    connector: Mapping[str, Any]
    """What it told of itself: the legs' counters summed, its VAD, skipped ticks."""
    disturbance: Mapping[str, Any] | None = None
    """What went on meanwhile: its name, how often it was done, what it took."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An echo, measured the same way; `problem`: why it was not."""

    name: str
    problem: str = ""
    cost: Cost | None = None
    line: Line | None = None
    ratio: float | None = None
    """Our CPU per call by its."""


@dataclass(frozen=True, slots=True)
class Residue:
    """What a connector holds between calls."""

    memory_kib: int
    files: int
    threads: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Churn:
    """Many short calls: what they left behind. `kib_per_call`: of the second half, median of its fifths."""

    calls: int
    seconds: float
    before: Residue
    halfway: Residue
    after: Residue
    kib_per_call: float


@dataclass(frozen=True, slots=True)
class Limit:
    """What was promised, and what was measured; `measured` None: not measured."""

    name: str
    limit: float
    measured: float | None

    @property
    def met(self) -> bool:
        """True where it was kept, or could not be measured."""
        return self.measured is None or self.measured <= self.limit


@dataclass(frozen=True, slots=True)
class Report:
    """Everything."""

    machine: Mapping[str, Any]
    setting: Mapping[str, Any]
    method: Mapping[str, str]
    steps: Sequence[Step]
    disturbed: Sequence[Step]
    peers: Sequence[Peer]
    churn: Churn | None
    limits: Sequence[Limit]
    notes: Sequence[str] = field(default_factory=tuple)
    """What could not be done as it should: no core to pin to, no compiler, no model."""

    @property
    def ok(self) -> bool:
        """Whether every limit was kept."""
        return all(limit.met for limit in self.limits)

    def as_json(self) -> dict[str, Any]:
        """One object."""
        limits = [{**asdict(limit), "met": limit.met} for limit in self.limits]
        return {"ok": self.ok, **asdict(self), "limits": limits}


def cost(
    before: Usage, after: Usage, calls: int, roles: Mapping[int, str], foreign: int | None, elsewhere: float
) -> Cost:
    """What was used from `before` to `after`.

    `roles`: what threads are for, by number. `foreign`: a core whose threads do not count, for they are the disturbance
    and not the calls'. `elsewhere`: seconds that other programs computed meanwhile.
    """
    seconds = after.at - before.at
    shares: dict[str, list[float]] = {}
    total = 0.0
    for number, thread in after.threads.items():
        began = before.threads.get(number)
        ran = thread.ran - (began.ran if began else 0.0)
        role = roles.get(number, f"native ({thread.name})")
        if foreign is not None and thread.cores == {foreign}:
            role = "disturbance"
        else:
            total += ran
        share = shares.setdefault(role, [0.0, 0.0])
        share[0] += ran
        share[1] += thread.waited - (began.waited if began else 0.0)
    threads = [
        ThreadShare(role, _percent(ran, seconds), _percent(waited, seconds)) for role, (ran, waited) in shares.items()
    ]
    return Cost(
        per_call=_percent(total, seconds * calls, 4),
        user=_percent(after.user - before.user, seconds * calls, 4),
        system=_percent(after.system - before.system, seconds * calls, 4),
        threads=sorted(threads, key=lambda share: -share.ran),
        elsewhere=_percent(max(0.0, elsewhere), seconds),
    )


def _percent(part: float, whole: float, digits: int = 2) -> float:
    return round(100 * part / whole, digits)


def growth(steps: Sequence[Step]) -> float | None:
    """The worst of: cost per call at a number of calls, by that at the next smaller one; None for one number."""
    ordered = sorted(steps, key=lambda step: step.calls)
    pairs = itertools.pairwise(ordered)
    ratios = [more.cost.per_call / fewer.cost.per_call for fewer, more in pairs if fewer.cost.per_call]
    return round(max(ratios), 3) if ratios else None
