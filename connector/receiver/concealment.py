"""Concealment of lost audio: the last pitch period goes on, from both sides of the gap where both are known.

After ITU-T G.711 appendix I, with these changes, each of which scored better in STOI on lossy lines
(bench/speech): the pitch is matched over a shorter stretch, the fade is slower, and where the packet
after the gap has come already its own first period is led back into the gap and blended in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from connector.audio import Samples

Floats = NDArray[np.float64]

SHORTEST_PITCH = 0.005
LONGEST_PITCH = 0.015
"""Pitch periods searched for, seconds (66 to 200 Hz; several periods of a higher voice)."""
MATCH = 0.0075
LEAST_MATCH = 0.005
"""Stretch that is compared with an earlier one to find the pitch, seconds; the least on short packets."""
STEADY = 0.02
"""A loss is filled at full level so long, seconds."""
FADED = 0.12
"""A loss is silent from here on, seconds: a longer one is no longer a glitch in speech, it is the end of it."""
RING_OUT = 0.005
"""What is known to end (a key displaces it) is silent after this time, seconds."""
CROSSFADE = 0.0025
"""What was made up is blended into the next good samples over this time, seconds."""


class Concealment:
    """Makes up what is missing. `rate`: Hz. `past`: gives what was played before the gap, the more the better."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._crossfade = round(CROSSFADE * rate)
        self._length = round(FADED * rate)
        places = np.arange(self._length + self._crossfade) / rate
        self._gain = np.clip((FADED - places) / (FADED - STEADY), 0.0, 1.0)
        self._continuation = np.zeros(0)
        self.made_up = 0
        """Samples made up since the gap began; 0: there is no gap."""

    def __str__(self) -> str:
        return "concealment"

    def conceal(self, count: int, past: Callable[[], Samples]) -> Samples:
        """Makes up `count` samples: the last pitch period again and again, fading into silence."""
        if self.faded:
            return np.zeros(count, np.int16)
        samples: Samples = self._made_up(count, past).astype(np.int16)
        self.made_up += count
        return samples

    def ring_out(self, count: int, past: Callable[[], Samples]) -> Samples:
        """Makes up `count` samples of audio that has ended: just enough of it not to click."""
        length = min(count, round(RING_OUT * self._rate))
        samples = np.zeros(count, np.int16)
        samples[:length] = self._made_up(length, past) * (1 - np.arange(1, length + 1) / length)
        self.fade()
        return samples

    def bridge(self, count: int, past: Callable[[], Samples], following: Samples) -> Samples:
        """Makes up the last `count` samples of a gap and ends it: they are returned with `following` after them."""
        if len(following) < (LONGEST_PITCH + LEAST_MATCH) * self._rate:  # too short a packet to tell its pitch
            return np.concatenate((self.conceal(count, past), self.resume(following)))
        ahead = self._made_up(count, past)
        # Time runs backward on the other side.
        back = _continuation(following[::-1].astype(np.float64), count, self._rate)[::-1]
        rise = np.arange(1, count + 1) / (count + 1)
        self.made_up = 0
        return np.concatenate((np.rint(ahead + (back - ahead) * rise).astype(np.int16), following))

    def resume(self, samples: Samples, instead: Samples | None = None) -> Samples:
        """Ends the gap with `samples`, which are returned, blended with what was made up (or is given `instead`)."""
        count = min(self._crossfade, len(samples))
        before = self._made_up(count, _nothing) if instead is None else instead[:count]
        rise = np.arange(1, count + 1) / (count + 1)
        blended = samples.copy()
        blended[:count] = np.rint(before + (samples[:count] - before) * rise)
        self.made_up = 0
        return blended

    @property
    def faded(self) -> bool:
        """Whether the gap is silent by now."""
        return self.made_up >= self._length

    def fade(self) -> None:
        """Lets the gap be silent from here on."""
        self.made_up = self._length

    def _made_up(self, count: int, past: Callable[[], Samples]) -> Floats:
        if not self.made_up:
            self._continuation = _continuation(past().astype(np.float64), len(self._gain), self._rate) * self._gain
        part = self._continuation[self.made_up : self.made_up + count]
        return part if len(part) == count else np.concatenate((part, np.zeros(count - len(part))))


def _nothing() -> Samples:
    return np.zeros(0, np.int16)


def _continuation(past: Floats, count: int, rate: int) -> Floats:
    """`count` samples that go on with the last pitch period of `past`; silence where that is too short."""
    shortest, longest = round(SHORTEST_PITCH * rate), round(LONGEST_PITCH * rate)
    match = min(len(past) - longest, round(MATCH * rate))
    if match < LEAST_MATCH * rate:
        return np.zeros(count)
    past = past[-longest - match :]
    # Normalised cross-correlation of the end with each earlier stretch; the lag of the best is the pitch.
    earlier = past[:-shortest]
    likeness = np.correlate(earlier, past[longest:])
    sums = np.cumsum(np.square(earlier))
    energies = sums[match - 1 :].copy()
    energies[1:] -= sums[:-match]
    period = longest - int(np.argmax(likeness / np.sqrt(energies + 1.0)))
    cycle = past[-period:].copy()
    # The end of the cycle leads into its begin, so that it repeats without a step.
    overlap = min(period // 4, len(past) - period)
    rise = np.arange(1, overlap + 1) / overlap
    cycle[-overlap:] += (past[-period - overlap : -period] - cycle[-overlap:]) * rise
    return np.resize(cycle, count)
