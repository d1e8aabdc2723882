"""Concealment of lost audio by repeating the last pitch period (in the spirit of ITU-T G.711 appendix I)."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from connector.audio import Samples

SHORTEST_PITCH = 0.005
LONGEST_PITCH = 0.015
"""Pitch periods searched for, seconds (66 to 200 Hz)."""
MATCH = 0.02
"""Stretch of the past that is compared with an earlier one to find the pitch, seconds."""
STEADY = 0.01
"""A loss is filled at full level so long, seconds."""
FADED = 0.06
"""A loss is silent from here on, seconds: a longer one is no longer a glitch in speech, it is the end of it."""
CROSSFADE = 0.005
"""What was made up is blended into the next good samples over this time, seconds."""


class Concealment:
    """Passes good samples through and makes up the lost ones. `rate`: Hz."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._needed = round((LONGEST_PITCH + MATCH) * rate)
        self._history: deque[Samples] = deque()
        self._held = 0
        self._cycle: NDArray[np.float64] = np.zeros(1)
        self._lost = 0

    def __str__(self) -> str:
        return "concealment"

    def good(self, samples: Samples) -> Samples:
        """Takes samples that arrived, and returns them, blended with what was made up before them."""
        self._remember(samples)
        if not self._lost:
            return samples
        count = min(round(CROSSFADE * self._rate), len(samples))
        rise = np.arange(count) / count
        blended = samples.copy()
        blended[:count] = np.rint(samples[:count] * rise + self._made_up(count) * (1 - rise))
        self._lost = 0
        return blended

    def conceal(self, count: int) -> Samples:
        """Makes up `count` samples: the last pitch period again and again, fading into silence."""
        if self._lost >= FADED * self._rate:
            return np.zeros(count, np.int16)
        if not self._lost:
            self._cycle = self._last_period()
        samples = np.rint(self._made_up(count)).astype(np.int16)
        self._lost += count
        return samples

    def _remember(self, samples: Samples) -> None:
        self._history.append(samples)
        self._held += len(samples)
        while self._held - len(self._history[0]) >= self._needed:
            self._held -= len(self._history.popleft())

    def _made_up(self, count: int) -> NDArray[np.float64]:
        places = self._lost + np.arange(count)
        gain = (FADED - places / self._rate) / (FADED - STEADY)
        return self._cycle[places % len(self._cycle)] * np.clip(gain, 0.0, 1.0)

    def _last_period(self) -> NDArray[np.float64]:
        """The last pitch period of the history, its end blended so that it repeats without a step."""
        if self._held < self._needed:
            return np.zeros(1)
        past = np.concatenate(self._history)[-self._needed :].astype(np.float64)
        shortest, longest = round(SHORTEST_PITCH * self._rate), round(LONGEST_PITCH * self._rate)
        match = len(past) - longest
        recent = past[longest:]
        # Normalised cross-correlation with each earlier stretch; the lag of the best is the pitch.
        likeness = np.correlate(past[: len(past) - shortest], recent)
        energies = np.convolve(past**2, np.ones(match), "valid")[: len(likeness)]
        period = longest - int(np.argmax(likeness / np.sqrt(energies + 1.0)))
        cycle = past[-period:].copy()
        overlap = period // 4
        rise = np.arange(1, overlap + 1) / overlap
        cycle[-overlap:] = cycle[-overlap:] * (1 - rise) + past[-period - overlap : -period] * rise
        return cycle
