"""How sure it is that an utterance was a sentence of the grammar, and not something else forced onto one.

A grammar decoder always finds its nearest sentence. What tells a true find from a forced one is how
well the sounds fit, on the whole and where they fit worst (silence that had to swallow words fits
badly too), whether the words keep a natural pace, and how much was said: a short sentence is easily
met by chance. These four numbers are weighed by logistic regression; the weights come from
`bench/offline_rejection.py --fit`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

PHONE_FRAMES = 8
"""10 ms frames that a phone usually lasts."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A word, a silence or a noise that was decoded.

    `frames`: its duration in 10 ms frames, at least 1. `likelihood`: log-likelihood of these frames,
    in nats relative to the best sound of each, so about 0 at most. `phones`: how many the word has; 0
    for silence and noise.
    """

    text: str
    frames: int
    likelihood: float
    phones: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about a sentence.

    `fit`: mean log-likelihood per frame of its words. `weakest`: that of the worst two neighbouring
    segments. `stretch`: how far the worst word is from the usual pace (|ln| of the ratio). `length`:
    ln of its number of phones.
    """

    fit: float
    weakest: float
    stretch: float
    length: float

    @property
    def confidence(self) -> float:
        """Probability, 0 to 1, that the sentence was said; 0.5 is where `--fit` draws the line."""
        logit = BIAS + sum(weight * value for weight, value in zip(WEIGHTS, astuple(self), strict=True))
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))


WEIGHTS = (2.072, 1.159, -0.615, 3.514)
"""Of the four numbers, in the order of `Evidence`."""
BIAS = 11.121
"""Set so that 1.6 % of the tuning half's strangers reach 0.5."""


def weigh(segments: Sequence[Segment]) -> Evidence:
    """The evidence for a decoded sentence, which has at least one word."""
    words = [segment for segment in segments if segment.phones]
    pairs = [segments[at : at + 2] for at in range(max(1, len(segments) - 1))]
    return Evidence(
        fit=_fit(words),
        weakest=min(_fit(pair) for pair in pairs),
        stretch=max(abs(math.log(word.frames / word.phones / PHONE_FRAMES)) for word in words),
        length=math.log(sum(word.phones for word in words)),
    )


def _fit(segments: Sequence[Segment]) -> float:
    return sum(segment.likelihood for segment in segments) / sum(segment.frames for segment in segments)
