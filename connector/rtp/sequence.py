"""Numbers that wrap on the wire, extended to ones that do not (RFC 3550 appendix A.1)."""

from __future__ import annotations

from typing import NamedTuple

MAX_DROPOUT = 3000
"""A jump forward of fewer packets than this is loss (one minute at 50 packets a second)."""
MAX_MISORDER = 100
"""A jump back of fewer packets than this is reordering."""


def extend(value: int, near: int, bits: int) -> int:
    """The number nearest to `near` whose low `bits` bits are `value`."""
    half = 1 << (bits - 1)
    return near + ((value - near + half) & ((1 << bits) - 1)) - half


class Numbered(NamedTuple):
    """A packet's extended sequence number; `restarted` where the sender began a new sequence with it."""

    sequence: int
    restarted: bool


class SequenceTracker:
    """Follows one sender's 16-bit sequence numbers across wraps, loss, reordering and restarts."""

    def __init__(self) -> None:
        self._highest: int | None = None
        self._expected_after_jump: int | None = None

    def update(self, sequence: int) -> Numbered | None:
        """Extends `sequence`, or returns None for a jump that a second packet has yet to confirm."""
        if self._highest is None:
            self._restart(sequence)
            return Numbered(sequence, True)
        if sequence == self._highest + 1 & 0xFFFF:  # as nearly always
            self._highest += 1
            self._expected_after_jump = None
            return Numbered(self._highest, False)
        extended = extend(sequence, self._highest, 16)
        if -MAX_MISORDER < extended - self._highest < MAX_DROPOUT:
            self._highest = max(self._highest, extended)
            self._expected_after_jump = None
            return Numbered(extended, False)
        if sequence == self._expected_after_jump:
            self._restart(sequence)
            return Numbered(sequence, True)
        self._expected_after_jump = (sequence + 1) & 0xFFFF
        return None

    def _restart(self, sequence: int) -> None:
        self._highest = sequence
        self._expected_after_jump = None
