"""The pool of UDP port pairs: RTP on an even port, RTCP on the next (RFC 3550 section 11)."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable

from connector.errors import MediaError

QUARANTINE_SECONDS = 10.0
"""A released pair rests this long, so that a new call does not inherit the packets of an old one."""


class PortPool:
    """Even ports of `first`..`last` (inclusive, each with the odd one above it), in no order that can be foretold.

    Who could tell the next call's port would have his packets there before the peer's (RFC 6056 section 3.3.2 on
    ports drawn at random). `draw(n)`: a number of `range(n)` that nobody can foretell.
    """

    def __init__(
        self,
        first: int,
        last: int,
        quarantine: float = QUARANTINE_SECONDS,
        draw: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self._range = f"{first}-{last}"
        self._quarantine = quarantine
        self._draw = draw
        self._free = list(range(first + first % 2, last, 2))
        # (usable from, port), ordered by time.
        self._resting: deque[tuple[float, int]] = deque()
        self.size = len(self._free)
        """Pairs in the pool, used or not."""
        if not self._free:
            raise MediaError(f"media ports {self._range}: no even port with the next one in this range")

    def __str__(self) -> str:
        return self._range

    @classmethod
    def from_range(cls, ports: str) -> PortPool:
        """The pool of a range as configured: `FIRST-LAST`."""
        first, last = ports.split("-")
        return cls(int(first), int(last))

    def acquire(self, now: float) -> int:
        """Takes the even port of a pair; raises `MediaError` where none is free and rested at time `now`."""
        free, resting = self._free, self._resting
        while resting and resting[0][0] <= now:
            free.append(resting.popleft()[1])
        if not free:
            raise MediaError(
                f"no free RTP port in {self._range}: {self.size - len(resting)} of {self.size} pairs serve calls, "
                f"{len(resting)} were just released"
            )
        chosen = self._draw(len(free))
        free[chosen], free[-1] = free[-1], free[chosen]
        return free.pop()

    def release(self, port: int, now: float) -> None:
        """Gives back a pair that served; it rests before it is used again."""
        self._resting.append((now + self._quarantine, port))
