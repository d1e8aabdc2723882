"""The stereo recording of a call: caller left, agent right, both where they were on the wire."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connector.audio import Audio, Frame, Samples
from connector.codec.resample import resample
from connector.errors import RecordError
from connector.record.disk import Disk
from connector.record.wav import CHANNELS, WavFile

RATE = 8000
"""Sample rate of recordings, Hz: G.711's own."""

BLOCK = RATE * 2 // 5
"""Samples per write (0.4 s): a crash loses this and `MARGIN`, and what the disk still has to do."""

MARGIN = RATE // 5
"""How far one direction may lag behind the other (0.2 s) before its silence is taken as such."""

WINDOW = 2 * (BLOCK + MARGIN)
"""Samples kept before they are written."""

LIMIT = 150
"""Blocks (60 s) that may wait for the disk; later ones are dropped and leave silence."""

LEFT, RIGHT = 0, 1


class Track:
    """Where one direction's frames lie on the recording's time line.

    Frames follow one another by their media time, so that jitter of the network never cuts speech;
    where media time lies on the clock is the least delay seen, taken anew every `PERIOD` frames
    and applied when it is off by more than `SLIP` (clocks drift, senders pause).
    """

    PERIOD = 125
    SLIP = RATE * 3 // 50
    PAUSE = RATE

    def __init__(self) -> None:
        self.end = 0
        self._anchor: int | None = None
        self._least = 0
        self._count = 0

    def place(self, time: float, clock: float, length: int) -> int:
        """The position (samples) of a frame of media time `time` that the clock puts at `clock` (seconds)."""
        media = round(time * RATE)
        offset = round(clock * RATE) - media
        self._least = min(self._least, offset) if self._count else offset
        self._count = (self._count + 1) % self.PERIOD
        if self._anchor is None or not -self.SLIP <= offset - self._anchor <= self.PAUSE:
            self._anchor = offset
        elif self._count == 0 and abs(self._least - self._anchor) > self.SLIP:
            self._anchor = self._least
        position = self._anchor + media
        self.end = max(self.end, position + length)
        return position


class Recording:
    """An `AudioTap` that writes a stereo WAV of 8 kHz, 16 bit, through `disk`.

    Its time 0 is the clock time `start`. The tap itself only copies 20 ms into a window; full
    blocks go to the disk's thread. `on_error` is told on the event loop, once per cause, when the
    file cannot be written (any more) or has a gap: the call goes on and what was written stays.
    """

    def __init__(
        self, path: Path, *, start: float, disk: Disk, on_error: Callable[[RecordError], None], limit: int = LIMIT
    ) -> None:
        self._start = start
        self._disk = disk
        self._on_error = on_error
        self._limit = limit
        self._sink = _Sink(path)
        self._tracks = (Track(), Track())
        self._window: NDArray[np.int16] = np.zeros((WINDOW, CHANNELS), np.int16)
        self._base = 0
        self._posted = 0
        self._dropped = False
        self._failed = False
        self._closed = False

    @property
    def seconds(self) -> float:
        """Length so far."""
        return self._end / RATE

    @property
    def exists(self) -> bool:
        """Whether there is a file; certain once it is closed."""
        return self._sink.created

    def received(self, frame: Frame, at: float) -> None:
        self._put(LEFT, frame, at)

    def emitted(self, frame: Frame, at: float) -> None:
        self._put(RIGHT, frame, at)

    async def close(self) -> None:
        """Writes the rest and closes the file; what still comes is ignored."""
        self._advance(self._end)
        self._write(self._end - self._base)
        self._closed = True
        await self._disk.run(self._sink.close)
        self._report()

    @property
    def _end(self) -> int:
        return max(track.end for track in self._tracks)

    def _put(self, channel: int, frame: Frame, at: float) -> None:
        if self._closed:
            return
        samples = at_rate(frame)
        position = self._tracks[channel].place(frame.time, at - self._start, len(samples))
        self._advance(position + len(samples) - MARGIN)
        late = min(max(0, self._base - position), len(samples))
        begin = max(0, position - self._base)
        self._window[begin : begin + len(samples) - late, channel] = samples[late:]

    def _advance(self, until: int) -> None:
        """Writes whole blocks up to sample `until`."""
        while until - self._base >= BLOCK:
            if until - self._base > WINDOW and not self._window.any():
                self._base = until - BLOCK  # nobody sent for a while: the file's gap is silence
            self._write(BLOCK)

    def _write(self, length: int) -> None:
        if length > 0:
            self._post(self._base, self._window[:length].copy())
            self._window[:-length] = self._window[length:].copy()
            self._window[-length:] = 0
            self._base += length

    def _post(self, position: int, block: NDArray[np.int16]) -> None:
        self._report()
        if self._failed:
            return
        if self._posted - self._sink.done < self._limit:
            self._posted += 1
            self._disk.post(lambda: self._sink.write(position, block))
        elif not self._dropped:
            self._dropped = True
            self._on_error(RecordError(f"{self._sink.path}: the disk is too slow, parts of the recording are silent"))

    def _report(self) -> None:
        if self._sink.error is not None and not self._failed:
            self._failed = True
            self._on_error(RecordError(f"{self._sink.path}: {self._sink.error.strerror}"))


class _Sink:
    """The file as the disk's thread sees it; the event loop reads `created`, `done` and `error`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.created = False
        self.done = 0
        self.error: OSError | None = None
        self._file: WavFile | None = None

    def write(self, position: int, block: NDArray[np.int16]) -> None:
        try:
            if self._file is None and self.error is None:
                self._file = WavFile(self.path, RATE)
                self.created = True
            if self._file is not None and self.error is None:
                self._file.write(position, block)
        except OSError as error:
            self.error = error
        self.done += 1

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def at_rate(frame: Frame) -> Samples:
    """The frame's samples at the recording's rate."""
    return frame.samples if frame.rate == RATE else resample(Audio(frame.samples, frame.rate), RATE).samples
