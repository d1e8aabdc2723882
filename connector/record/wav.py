"""A stereo WAV that is valid after every write (RIFF, PCM 16 bit)."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from connector.record.audio_file import CHANNELS, Block, NewFile

SAMPLE_BYTES = 2
HEADER_BYTES = 44
FRAME_BYTES = CHANNELS * SAMPLE_BYTES
RATE_OFFSET = 24
"""Where the header has its sample rate (32 bits)."""
USUAL_RATE = 8000
"""Hz: of a file that was cut before its header was whole."""


class WavFile:
    """An `AudioFile` at `path`; `rate` in Hz.

    After each `write` the header tells the true length, so that a crash costs only what was not yet written.
    """

    def __init__(self, path: Path, rate: int, *, sync: bool = False) -> None:
        self._rate = rate
        self._frames = 0
        self._file = NewFile(path, sync=sync)
        self._file.put(header(rate, 0), 0)

    def write(self, position: int, block: Block) -> None:
        data = np.ascontiguousarray(block, "<i2").data.cast("B")
        self._file.put(data, HEADER_BYTES + position * FRAME_BYTES)
        self._frames = max(self._frames, position + len(block))
        self._file.put(header(self._rate, self._frames), 0)
        self._file.sync()

    def close(self) -> None:
        self._file.close()


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


def repair(path: Path) -> None:
    """Makes a file whose writer was killed between data and header tell its true length. Raises `OSError`."""
    with path.open("r+b") as file:
        start = file.read(HEADER_BYTES)
        rate = struct.unpack_from("<I", start, RATE_OFFSET)[0] if len(start) == HEADER_BYTES else USUAL_RATE
        frames = max(0, path.stat().st_size - HEADER_BYTES) // FRAME_BYTES
        file.seek(0)
        file.write(header(rate, frames))
        file.truncate(HEADER_BYTES + frames * FRAME_BYTES)
