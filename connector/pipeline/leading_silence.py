"""The silence that a voice begins with, which a caller who waits for an answer hears as slowness."""

from __future__ import annotations

import numpy as np

from connector.audio import Audio, Samples

AUDIBLE = 200
"""Samples below this (-44 dBFS) are silence."""

LEAD_SECONDS = 0.02
"""Kept before the first audible sample: voices begin softly."""

LONGEST_SECONDS = 0.5
"""No more than this is taken off: a longer silence is meant."""


class LeadingSilence:
    """Takes the silence off the beginning of one stream of speech, which is of one rate."""

    def __init__(self) -> None:
        self._over = False
        self._held: Samples = np.empty(0, np.int16)
        self._dropped = 0

    def trim(self, audio: Audio) -> Audio:
        """What is to be played of the next stretch: nothing while there is nothing to hear, then everything."""
        if self._over:
            return audio
        samples = np.concatenate([self._held, audio.samples])
        audible = np.flatnonzero((samples >= AUDIBLE) | (samples <= -AUDIBLE))
        onset = int(audible[0]) if len(audible) else len(samples)
        may_drop = round(LONGEST_SECONDS * audio.rate) - self._dropped
        start = min(max(0, onset - round(LEAD_SECONDS * audio.rate)), may_drop)
        self._over = len(audible) > 0 or start == may_drop
        self._held = samples[start:]
        self._dropped += start
        return Audio(self._held if self._over else samples[:0], audio.rate)
