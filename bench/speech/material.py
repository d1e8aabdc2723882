"""What is said: matrix sentences by synthetic voices, as packets of PCMU, 20 ms each (RFC 3551 section 4.5.14).

A matrix sentence (Hagerman 1982; Kollmeier et al. 2015) is one word of each of five lists, so that no
word can be guessed from its neighbours and every list must be heard: a whole-sentence list would forgive
a lost word, a free language model would invent one.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.voices import spoken
from connector.audio import Samples
from connector.codec.g711 import MuLaw

RATE = 8000
FRAME = 160
"""Samples, octets and timestamp units of a packet."""

LISTS: Sequence[Sequence[str]] = (
    ("alan", "barry", "hannah", "kathy", "lucy", "nina", "peter", "rachel", "steven", "thomas"),
    ("bought", "gives", "got", "has", "kept", "ordered", "prefers", "sees", "sold", "wants"),
    ("two", "three", "four", "six", "eight", "nine", "eleven", "twelve", "fifteen", "sixty"),
    ("big", "cheap", "dark", "green", "large", "old", "pink", "red", "small", "thin"),
    ("beds", "chairs", "desks", "mugs", "rings", "rooms", "shoes", "ships", "spoons", "tables"),
)
"""Name, verb, number, adjective, noun."""

VOICES = ("flite:slt", "flite:rms", "flite:awb", "espeak-ng:en-us")
"""Program and voice; sentences take turns."""

LEAD, GAP, TAIL = 1.0, 0.5, 1.0
"""Seconds of line noise before, between and after the sentences."""
SPEECH_DBFS, NOISE_DBFS = -20.0, -66.0
EDGE = 0.02
"""Share of the loudest sample that speech begins and ends with."""
MARGIN = 0.03
"""Seconds kept on each side of that: sounds begin and end softer."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """What was said from sample `begin` until `end`."""

    words: tuple[str, ...]
    voice: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Material:
    """`payloads`: one per packet. `samples`: what they decode to, shape (n,) int16 at 8 kHz, the reference."""

    payloads: Sequence[bytes]
    samples: Samples
    sentences: Sequence[Sentence]

    @property
    def seconds(self) -> float:
        """Of the whole stream."""
        return len(self.samples) / RATE

    @property
    def speech_seconds(self) -> float:
        """Of the sentences alone."""
        return sum(sentence.end - sentence.begin for sentence in self.sentences) / RATE


def material(count: int, voices: Sequence[str] = VOICES, cache: Path | None = None) -> Material:
    """`count` sentences, always the same ones; spoken once, then read from `cache` (the user's)."""
    folder = cache or cache_folder()
    pieces, sentences, now = [np.zeros(round(LEAD * RATE))], [], round(LEAD * RATE)
    for index, words in enumerate(matrix_sentences(count)):
        program, voice = voices[index % len(voices)].split(":")
        speech = _levelled(_cached(folder, program, voice, " ".join(words)))
        sentences.append(Sentence(words, voice, now, now + len(speech)))
        pause = np.zeros(round(GAP * RATE) + -len(speech) % 37)  # packets cut each sentence elsewhere
        pieces += [speech, pause]
        now += len(speech) + len(pause)
    pieces.append(np.zeros(round(TAIL * RATE)))
    samples = np.concatenate(pieces)
    samples = np.concatenate([samples, np.zeros(-len(samples) % FRAME)])
    samples += np.random.default_rng(1).standard_normal(len(samples)) * 10 ** (NOISE_DBFS / 20)
    codec = MuLaw()
    octets = codec.encode(np.clip(np.rint(samples * 32767), -32768, 32767).astype(np.int16))
    payloads = [octets[start : start + FRAME] for start in range(0, len(octets), FRAME)]
    return Material(payloads, codec.decode(octets), sentences)


def matrix_sentences(count: int) -> list[tuple[str, ...]]:
    """Drawn so that every word of a list comes before any comes again."""
    draw = random.Random(4)
    columns = []
    for words in LISTS:
        column: list[str] = []
        while len(column) < count:
            column += draw.sample(words, len(words))
        columns.append(column[:count])
    return list(zip(*columns, strict=True))


def cache_folder() -> Path:
    """Where the spoken sentences are kept (XDG base directories)."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "voxtrunk" / "bench-speech"


def _cached(folder: Path, program: str, voice: str, text: str) -> Samples:
    name = hashlib.sha256(f"{program} {voice} {text}".encode()).hexdigest()[:16]
    path = folder / f"{name}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{name}-{os.getpid()}.npy")  # several runs may fill the cache at once
        np.save(part, spoken(f"{program}:{voice}", text, RATE))
        part.replace(path)
    samples: Samples = np.load(path)
    return samples


def _levelled(samples: Samples) -> NDArray[np.float64]:
    """The speech alone, at its level."""
    speech = samples / 32768
    loud = np.flatnonzero(np.abs(speech) > EDGE * np.abs(speech).max())
    margin = round(MARGIN * RATE)
    speech = speech[max(0, loud[0] - margin) : loud[-1] + margin]
    levelled: NDArray[np.float64] = speech * 10 ** (SPEECH_DBFS / 20) / np.sqrt(np.square(speech).mean())
    return np.clip(levelled, -0.99, 0.99)
