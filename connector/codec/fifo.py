"""A queue of samples: written in pieces of any size, read in pieces of another."""

from __future__ import annotations

from collections import deque

import numpy as np

from connector.audio import Samples


class SampleFifo:
    """First in, first out; `len()` is the number of samples held."""

    def __init__(self) -> None:
        self._pieces: deque[Samples] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, samples: Samples) -> None:
        """Adds `samples` at the end; they are not copied."""
        if len(samples):
            self._pieces.append(samples)
            self._length += len(samples)

    def take(self, count: int) -> Samples:
        """Removes and returns the first `count` samples, or all where there are fewer."""
        taken = []
        missing = count = min(count, self._length)
        while missing:
            piece = self._pieces.popleft()
            if len(piece) > missing:
                self._pieces.appendleft(piece[missing:])
                piece = piece[:missing]
            taken.append(piece)
            missing -= len(piece)
        self._length -= count
        if len(taken) == 1:
            return taken[0]
        return np.concatenate(taken) if taken else np.empty(0, np.int16)

    def clear(self) -> None:
        """Forgets everything."""
        self._pieces.clear()
        self._length = 0
