"""Synthetic voices: programs that speak a text."""

from __future__ import annotations

import io
import subprocess
import wave
from collections.abc import Mapping, Sequence

import numpy as np

from connector.audio import Audio, Samples
from flavors.engines._resample import resample

PROGRAMS: Mapping[str, Sequence[str]] = {
    "flite": ("flite", "-voice", "{voice}", "-t", "{text}", "-o", "/dev/stdout"),
    "espeak-ng": ("espeak-ng", "-v", "{voice}", "-s", "{pace}", "--stdout", "{text}"),
}
"""How each speaks a WAV file to its output."""

HEADER = 44
"""Octets before the samples."""


def spoken(voice: str, text: str, rate: int, pace: int = 150) -> Samples:
    """`text`, shape (n,) int16 at `rate` Hz, spoken by `voice`: a program and one of its voices, such as `flite:slt`.

    `pace`: words per minute, where the program takes it.
    """
    program, _, name = voice.partition(":")
    command = [part.format(voice=name, text=text, pace=pace) for part in PROGRAMS[program]]
    output = subprocess.run(command, capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(output)) as file:
        own_rate = file.getframerate()
    # To the end, whatever length the header tells: a program that writes to a pipe cannot know it.
    samples = np.frombuffer(output[HEADER : len(output) - len(output) % 2], "<i2").astype(np.int16)
    return resample(Audio(samples, own_rate), rate)
