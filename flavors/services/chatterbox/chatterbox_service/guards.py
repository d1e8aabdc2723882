"""What keeps a text's speech within reason: bounds of its length, and an end without noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chatterbox_service.engine import NothingToSay, Samples
from chatterbox_service.tokens import TOKENS_PER_SECOND

_SHORTEST = 4
"""Tokens (160 ms) of the shortest word: an end before that is a model's slip."""
_LONGEST = 40 * TOKENS_PER_SECOND
_ALLOWANCE = 3 * TOKENS_PER_SECOND
_PER_LETTER = 5
"""Unhurried English has 2 tokens per letter."""
_PER_DIGIT = 15
"""A digit is read as a word."""
_PER_SYLLABLE = 12
"""A character of a script that writes syllables or words: Chinese, Japanese, Korean."""

_FLOOR_DB = 45.0
_TAIL_SECONDS = 0.15
_RELEASE_SECONDS = 0.02
_PATIENCE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a text's number of speech tokens."""

    least: int
    likely: int
    most: int


def bounds(text: str) -> Bounds:
    """How long the text may take. Raises `NothingToSay` where it has neither letter nor digit."""
    letters = digits = syllables = 0
    for character in text:
        if character >= "\u1100" and character.isalpha():
            syllables += 1
        elif character.isalpha():
            letters += 1
        elif character.isnumeric():
            digits += 1
    if not letters + digits + syllables:
        raise NothingToSay("the text has neither letter nor digit: there is nothing to say")
    spoken = _PER_LETTER * letters + _PER_DIGIT * digits + _PER_SYLLABLE * syllables
    return Bounds(_SHORTEST, min(spoken * 2 // 5, _LONGEST), min(_ALLOWANCE + spoken, _LONGEST))


class Tail:
    """Ends one stream's audio: without the noise that follows its last sound, and without a click.

    Audio quieter than the loudest so far by 45 dB is kept back, up to half a second of it, until something louder
    follows; of what is kept back at the end, 150 ms are heard, and the last 20 ms fade.
    """

    def __init__(self, rate: int) -> None:
        self._frame = rate // 100
        self._tail = round(_TAIL_SECONDS * rate)
        self._release = round(_RELEASE_SECONDS * rate)
        self._patience = round(_PATIENCE_SECONDS * rate)
        self._peak = 0.0
        self._kept = np.empty(0, np.float32)

    def __call__(self, samples: Samples, last: bool) -> Samples:
        audio = np.concatenate([self._kept, samples])
        frames = -(-len(audio) // self._frame)
        levels = np.abs(np.pad(audio, (0, frames * self._frame - len(audio))).reshape(frames, self._frame)).max(
            axis=1, initial=0.0
        )
        self._peak = max(self._peak, float(levels.max(initial=0.0)))
        loud = np.flatnonzero(levels > self._peak * 10 ** (-_FLOOR_DB / 20))
        sound = (int(loud[-1]) + 1) * self._frame if len(loud) else 0
        if not last:
            # What fades at the end must not have been heard.
            sound = max(0, min(sound, len(audio) - self._release), len(audio) - self._patience)
            self._kept = audio[sound:]
            return audio[:sound]
        ended = audio[: sound + self._tail].copy()
        release = min(self._release, len(ended))
        ended[len(ended) - release :] *= 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, release, dtype=np.float32))
        return ended
