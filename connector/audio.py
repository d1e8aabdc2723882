"""Audio as every layer passes it: mono, 16-bit signed samples in numpy arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]
"""Mono PCM, shape (n,), dtype int16, full scale ±32768."""

FRAME_SECONDS = 0.02
"""Duration of one frame and of one RTP packet (ptime 20 ms, RFC 3551 section 4.2)."""


class Audio(NamedTuple):
    """A stretch of mono PCM: `samples` of shape (n,) int16 at `rate` Hz."""

    samples: Samples
    rate: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.rate


class Frame(NamedTuple):
    """20 ms of what a party sent, in playing order, after concealment.

    `samples`: shape (rate * 0.02,) int16. `rate`: Hz, the codec's own. `time`: media time of the
    first sample, in seconds of audio since the stream began (it counts frames, not wall time).
    `concealed`: True where no packet arrived in time and the samples were made up.
    """

    samples: Samples
    rate: int
    time: float
    concealed: bool = False

    @property
    def end(self) -> float:
        """Media time just after the last sample, in seconds."""
        return self.time + len(self.samples) / self.rate
