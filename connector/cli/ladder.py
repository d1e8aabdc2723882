"""The SIP messages of a call, drawn as a ladder between the peer and us."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connector.cli.logs import printable
from connector.record import Step

US = "voxtrunk"
TIME = 9
"""Columns of the time."""
SHAFT = 4
"""Columns of an arrow's shaft, at least, besides its message."""


def ladder(steps: Sequence[Step], peer: str) -> Iterator[str]:
    """The ladder's lines, none without steps.

     time  192.0.2.1:5060          voxtrunk
    0.000     │─── INVITE ───────────▶│      PCMU sendrecv 192.0.2.1:41000
    0.001     │◀───────── 100 Trying ─│
    """
    if not steps:
        return
    peer = printable(peer) or "peer"
    messages = [printable(step.message) for step in steps]
    # An arrow is a blank on each side of its message, its head and its shaft.
    width = max(*(len(message) + SHAFT + 3 for message in messages), len(peer) // 2 + len(US) // 2 + 1)
    left, right = len(peer) // 2, len(US) - len(US) // 2 - 1
    between = width + 1 - (len(peer) - left - 1) - len(US) // 2
    yield f"{'time':>{TIME}}  {peer}{' ' * between}{US}"
    for step, message in zip(steps, messages, strict=True):
        shaft = "─" * (width - len(message) - 4)
        arrow = f"◀{shaft} {message} ─" if step.sent else f"─ {message} {shaft}▶"
        line = f"{step.at:>{TIME}.3f}  {' ' * left}│{arrow}│{' ' * right}  {printable(step.note)}"
        yield line.rstrip()
