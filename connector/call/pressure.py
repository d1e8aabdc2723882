"""Is the process keeping up? Measured where callers notice: at the tick that sends their audio."""

from __future__ import annotations

from connector.audio import FRAME_SECONDS

TOO_LATE = 0.25
"""Seconds: by then the far ends' jitter buffers have run dry, and one more call makes it worse for all."""

HALF_LIFE = 0.5
"""Seconds in which a late tick counts half as much."""

_FADING = 0.5 ** (FRAME_SECONDS / HALF_LIFE)


class Pressure:
    """The lateness of the ticker, its peaks fading away. Pure."""

    def __init__(self) -> None:
        self.late = 0.0
        """Seconds."""

    def ticked(self, late: float) -> None:
        """A tick ran, `late` seconds after it was due."""
        self.late = max(late, self.late * _FADING)

    @property
    def too_high(self) -> bool:
        """Whether no more calls should be taken."""
        return self.late > TOO_LATE
