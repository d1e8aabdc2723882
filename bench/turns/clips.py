"""What a caller sends: synthetic speech and noises at 8 kHz, with the instants at which they truly begin and end.

Onset and end are read from the energy of 5 ms steps. An utterance has one or two parts; two parts are
joined by an exact pause between their energy edges. Below all lies a line noise, never digital silence.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.voices import spoken
from connector.codec.g711 import MuLaw

RATE = 8000
FRAME = 160
"""Samples (and octets) of a packet: 20 ms."""

SPEECH_DBFS = -20.0

STEP = 40
"""Samples of an energy step: 5 ms."""
EDGE_DB = -32.0
"""Speech is what lies within this of the active level."""

MARGIN_SECONDS = 0.1
"""Noise before and after the speech of a clip."""

WORDS_PER_MINUTE = 165

Floats = NDArray[np.float64]

Utterance = tuple[str, Sequence[str]]
"""A name, and the one or two parts that are said."""

TURNS: Sequence[Utterance] = (
    ("q1", ["What time do you open on Saturday?"]),
    ("q2p", ["I would like to book a table,", "for four people on Friday evening."]),
    ("q3", ["Can you tell me the price, please?"]),
    ("q4p", ["My order number is,", "seven four nine two one."]),
    ("q5", ["Yes, that sounds good to me."]),
    ("q6p", ["I want to change my appointment,", "to next Tuesday morning."]),
    ("q7", ["Do you have any parking near the office?"]),
    ("q8p", ["Could you please send,", "the invoice to my email address?"]),
)
FIRST: Utterance = ("b0", ["Tell me everything about your services."])
INTERRUPTION: Utterance = ("bi", ["Actually I have another question about that."])


@dataclass(frozen=True)
class Part:
    """A stretch of sound without a pause; seconds from the beginning of its clip. A noise has no `text`."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Clip:
    """One utterance or noise as µ-law frames."""

    name: str
    parts: Sequence[Part]
    frames: Sequence[bytes]

    @property
    def paused(self) -> bool:
        """Whether the caller pauses in the middle."""
        return len(self.parts) > 1

    @property
    def onset(self) -> float:
        """Where the first sound begins, seconds from the beginning."""
        return self.parts[0].start


@dataclass(frozen=True)
class Speaker:
    """Who calls, over what line. `voice`: see `bench.voices`."""

    voice: str = "espeak-ng:en-us"
    noise_dbfs: float = -66.0

    def says(self, utterance: Utterance, pause: float = 0.35) -> Clip:
        """Speaks the parts, with `pause` seconds between them."""
        name, texts = utterance
        sounds = [spoken(self.voice, text, RATE, WORDS_PER_MINUTE) / 32768 for text in texts]
        return self._clip(name, texts, [_trimmed(_levelled(sound)) for sound in sounds], pause)

    def makes(self, name: str, sound: Floats) -> Clip:
        """A noise without words, as loud as it is."""
        return self._clip(name, [""], [_trimmed(sound)], 0.0)

    def silence(self, count: int = 500) -> Sequence[bytes]:
        """Frames of the line while nobody speaks."""
        return _frames(self._noise(count * FRAME, seed=7))

    def _clip(self, name: str, texts: Sequence[str], sounds: Sequence[Floats], pause: float) -> Clip:
        margin = np.zeros(round(MARGIN_SECONDS * RATE))
        pieces, parts, now = [margin], [], MARGIN_SECONDS
        for index, (text, sound) in enumerate(zip(texts, sounds, strict=True)):
            if index:
                pieces.append(np.zeros(round(pause * RATE)))
                now += pause
            pieces.append(sound)
            parts.append(Part(text, now, now + len(sound) / RATE))
            now += len(sound) / RATE
        samples = np.concatenate([*pieces, margin])
        samples = np.concatenate([samples, np.zeros(-len(samples) % FRAME)])
        return Clip(name, parts, _frames(samples + self._noise(len(samples), seed=1)))

    def _noise(self, count: int, seed: int) -> Floats:
        return np.random.default_rng(seed).standard_normal(count) * 10 ** (self.noise_dbfs / 20)


def read_utterances(file: Path) -> Sequence[Utterance]:
    """A JSON list of [name, [part, ...]]."""
    return [(name, parts) for name, parts in json.loads(file.read_text())]


def _frames(samples: Floats) -> list[bytes]:
    payload = MuLaw().encode(np.clip(samples * 32767, -32768, 32767).astype(np.int16))
    return [payload[start : start + FRAME] for start in range(0, len(payload), FRAME)]


def _edges(samples: Floats) -> tuple[int, int]:
    """First and last sample of speech."""
    steps = samples[: len(samples) // STEP * STEP].reshape(-1, STEP)
    levels = np.sqrt((steps**2).mean(axis=1) + 1e-12)
    active = np.sqrt((levels[levels > levels.max() * 0.1] ** 2).mean())
    loud = np.flatnonzero(levels > active * 10 ** (EDGE_DB / 20))
    return int(loud[0]) * STEP, (int(loud[-1]) + 1) * STEP


def _trimmed(samples: Floats) -> Floats:
    onset, end = _edges(samples)
    return samples[onset:end]


def _levelled(samples: Floats) -> Floats:
    """`samples` at the level of telephone speech."""
    onset, end = _edges(samples)
    level = np.sqrt((samples[onset:end] ** 2).mean())
    levelled: Floats = np.clip(samples * 10 ** (SPEECH_DBFS / 20) / level, -0.99, 0.99)
    return levelled
