"""Recordings as a player reads them, whatever their format."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

FORMATS = ("wav", "flac", "opus")
LOSSLESS = ("wav", "flac")


class Played(NamedTuple):
    """What a player makes of a file: `samples` of shape (n, 2) at `rate` Hz; `stated`: seconds, as the file says."""

    samples: NDArray[np.int16]
    rate: int
    stated: float | None

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return len(self.samples) / self.rate

    def level(self, channel: int, start: float, end: float) -> float:
        """RMS of `channel` between two times (seconds)."""
        part = self.samples[round(start * self.rate) : round(end * self.rate), channel].astype(np.float64)
        return float(np.sqrt(np.mean(part**2)))


def played(path: Path) -> Played:
    """Plays `path` to its end with FFmpeg, which is no part of what wrote it but for the encoders. Blocking."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        resampler = av.AudioResampler(format="s16", layout="stereo", rate=stream.rate)
        pieces = [piece.to_ndarray() for frame in container.decode(stream) for piece in resampler.resample(frame)]
        samples = np.concatenate(pieces, axis=1) if pieces else np.empty((1, 0), np.int16)
        stated = None if container.duration is None else container.duration / av.time_base
        return Played(samples.reshape(-1, 2), stream.rate, stated)
