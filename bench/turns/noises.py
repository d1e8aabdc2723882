"""Noises that callers make and lines carry: plausible ones, made of noise, pulses and resonances at 8 kHz.

Each is a function of a random generator, so that no two of a kind are alike. Peaks lie about where speech has its own,
so that loudness alone tells them from no word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bench.turns.clips import RATE, Floats

Random = np.random.Generator


def cough(random: Random) -> Floats:
    """Burst, breath and closing voice of a cough (Korpáš et al. 1996), 250 to 400 ms."""
    burst = _noise(random, 0.14, (400, 900), (1400, 2600)) * _decay(0.14, 0.045)
    breath = _noise(random, random.uniform(0.06, 0.12), (300, 1800)) * 0.25
    voice = _noise(random, 0.12, (250, 700), (1000, 1500)) * _decay(0.12, 0.05) * 0.6
    return _at(np.concatenate([burst, breath, voice]), -12.0)


def cough_twice(random: Random) -> Floats:
    """Two in a row, the second one softer."""
    pause = np.zeros(round(random.uniform(0.05, 0.12) * RATE))
    return np.concatenate([cough(random), pause, 0.7 * cough(random)])


def throat(random: Random) -> Floats:
    """Clearing one's throat: a rough, low voice of irregular pulses, 300 to 400 ms."""
    seconds = random.uniform(0.3, 0.4)
    pulses = np.zeros(round(seconds * RATE))
    at = 0.0
    while int(at * RATE) < len(pulses):
        pulses[int(at * RATE)] = random.uniform(0.4, 1.0)
        at += random.uniform(0.009, 0.022)
    rough = _resonating(pulses, (180, 700)) + 0.3 * _noise(random, seconds, (300, 1600))[: len(pulses)]
    return _at(rough * np.hanning(len(pulses)), -18.0)


def breath(random: Random) -> Floats:
    """Air on the microphone, 250 to 400 ms."""
    air = _noise(random, random.uniform(0.25, 0.4), (200, 2800))
    return _at(air * np.hanning(len(air)), -28.0)


def clicks(random: Random) -> Floats:
    """A bad contact of the line: some clicks of 1 to 3 ms within 150 ms."""
    line = np.zeros(round(0.15 * RATE))
    for start in random.uniform(0, 0.14, 5):
        length = round(random.uniform(0.001, 0.003) * RATE)
        first = int(start * RATE)
        line[first : first + length] = random.choice([-0.4, 0.4])
    return line


def door(random: Random) -> Floats:
    """A thump with the rattle of its frame, 300 ms."""
    times = np.arange(round(0.3 * RATE)) / RATE
    thump = np.sin(2 * np.pi * random.uniform(150, 260) * times) * np.exp(-times / 0.06)
    return _at(thump + 0.5 * _noise(random, 0.3, (300, 3000)) * _decay(0.3, 0.02), -16.0)


NOISES: Mapping[str, Callable[[Random], Floats]] = {
    "cough": cough,
    "throat clearing": throat,
    "line clicks": clicks,
    "two coughs": cough_twice,
    "door": door,
    "breath": breath,
}


def noises(count: int, seed: int = 5) -> Sequence[tuple[str, Floats]]:
    """`count` of them, the kinds in turn."""
    random = np.random.default_rng(seed)
    kinds = list(NOISES.items())
    return [(name, make(random)) for name, make in (kinds[index % len(kinds)] for index in range(count))]


def _noise(random: Random, seconds: float, *bands: tuple[float, float]) -> Floats:
    """White noise that passed `bands` (Hz)."""
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(random.standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / RATE)
    passed = sum(np.exp(-((hertz - (low + high) / 2) ** 2) / ((high - low) / 2) ** 2) for low, high in bands)
    shaped: Floats = np.fft.irfft(spectrum * passed, count)
    shaped /= np.abs(shaped).max()
    return shaped


def _resonating(pulses: Floats, hertz: Sequence[float]) -> Floats:
    """`pulses` through a throat and mouth with these formants."""
    times = np.arange(round(0.03 * RATE)) / RATE
    response = sum(np.sin(2 * np.pi * formant * times) for formant in hertz) * np.exp(-times / 0.006)
    resonating: Floats = np.convolve(pulses, response)[: len(pulses)]
    return resonating


def _decay(seconds: float, fall: float) -> Floats:
    """From 1 after an attack of 5 ms, down to 1/e in `fall` seconds, and so on."""
    times = np.arange(round(seconds * RATE)) / RATE
    decay: Floats = np.minimum(times / 0.005, 1.0) * np.exp(-times / fall)
    return decay


def _at(sound: Floats, dbfs: float) -> Floats:
    """`sound` with this level over its loudest 50 ms."""
    window = round(0.05 * RATE)
    loudest = np.sqrt(np.convolve(sound**2, np.ones(window) / window).max())
    levelled: Floats = np.clip(sound * 10 ** (dbfs / 20) / loudest, -0.99, 0.99)
    return levelled
