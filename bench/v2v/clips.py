"""What the caller says: espeak-ng at 8 kHz µ-law, with the instants at which speech truly begins and ends.

Onset and end are read from the energy of 5 ms steps. An utterance has one or two parts; two parts are
joined by an exact pause between their energy edges. Below all lies a line noise, never digital silence.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connector.audio import Audio
from connector.codec.g711 import MuLaw
from flavors.engines._resample import resample

RATE = 8000
FRAME = 160
"""Samples (and octets) of a packet: 20 ms."""

NOISE_DBFS = -66.0
SPEECH_DBFS = -20.0

STEP = 40
"""Samples of an energy step: 5 ms."""
EDGE_DB = -32.0
"""Speech is what lies within this of the active level."""

MARGIN_SECONDS = 0.1
"""Noise before and after the speech of a clip."""

Floats = NDArray[np.float64]

TURNS: Sequence[tuple[str, Sequence[str]]] = (
    ("q1", ["What time do you open on Saturday?"]),
    ("q2p", ["I would like to book a table,", "for four people on Friday evening."]),
    ("q3", ["Can you tell me the price, please?"]),
    ("q4p", ["My order number is,", "seven four nine two one."]),
    ("q5", ["Yes, that sounds good to me."]),
    ("q6p", ["I want to change my appointment,", "to next Tuesday morning."]),
    ("q7", ["Do you have any parking near the office?"]),
    ("q8p", ["Could you please send,", "the invoice to my email address?"]),
)
FIRST = ("b0", ["Tell me everything about your services."])
INTERRUPTION = ("bi", ["Actually I have another question about that."])


@dataclass(frozen=True)
class Part:
    """A stretch of speech without a pause; seconds from the beginning of its clip."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Clip:
    """One utterance as µ-law frames. `onset`, `end`: of its speech, seconds from the beginning."""

    name: str
    parts: Sequence[Part]
    frames: Sequence[bytes]

    @property
    def paused(self) -> bool:
        """Whether the caller pauses in the middle."""
        return len(self.parts) > 1

    @property
    def onset(self) -> float:
        return self.parts[0].start


def turn_clips(pause: float) -> list[Clip]:
    """The eight utterances; the paused ones pause `pause` seconds."""
    return [clip(name, texts, pause) for name, texts in TURNS]


def clip(name: str, texts: Sequence[str], pause: float = 0.35) -> Clip:
    """Speaks `texts`, with `pause` seconds between them."""
    pieces, parts, now = [np.zeros(round(MARGIN_SECONDS * RATE))], [], MARGIN_SECONDS
    for index, text in enumerate(texts):
        speech = _levelled(_spoken(text))
        onset, end = _edges(speech)
        speech = speech[onset:end]
        if index:
            pieces.append(np.zeros(round(pause * RATE)))
            now += pause
        pieces.append(speech)
        parts.append(Part(text, now, now + len(speech) / RATE))
        now += len(speech) / RATE
    pieces.append(np.zeros(round(MARGIN_SECONDS * RATE)))
    samples = np.concatenate(pieces)
    samples = np.concatenate([samples, np.zeros(-len(samples) % FRAME)])
    return Clip(name, parts, _frames(samples + _noise(len(samples), seed=1)))


def noise_frames(count: int = 500) -> Sequence[bytes]:
    """The line while nobody speaks."""
    return _frames(_noise(count * FRAME, seed=7))


def _noise(count: int, seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(count) * 10 ** (NOISE_DBFS / 20)


def _frames(samples: Floats) -> list[bytes]:
    payload = MuLaw().encode(np.clip(samples * 32767, -32768, 32767).astype(np.int16))
    return [payload[start : start + FRAME] for start in range(0, len(payload), FRAME)]


def _spoken(text: str) -> Floats:
    command = ["espeak-ng", "-v", "en-us", "-s", "165", "--stdout", text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    # The header is a streaming one, whose lengths say nothing: the samples follow its 44 octets.
    rate = int.from_bytes(wav[24:28], "little")
    samples = np.frombuffer(wav[44 : len(wav) - len(wav) % 2], "<i2").astype(np.int16)
    return resample(Audio(samples, rate), RATE).astype(np.float64) / 32768


def _edges(samples: Floats) -> tuple[int, int]:
    """First and last sample of speech."""
    steps = samples[: len(samples) // STEP * STEP].reshape(-1, STEP)
    levels = np.sqrt((steps**2).mean(axis=1) + 1e-12)
    active = np.sqrt((levels[levels > levels.max() * 0.1] ** 2).mean())
    loud = np.flatnonzero(levels > active * 10 ** (EDGE_DB / 20))
    return int(loud[0]) * STEP, (int(loud[-1]) + 1) * STEP


def _levelled(samples: Floats) -> Floats:
    onset, end = _edges(samples)
    level = np.sqrt((samples[onset:end] ** 2).mean())
    levelled: Floats = np.clip(samples * 10 ** (SPEECH_DBFS / 20) / level, -0.99, 0.99)
    return levelled
