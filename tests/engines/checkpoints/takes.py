"""Callers' sentences as a recogniser gets them: synthetic voices, over a telephone line or a good microphone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connector.audio import Audio, Samples
from flavors.engines._resample import resample
from tests.fakes import voices

RATE = 16000
"""Hz, of every take: what Whisper hears."""

VOICES = (("flite", "rms"), ("flite", "slt"), ("espeak-ng", "en-us"))
"""Program and voice."""

Floats = NDArray[np.float32]


def take(text: str, voice: tuple[str, str], random: np.random.Generator, *, telephone: bool) -> Floats:
    """`text` in one of `VOICES`, shape (n,) at ±1.0: each take at another level, in other noise, after another pause.

    `telephone`: 8 kHz and G.711 µ-law; else all that 16 kHz hold.
    """
    rate = voices.RATE if telephone else RATE
    speech = voices.spoken(text, *voice, rate=rate).astype(np.float64)
    speech *= _amplitude(random.uniform(-28, -16)) / np.sqrt(np.square(speech).mean())
    before, after = (int(random.uniform(0.02, 0.8) * rate) for _ in range(2))
    line = np.pad(speech, (before, after))
    return _heard(line + random.normal(0, _amplitude(random.uniform(-75, -54)), len(line)), telephone)


def nothing(random: np.random.Generator) -> Floats:
    """A line on which nobody speaks: hum and noise, for up to 4 s."""
    telephone = bool(random.integers(2))
    rate = voices.RATE if telephone else RATE
    time = np.arange(int(random.uniform(0.4, 4.0) * rate)) / rate
    hum = np.sin(2 * np.pi * random.uniform(50, 120) * time) * _amplitude(random.uniform(-80, -45))
    return _heard(hum + random.normal(0, _amplitude(random.uniform(-72, -40)), len(time)), telephone)


def _heard(line: NDArray[np.float64], telephone: bool) -> Floats:
    samples: Samples = np.clip(np.rint(line), -32768, 32767).astype(np.int16)
    if telephone:
        samples = resample(Audio(voices.mu_law(samples), voices.RATE), RATE)
    return samples.astype(np.float32) / np.float32(32768)


def _amplitude(decibels: float) -> float:
    """In 16-bit samples, of a level in dBFS."""
    return float(32768 * 10 ** (decibels / 20))
