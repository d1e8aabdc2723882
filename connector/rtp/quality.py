"""How a call sounds, window by window: the E-model fed with what both ends counted."""

from __future__ import annotations

import math
from typing import NamedTuple

from connector.audio import FRAME_SECONDS
from connector.rtp.e_model import CODECS, G711_WITH_CONCEALMENT, mean_opinion, rating

WINDOW_SECONDS = 10.0
"""A window: long enough that one lost packet is no verdict, short enough that a bad stretch is not averaged away."""

LEAST_PACKETS = 50
"""A window of fewer packets (one second) is not rated."""

FAR_BUFFER_SECONDS = 0.04
"""Assumed of the far end's jitter buffer, of which reports say nothing: two packets, where telephones begin."""


class Reception(NamedTuple):
    """What an end has counted of a stream so far.

    `expected`: packets that were due. `missing`: of these, lost ones and ones that came too late to be played.
    `gaps`: runs of missing packets in a row; None where nobody counted them.
    """

    expected: int = 0
    missing: int = 0
    gaps: int | None = None


class Sample(NamedTuple):
    """A call's counters at one moment.

    `codec`: encoding name of SDP. `heard`: our reception. `reported`: the far end's reception of our stream, as its
    latest report has it; None before the first. Seconds: `jitter` and `buffer_delay` of what we hear, `round_trip`
    (None while unknown).
    """

    codec: str
    heard: Reception
    reported: Reception | None = None
    jitter: float = 0.0
    buffer_delay: float = 0.0
    round_trip: float | None = None


class Spread(NamedTuple):
    """Mean and bounds of values."""

    weight: float = 0.0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf

    def plus(self, value: float | None, weight: float = 1.0) -> Spread:
        """With one more value, where there is one."""
        if value is None:
            return self
        return Spread(self.weight + weight, self.total + value * weight, min(self.least, value), max(self.most, value))

    @property
    def mean(self) -> float | None:
        """None where there is no value."""
        return self.total / self.weight if self.weight else None

    @property
    def maximum(self) -> float | None:
        """None where there is no value."""
        return self.most if self.weight else None


class Ratings(NamedTuple):
    """E-model ratings of one direction, window by window. `last`: the reception that the windows so far cover."""

    last: Reception = Reception()
    spread: Spread = Spread()

    def plus(self, codec: str, reception: Reception | None, delay: float) -> Ratings:
        """With the window from `last` to `reception`, where it is worth a rating. `delay`: one way, seconds."""
        if reception is None:
            return self
        expected = reception.expected - self.last.expected
        if 0 <= expected < LEAST_PACKETS:
            return self
        if expected < 0:  # its counters began anew
            return self._replace(last=reception)
        missing = min(expected, max(0, reception.missing - self.last.missing))
        gaps = None if reception.gaps is None else reception.gaps - (self.last.gaps or 0)
        loss = missing / expected
        r = rating(CODECS.get(codec.upper(), G711_WITH_CONCEALMENT), loss, _burst_ratio(missing, gaps, loss), delay)
        return Ratings(reception, self.spread.plus(r, expected))

    @property
    def mos(self) -> float | None:
        """MOS-CQE of the mean rating; None where nothing was rated."""
        mean = self.spread.mean
        return None if mean is None else mean_opinion(mean)

    @property
    def worst(self) -> float | None:
        """MOS-CQE of the worst window; None where nothing was rated."""
        return mean_opinion(self.spread.least) if self.spread.weight else None


class Quality(NamedTuple):
    """A call's quality up to some moment. `heard`: of what we hear. `reported`: of what the far end hears of us."""

    heard: Ratings = Ratings()
    reported: Ratings = Ratings()
    jitter: Spread = Spread()
    buffer_delay: Spread = Spread()
    round_trip: Spread = Spread()

    def plus(self, sample: Sample) -> Quality:
        """With the window that ends with `sample`."""
        # A packet is spoken for as long as it lasts before it leaves.
        on_the_way = FRAME_SECONDS + (sample.round_trip or 0.0) / 2
        received = sample.heard.expected > 0
        return Quality(
            self.heard.plus(sample.codec, sample.heard, on_the_way + sample.buffer_delay),
            self.reported.plus(sample.codec, sample.reported, on_the_way + FAR_BUFFER_SECONDS),
            self.jitter.plus(sample.jitter if received else None),
            self.buffer_delay.plus(sample.buffer_delay if received else None),
            self.round_trip.plus(sample.round_trip),
        )


def _burst_ratio(missing: int, gaps: int | None, loss: float) -> float:
    """BurstR (G.107 section 7.5): mean length of gaps over 1 / (1 - loss), theirs if the same loss struck at random."""
    return missing / gaps * (1 - loss) if gaps and missing else 1.0
