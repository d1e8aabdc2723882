"""What a recording is written to, whatever its format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from connector.record.disk import make_folder

CHANNELS = 2
"""Caller left, agent right."""

GRAIN = 10
"""Files grow by multiples of a second's GRAINth part (0.1 s)."""

Block = NDArray[np.int16]
"""Stereo PCM, shape (n, 2), C-contiguous."""


class AudioFile(Protocol):
    """A new stereo file that a crash leaves playable up to its last `write`. Blocking; all methods raise `OSError`."""

    def write(self, position: int, block: Block) -> None:
        """Writes `block` at `position` samples from the start, not before the end; a gap before it is silence.

        `position` is a multiple of rate / `GRAIN`, and so is the length of every block but the last.
        """

    def close(self) -> None:
        """Ends the file; after a failed write it stays as it was before."""


class NewFile:
    """A file at `path` that was not there before, for the process's user and group alone.

    What is put is written whole or not at all, and nothing after it: a full disk leaves no torn end.
    With `sync`, what was put is on the disk itself once `sync` returns. Blocking; every method raises `OSError`.
    """

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        make_folder(path.parent)
        self._sync = sync
        self._size = 0
        self._error: OSError | None = None
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        if sync:
            sync_folder(path.parent)

    def put(self, data: bytes | memoryview, offset: int) -> None:
        """Writes `data` at `offset` bytes from the start."""
        if self._error is not None:
            raise self._error
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._file, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            self._error = error
            os.ftruncate(self._file, self._size)
            raise
        self._size = max(self._size, offset)

    def append(self, data: bytes) -> None:
        """Writes `data` at the end."""
        self.put(data, self._size)

    def sync(self) -> None:
        """Waits for the disk where that was asked for."""
        if self._sync:
            os.fdatasync(self._file)

    def close(self) -> None:
        """Closes it."""
        os.close(self._file)


def silence_of(samples: int, rate: int) -> Iterator[Block]:
    """`samples` of silence, in pieces of at most a second."""
    for begin in range(0, samples, rate):
        yield np.zeros((min(rate, samples - begin), CHANNELS), np.int16)


def sync_folder(folder: Path) -> None:
    """Has the names in `folder` outlast a power cut. Raises `OSError`."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
