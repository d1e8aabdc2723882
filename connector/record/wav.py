"""A stereo WAV that is valid after every write (RIFF, PCM 16 bit)."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connector.record.disk import make_folder

CHANNELS = 2
SAMPLE_BYTES = 2
HEADER_BYTES = 44
FRAME_BYTES = CHANNELS * SAMPLE_BYTES


class WavFile:
    """A new file at `path`; `rate` in Hz. Blocking: use it off the event loop. All methods raise `OSError`.

    After each `write` the header tells the true length, so that a crash costs only what was not yet written.
    """

    def __init__(self, path: Path, rate: int) -> None:
        make_folder(path.parent)
        self._rate = rate
        self._frames = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._put(self._header(), 0)

    def write(self, position: int, block: NDArray[np.int16]) -> None:
        """Writes `block`, shape (n, 2), at `position` frames from the start; a gap before it is silence."""
        self._put(block.astype("<i2").tobytes(), HEADER_BYTES + position * FRAME_BYTES)
        self._frames = max(self._frames, position + len(block))
        self._put(self._header(), 0)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _put(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, offset)
            view, offset = view[written:], offset + written

    def _header(self) -> bytes:
        return header(self._rate, self._frames)


def header(rate: int, frames: int) -> bytes:
    """The first `HEADER_BYTES` of a file with `frames` frames."""
    length = frames * FRAME_BYTES
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        HEADER_BYTES - 8 + length,
        b"WAVE",
        b"fmt ",
        16,
        1,
        CHANNELS,
        rate,
        rate * FRAME_BYTES,
        FRAME_BYTES,
        8 * SAMPLE_BYTES,
        b"data",
        length,
    )


def repair(path: Path, rate: int) -> None:
    """Makes a file whose writer was killed between data and header tell its true length. Raises `OSError`."""
    frames = max(0, path.stat().st_size - HEADER_BYTES) // FRAME_BYTES
    with path.open("r+b") as file:
        file.write(header(rate, frames))
        file.truncate(HEADER_BYTES + frames * FRAME_BYTES)
