"""Speech by its level alone: coarse, but known the moment it is heard; a detector's windows trail by tens of ms."""

from __future__ import annotations

from math import inf

HOP_SECONDS = 0.01
"""Audio of which one level is taken."""

BELOW_SPEECH = 10 ** (-27 / 20)
"""What is 27 dB below the loudest of the speech is a pause: final consonants are above it, breath is not."""
OVER_NOISE = 2.5
"""Speech is at least 8 dB above the line's noise, ..."""
MOST = 0.25
"""... which never asks for more than 12 dB below the loudest of the speech: a call may begin in mid-word, ..."""
AUDIBLE = 58.0
"""... and above -55 dBFS."""

FALL = 10 ** (-6 / 20 * HOP_SECONDS)
"""The loudest of the speech is forgotten by 6 dB a second: the next word may be said more quietly."""
RISE = 10 ** (3 / 20 * HOP_SECONDS)
"""The noise floor follows a noise that grows by 3 dB a second; one that falls it follows at once."""


class SpeechLevel:
    """Judges hops of `HOP_SECONDS` by how loud they are: against the speech before them, and the line's noise."""

    def __init__(self) -> None:
        self._speech = 0.0
        self._floor = inf

    def loud(self, level: float) -> bool:
        """Takes a hop's root mean square (of ±32768); whether it may be speech."""
        speech = self._speech * FALL
        self._speech = level if level > speech else speech
        floor = self._floor * RISE
        self._floor = level if level < floor else floor
        noise = min(self._floor * OVER_NOISE, self._speech * MOST)
        return level > AUDIBLE and level > self._speech * BELOW_SPEECH and level > noise
