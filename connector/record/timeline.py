"""Where both directions of a call lie on its recording's time line. Pure: frames in, stereo blocks out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from connector.audio import Frame, Samples
from connector.codec.resample import Resampler
from connector.record.audio_file import CHANNELS, GRAIN, Block

MARGIN_SECONDS = 0.3
"""How far one direction may lag behind the clock before it is taken for silent: more than a jitter buffer holds."""

WINDOW_GRAINS = 14
"""What is kept until it can be written (1.4 s): a block, the margin, and as much again for ticks that are late."""

LEFT, RIGHT = range(CHANNELS)

Tapped = tuple[Frame, float]
"""A frame, and the clock time of its arrival or emission."""


QUIET = 200
"""A frame that stays below this (-44 dBFS) may have a seam before it."""


class Track:
    """One direction's frames as samples of `rate` Hz, counted from clock time `start`.

    Frames follow one another by their media time, so that jitter of the network never cuts speech;
    where media time lies on the clock is the least delay seen, taken anew every `PERIOD` frames.
    Where that is off by more than `SLIP` seconds (clocks drift, a jitter buffer has shortened its delay) it
    is applied in the next frame that stays below `QUIET`, from twice as much on in any; at once where a
    frame comes `SLIP` too early or `PAUSE` seconds late (the sender paused).
    """

    PERIOD = 125
    SLIP = 0.06
    PAUSE = 1.0

    def __init__(self, rate: int, start: float) -> None:
        self.end = 0
        """Where a frame belongs that follows on the last one (samples)."""
        self._rate = rate
        self._start = start
        self._offset = math.inf
        self._origin = 0
        self._least = math.inf
        self._left = self.PERIOD
        self._better: float | None = None
        self._resampler = Resampler(rate, rate)
        self._next = 0

    def stretches(self, tapped: Sequence[Tapped]) -> Iterator[tuple[int, Samples]]:
        """What can be told of `tapped`, in stretches without a gap: position and samples."""
        run: list[Samples] = []
        for (samples, rate, time, _), clock in tapped:
            position = self._place(time, clock, samples)
            if position != self.end or rate != self._resampler.source:
                yield from self._converted(run)
                yield from self.rest()
                run.clear()
                self._resampler = Resampler(rate, self._rate)
                self._next = position
            run.append(samples)
            self.end = position + len(samples) * self._rate // rate
        yield from self._converted(run)

    def rest(self) -> Iterator[tuple[int, Samples]]:
        """What the resampler still holds; nothing follows on it."""
        yield from self._stretch(self._resampler.flush())

    def _place(self, time: float, clock: float, samples: Samples) -> int:
        """The position of a frame of media time `time` that the clock puts at `clock` (seconds)."""
        offset = clock - time
        if offset < self._least:
            self._least = offset
        self._left -= 1
        if not -self.SLIP <= offset - self._offset <= self.PAUSE:
            self._settle(offset)
        else:
            if not self._left:
                self._better = self._least if abs(self._least - self._offset) > self.SLIP else None
                self._left, self._least = self.PERIOD, math.inf
            if self._better is not None and (abs(self._better - self._offset) > 2 * self.SLIP or _quiet(samples)):
                self._settle(self._better)
        return self._origin + int(time * self._rate + 0.5)

    def _settle(self, offset: float) -> None:
        """From now on media time 0 lies at clock time `offset`."""
        self._offset = offset
        self._better = None
        self._origin = round((offset - self._start) * self._rate)
        self._left, self._least = self.PERIOD, math.inf

    def _converted(self, run: list[Samples]) -> Iterator[tuple[int, Samples]]:
        if run:
            yield from self._stretch(self._resampler.process(np.concatenate(run)))

    def _stretch(self, samples: Samples) -> Iterator[tuple[int, Samples]]:
        if len(samples):
            yield self._next, samples
            self._next += len(samples)


def _quiet(samples: Samples) -> bool:
    return bool(samples.min(initial=0) > -QUIET and samples.max(initial=0) < QUIET)


class Timeline:
    """Both directions beside each other, from clock time `start` on, at `rate` Hz.

    Blocks come in order, each once: position and samples, shape (n, 2), which are the consumer's until it asks for
    the next one. All but the very last begin and end at multiples of a grain. What lies between is silence.
    """

    def __init__(self, rate: int, start: float) -> None:
        self._rate = rate
        self._start = start
        self._grain = rate // GRAIN
        self._tracks = (Track(rate, start), Track(rate, start))
        self._window: Block = np.zeros((WINDOW_GRAINS * self._grain, CHANNELS), np.int16)
        self._longest = len(self._window) // 2
        self._base = 0

    def add(self, received: Sequence[Tapped], emitted: Sequence[Tapped], until: float) -> Iterator[tuple[int, Block]]:
        """Takes what passed until clock time `until`; what nothing can be added to any more comes out."""
        yield from self._put(self._tracks[LEFT].stretches(received), self._tracks[RIGHT].stretches(emitted))
        both = min(track.end for track in self._tracks)
        yield from self._until(max(both, round((until - self._start - MARGIN_SECONDS) * self._rate)))

    def rest(self) -> Iterator[tuple[int, Block]]:
        """All that is left, up to the last sample; nothing can be added after it."""
        yield from self._put(self._tracks[LEFT].rest(), self._tracks[RIGHT].rest())
        end = max(track.end for track in self._tracks)
        yield from self._until(end)
        if end > self._base:
            yield self._base, self._window[: end - self._base]

    def _put(self, *tracks: Iterator[tuple[int, Samples]]) -> Iterator[tuple[int, Block]]:
        """Writes into the window what `tracks` have; where it ends before, what is in it comes out first."""
        stretches = [(place, channel, piece) for channel, track in enumerate(tracks) for place, piece in track]
        for place, channel, samples in sorted(stretches, key=lambda stretch: stretch[0]):
            for begin in range(0, len(samples), self._longest):
                piece = samples[begin : begin + self._longest]
                position = place + begin
                yield from self._until(position + len(piece) + self._grain - len(self._window))
                late = min(max(0, self._base - position), len(piece))
                first = position + late - self._base
                self._window[first : first + len(piece) - late, channel] = piece[late:]

    def _until(self, position: int) -> Iterator[tuple[int, Block]]:
        """Empties the window up to the last grain that ends at `position` or before."""
        position -= position % self._grain
        window = self._window
        while self._base < position:
            if position - self._base > len(window) and not window.any():
                self._base = position - len(window)  # nobody sent for a while
            length = min(position - self._base, len(window))
            yield self._base, window[:length]
            window[:-length] = window[length:]
            window[-length:] = 0
            self._base += length
