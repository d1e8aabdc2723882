"""Playout: what has been handed over to be spoken, and how much of it was heard."""

from __future__ import annotations

from collections import deque

import numpy as np

from connector.audio import Audio, Samples
from connector.codec.fifo import SampleFifo
from connector.codec.resample import Resampler
from connector.interfaces import Position

FADE_SECONDS = 0.005
"""Speech that is cut off fades out over this time instead of clicking, and comes back so after a pause."""


class _Generation:
    """The speech of one generation: pieces of any rate, converted as they are needed.

    Converting late keeps `write` short, however long the text that a synthesiser spoke at once.
    """

    def __init__(self, number: int, rate: int) -> None:
        self.number = number
        self.finished = False
        self.emitted = 0
        self._rate = rate
        self._pieces: deque[Audio] = deque()
        self._resampler: Resampler | None = None
        self._ready = SampleFifo()

    def append(self, audio: Audio) -> None:
        if len(audio.samples):
            self._pieces.append(audio)

    def prepare(self, count: int) -> int:
        """Converts until `count` samples are ready, if there are so many; returns how many are."""
        while len(self._ready) < count and self._pieces:
            self._convert(self._pieces.popleft(), count - len(self._ready))
        if self.finished and not self._pieces and self._resampler is not None:
            self._ready.append(self._resampler.flush())
            self._resampler = None
        return len(self._ready)

    def take(self, count: int) -> Samples:
        """The next `count` ready samples, or all where there are fewer; they count as emitted."""
        samples = self._ready.take(count)
        self.emitted += len(samples)
        return samples

    @property
    def exhausted(self) -> bool:
        """Whether all of a finished generation was taken."""
        return self.finished and not self._pieces and self._resampler is None and not len(self._ready)

    def _convert(self, piece: Audio, wanted: int) -> None:
        if self._resampler is not None and self._resampler.source != piece.rate:
            self._ready.append(self._resampler.flush())
            self._resampler = None
        if self._resampler is None and piece.rate != self._rate:
            self._resampler = Resampler(piece.rate, self._rate)
        if self._resampler is None:
            self._ready.append(piece.samples)
            return
        enough = wanted * piece.rate // self._rate + 1
        if len(piece.samples) > enough:
            self._pieces.appendleft(Audio(piece.samples[enough:], piece.rate))
        self._ready.append(self._resampler.process(piece.samples[:enough]))


class Playout:
    """Speech of the current generation, pulled frame by frame; an older generation's is stale.

    `rate`: of what is pulled, Hz. Positions count the generation's own samples, not the padding of its last frame.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._current: _Generation | None = None
        self._lowest: int | None = None
        self._over: dict[int, Position] = {}
        self._paused = False
        self._sounding = False
        self._rising = False
        self._tail: Samples | None = None

    def __str__(self) -> str:
        return f"playout of generation {self.position.generation}{', paused' if self._paused else ''}"

    def write(self, generation: int, audio: Audio) -> None:
        """Appends speech of any rate; dropped where `generation` is stale."""
        current = self._enter(generation)
        if current is not None and not current.finished:
            current.append(audio)

    def finish(self, generation: int) -> None:
        """Nothing follows in `generation`: its last partial frame is padded and played."""
        current = self._enter(generation)
        if current is not None:
            current.finished = True
            current.prepare(0)
            self._settle(current)

    def pause(self) -> None:
        """Silence until `resume` or `clear`."""
        self._rising = self._rising or self._sounding
        self._cut()
        self._paused = True

    def resume(self) -> None:
        """Goes on where `pause` stopped."""
        self._paused = False

    def clear(self) -> Position:
        """Drops the rest of the current generation, which is stale from now on; returns what was heard of it."""
        self._paused = False
        self._abandon()
        if self._current is not None:
            self._lowest = self._current.number + 1
        return self.position

    @property
    def position(self) -> Position:
        """What was emitted of the current generation."""
        if self._current is None:
            return Position(0, 0.0)
        return Position(self._current.number, self._current.emitted / self._rate)

    def over(self, generation: int) -> Position | None:
        """What was heard of a generation that was emitted whole, cleared or superseded; None while it is not over."""
        if generation in self._over:
            return self._over[generation]
        stale = self._lowest is not None and generation < self._lowest
        return Position(generation, 0.0) if stale else None

    def pull(self, count: int) -> Samples | None:
        """The next `count` samples, or None for silence.

        A frame that a generation cannot fill yet waits, whole, until it can or the generation is finished.
        """
        if self._tail is not None:
            tail, self._tail = self._tail, None
            return _padded(tail, count)
        current = self._current
        self._sounding = False
        if self._paused or current is None or current.number in self._over:
            return None
        if current.prepare(count) < count and not current.finished:
            return None
        samples = current.take(count)
        self._sounding = True
        if self._rising:
            self._rising = False
            samples = self._faded_in(samples)
        self._settle(current)
        return _padded(samples, count)

    def _enter(self, generation: int) -> _Generation | None:
        """The current generation if it is `generation`, begun where it is a new one; None for a stale one."""
        if self._lowest is not None and generation < self._lowest:
            return None
        if self._current is None or generation > self._current.number:
            self._abandon()
            self._current = _Generation(generation, self._rate)
            self._lowest = generation
        return self._current

    def _abandon(self) -> None:
        self._rising = False
        if self._current is not None and self._current.number not in self._over:
            self._cut()
            self._over[self._current.number] = self.position

    def _cut(self) -> None:
        """Lets speech that is sounding fade out."""
        if self._current is None or not self._sounding:
            return
        self._sounding = False
        count = round(FADE_SECONDS * self._rate)
        self._current.prepare(count)
        rest = self._current.take(count)
        self._tail = np.rint(rest * np.linspace(1.0, 0.0, len(rest))).astype(np.int16)

    def _faded_in(self, samples: Samples) -> Samples:
        count = min(len(samples), round(FADE_SECONDS * self._rate))
        gains = np.ones(len(samples))
        gains[:count] = np.linspace(0.0, 1.0, count)
        return np.rint(samples * gains).astype(np.int16)

    def _settle(self, generation: _Generation) -> None:
        if generation.exhausted:
            self._over.setdefault(generation.number, self.position)


def _padded(samples: Samples, count: int) -> Samples:
    if len(samples) == count:
        return samples
    padded = np.zeros(count, np.int16)
    padded[: len(samples)] = samples
    return padded
