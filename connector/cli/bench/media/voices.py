"""What callers say, so that each knows its own voice again: a tone for each, with the rhythm of syllables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connector.audio import FRAME_SECONDS, Samples
from connector.codec.registry import make_codec

MOST_CALLERS = 250
LOWEST, HIGHEST = 400, 3200
"""Hertz: within the telephone band, the tones of up to `MOST_CALLERS` callers 11 Hz or more apart."""

AMPLITUDE = 12_000
SYLLABLES_HERTZ = 3
"""How often the tone swells in a second."""

WINDOW_SECONDS = 0.5
"""Audio that a tone is told by, to 2 Hz."""
SILENT = 300
"""Root mean square of 16-bit samples below which a window holds no voice."""
NEAR_HERTZ = 5.5
"""So far a tone reaches to both sides: its syllables, and leaps of its phase, widen it."""
CLEAR = 0.9
"""Share of a window's power that lies within reach of its strongest frequency, where it is a tone."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Whose voice was heard: windows of half a second with the `own` tone, any `other`, a `broken` one, or `silent`."""

    own: int = 0
    other: int = 0
    broken: int = 0
    silent: int = 0

    def __add__(self, more: Heard) -> Heard:
        return Heard(self.own + more.own, self.other + more.other, self.broken + more.broken, self.silent + more.silent)


def hertz(caller: int, callers: int) -> int:
    """The tone of caller 0..`callers` - 1."""
    return LOWEST + (HIGHEST - LOWEST) * caller // callers


def voice(tone: int, rate: int) -> Samples:
    """A second of it, to be said again and again: shape (rate,) int16 at `rate` Hz."""
    seconds = np.arange(rate) / rate
    swell = 0.6 - 0.4 * np.cos(2 * np.pi * SYLLABLES_HERTZ * seconds)
    return np.rint(AMPLITUDE * swell * np.sin(2 * np.pi * tone * seconds)).astype(np.int16)


def payloads(tone: int, codec: str) -> list[bytes]:
    """The second as 50 packets of `codec` carry it; raises `NotAcceptableHere` for a codec that we do not speak."""
    coder = make_codec(codec)
    frames = voice(tone, coder.rate).reshape(-1, round(coder.rate * FRAME_SECONDS))
    said = [coder.encode(frame) for frame in frames]
    if coder.memoryless:  # negative zero comes back as zero (ITU-T G.711)
        said = [coder.encode(coder.decode(payload)) for payload in said]
    return said


def listen(samples: Samples, rate: int, own: int) -> Heard:
    """Whose voice `samples`, at `rate` Hz, hold, where `own` is the caller's tone."""
    length = round(rate * WINDOW_SECONDS)
    windows = [samples[start : start + length] for start in range(0, len(samples) - length + 1, length)]
    return sum((_heard(window, own) for window in windows), Heard())


def _heard(window: Samples, own: int) -> Heard:
    samples = window.astype(np.float64)
    if np.sqrt(np.mean(np.square(samples))) < SILENT:
        return Heard(silent=1)
    power = np.square(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))))
    frequencies = np.arange(len(power)) / WINDOW_SECONDS
    strongest = frequencies[np.argmax(power)]
    if abs(strongest - own) <= NEAR_HERTZ:
        return Heard(own=1)
    clear = power[np.abs(frequencies - strongest) <= NEAR_HERTZ].sum() > CLEAR * power.sum()
    return Heard(other=1) if clear else Heard(broken=1)


def owners(said: Sequence[Sequence[bytes]]) -> dict[bytes, tuple[int, int]]:
    """Whose each payload is, and which of its packets: (caller, index). `said`: each caller's second."""
    return {payload: (caller, index) for caller, second in enumerate(said) for index, payload in enumerate(second)}
