"""The pool of UDP port pairs: RTP on an even port, RTCP on the next (RFC 3550 section 11)."""

from __future__ import annotations

from collections import deque

from connector.errors import MediaError

QUARANTINE_SECONDS = 10.0
"""A released pair rests this long, so that a new call does not inherit the packets of an old one."""


class PortPool:
    """Even ports of `first`..`last` (inclusive, each with the odd one above it), longest unused first."""

    def __init__(self, first: int, last: int, quarantine: float = QUARANTINE_SECONDS) -> None:
        self._range = f"{first}-{last}"
        self._quarantine = quarantine
        # (usable from, port), ordered by time: ports that never served come first.
        self._free = deque((float("-inf"), port) for port in range(first + first % 2, last, 2))
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
        if not self._free or self._free[0][0] > now:
            raise MediaError(f"no free RTP port in {self._range}: {self.size} pairs, all in use or just released")
        return self._free.popleft()[1]

    def release(self, port: int, now: float) -> None:
        """Gives back a pair that served; it rests before it is used again."""
        self._free.append((now + self._quarantine, port))
