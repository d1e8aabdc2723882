"""Speech and telephone noises for tests, as numpy arrays at 8 kHz."""

from __future__ import annotations

import io
import subprocess
import wave
from functools import cache

import numpy as np
from numpy.typing import NDArray

from connector.audio import Samples
from connector.codec.g711 import MuLaw

RATE = 8000


@cache
def spoken(text: str, program: str = "flite", voice: str = "slt", rate: int = RATE) -> Samples:
    """`text` in the voice of `flite` or `espeak-ng`, shape (n,) int16 at `rate` Hz, resampled by sox."""
    commands = {
        "flite": ["flite", "-voice", voice, "-t", text, "-o", "/dev/stdout"],
        "espeak-ng": ["espeak-ng", "-v", voice, "--stdout", text],
    }
    speech = subprocess.run(commands[program], capture_output=True, check=True).stdout
    resampled = subprocess.run(
        [
            "sox",
            "-q",
            "-D",
            "--ignore-length",
            "-t",
            "wav",
            "-",
            "-t",
            "wav",
            "-r",
            str(rate),
            "-b",
            "16",
            "-c",
            "1",
            "-",
        ],
        input=speech,
        capture_output=True,
        check=True,
    ).stdout
    with wave.open(io.BytesIO(resampled)) as file:
        frames = file.readframes(10**9)
    return np.frombuffer(frames, "<i2").astype(np.int16)


def tone(frequencies: tuple[float, ...], seconds: float, level: float = 0.2) -> Samples:
    """The sum of sines of `frequencies`, Hz."""
    time = np.arange(int(seconds * RATE)) / RATE
    wave_form = np.sum([np.sin(2 * np.pi * f * time) for f in frequencies], axis=0) / len(frequencies)
    return _samples(wave_form * level)


def noise(seconds: float, level: float, seed: int = 1) -> Samples:
    """White noise; `level`: its root mean square."""
    return _samples(np.random.default_rng(seed).normal(0, level, int(seconds * RATE)))


def mu_law(samples: Samples) -> Samples:
    """`samples` as G.711 µ-law brings them."""
    codec = MuLaw()
    return codec.decode(codec.encode(samples))


def _samples(values: NDArray[np.float64]) -> Samples:
    return np.clip(np.rint(values * 32768), -32768, 32767).astype(np.int16)
