"""What the scores of all rows mean: where ours is ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.speech.network import Impairment
from bench.speech.scores import Score

CLEAN_LINE_P50 = 0.030
"""Seconds that our receive path may add on a clean line, in the middle."""
SIGNIFICANT = 2.33
"""Standard deviations that chance exceeds in one of a hundred rows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One impairment over all seeds: packets that left, that were lost, that were overtaken; each system's scores."""

    impairment: Impairment
    packets: int
    lost: int
    reordered: int
    scores: Mapping[str, Sequence[Score]]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one system in one row, over all seeds. `wer`: share of words wrong; delays in seconds, arrival to playout."""

    stoi: float
    stoi_followed: float
    errors: int
    words: int
    delay_p50: float
    delay_p95: float

    @property
    def wer(self) -> float:
        return self.errors / self.words


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours against a peer in one row."""

    impairment: Impairment
    peer: str
    stoi: float
    """Ours less the peer's."""
    errors: int
    """Words wrong, ours less the peer's."""
    by_chance: bool
    """Whether so many more words wrong are no evidence that ours is worse."""

    @property
    def ahead(self) -> bool:
        """STOI is higher, and words wrong are not more than chance explains."""
        return self.stoi > 0 and (self.errors <= 0 or self.by_chance)


def figures(scores: Sequence[Score]) -> Figures:
    """Sums up the seeds."""
    delays = np.concatenate([score.delays for score in scores])
    p50, p95 = np.percentile(delays, (50, 95)) if len(delays) else (float("nan"),) * 2
    return Figures(
        float(np.mean([score.stoi for score in scores])),
        float(np.mean([score.stoi_followed for score in scores])),
        sum(score.errors for score in scores),
        sum(score.words for score in scores),
        float(p50),
        float(p95),
    )


def comparisons(rows: Sequence[Row], ours: str) -> list[Comparison]:
    """Ours with each peer in each row in which packets are lost."""
    return [
        compare(row.impairment, peer, row.scores[ours], scores)
        for row in rows
        if row.impairment.loss and ours in row.scores
        for peer, scores in row.scores.items()
        if peer != ours
    ]


def compare(impairment: Impairment, peer: str, ours: Sequence[Score], theirs: Sequence[Score]) -> Comparison:
    """Of the same traces, so sentence by sentence: the words wrong are weighed by a paired test, one-sided."""
    own, other = (np.array([wrong for score in scores for wrong in score.wrong]) for scores in (ours, theirs))
    more = own - other
    deviation = float(more.std()) * len(more) ** 0.5
    return Comparison(
        impairment,
        peer,
        figures(ours).stoi - figures(theirs).stoi,
        int(more.sum()),
        by_chance=bool(more.sum() <= SIGNIFICANT * deviation),
    )
