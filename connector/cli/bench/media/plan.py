"""What the generator is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """How many calls, in which codec. Seconds: `settle` before the measured window, and the window itself."""

    calls: int
    settle: float
    seconds: float
    codec: str
