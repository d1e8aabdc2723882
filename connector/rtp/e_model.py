"""The E-model (ITU-T G.107, 06/2015): how a call sounds to people, from its codec, its losses and its delay.

Transmission rating R = Ro - Is - Id - Ie,eff + A (7-1), from 0 to 100, and MOS-CQE of it (annex B). What no packet
tells (levels, noise, the telephone's echo) has its default value of table 2; A is 0. The scale is the narrow-band one,
whose best is 4.4: calls of all codecs can be compared, but the better sound of a wide-band codec is not in the figure
(that is G.107.1, a scale of its own, on which G.711 has to lose).
"""

from __future__ import annotations

import math
from enum import Enum
from typing import NamedTuple

BASIC_RATIO = 94.7688
"""Ro, signal to noise, of the default values (7-2 to 7-7)."""
SIMULTANEOUS = 1.4136
"""Is, impairments that come with the voice, of the default values (7-8 to 7-17)."""

TELR = 65.0
"""Default talker echo loudness rating, dB."""
WEPL = 110.0
"""Default weighted echo path loss, dB."""

LEAST_RATE, BEST_RATE = 0.0, 100.0
MAX_BURST_RATIO = 8.0
"""The E-model covers burst ratios from 1 to 8 (table 2)."""


class Codec(NamedTuple):
    """What a codec does to speech: `impairment` (Ie) and `robustness` to loss (Bpl), of G.113 appendix I."""

    impairment: float
    robustness: float


G711_WITHOUT_CONCEALMENT = Codec(0.0, 4.3)
"""G.113 table I.4: zeros in place of lost packets."""
G711_WITH_CONCEALMENT = Codec(0.0, 25.1)
"""G.113 table I.4: G.711 appendix I, which ours is in the spirit of. Tabulated for packets of 10 ms."""

CODECS = {
    "PCMU": G711_WITH_CONCEALMENT,
    "PCMA": G711_WITH_CONCEALMENT,
    # Approximations. The narrow-band scale has no value for wide-band codecs: at the rates that we speak, they
    # sound at least as well as G.711, and what is lost of them is concealed in the same way.
    "G722": G711_WITH_CONCEALMENT,
    "OPUS": G711_WITH_CONCEALMENT,
}
"""By the encoding names of SDP, in upper case."""


def rating(codec: Codec, loss: float = 0.0, burst_ratio: float = 1.0, delay: float = 0.0) -> float:
    """R, 0 to 100.

    `loss`: share of packets that could not be played, 0 to 1, late ones too. `burst_ratio`: mean length of the gaps
    over what it would be had the same loss struck at random. `delay`: seconds from mouth to ear, one way.
    """
    r = BASIC_RATIO - SIMULTANEOUS - delay_impairment(1000 * delay) - loss_impairment(codec, 100 * loss, burst_ratio)
    return min(BEST_RATE, max(LEAST_RATE, r))


def loss_impairment(codec: Codec, percent: float, burst_ratio: float = 1.0) -> float:
    """Ie,eff (7-29)."""
    burst_ratio = min(MAX_BURST_RATIO, max(1.0, burst_ratio))
    return codec.impairment + (95 - codec.impairment) * percent / (percent / burst_ratio + codec.robustness)


def delay_impairment(milliseconds: float) -> float:
    """Id (7-18): of the talker's echo, the listener's echo, and the delay itself. `milliseconds`: one way."""
    one_way = milliseconds
    return _talker_echo(one_way) + _listener_echo(2 * one_way) + absolute_delay(one_way)


def absolute_delay(milliseconds: float) -> float:
    """Idd (7-27, 7-28): what delay does to a conversation, without any echo; nothing up to 100 ms."""
    if milliseconds <= 100:
        return 0.0
    x = math.log2(milliseconds / 100)
    return 25 * (math.pow(1 + x**6, 1 / 6) - 3 * math.pow(1 + (x / 3) ** 6, 1 / 6) + 2)


def mean_opinion(r: float) -> float:
    """MOS-CQE of R, 1 to 4.5 (annex B, B-4)."""
    if r <= LEAST_RATE:
        return 1.0
    r = min(r, BEST_RATE)
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


class Verdict(Enum):
    """What people say of a MOS: the categories of G.109 table 1, taken together."""

    GOOD = "good"
    """R of 80 and more: users are satisfied, or very."""
    FAIR = "fair"
    """R of 70 to 80: some users are dissatisfied."""
    POOR = "poor"
    """R below 70: many users, or nearly all, are dissatisfied."""

    @classmethod
    def of(cls, mos: float) -> Verdict:
        """The verdict on a MOS, rounded to the two places that people see."""
        if round(mos, 2) >= GOOD_FROM:
            return cls.GOOD
        return cls.FAIR if round(mos, 2) >= FAIR_FROM else cls.POOR


GOOD_FROM, FAIR_FROM = 4.02, 3.60
"""MOS of R = 80 and R = 70, to two places (table B.1 prints 4.03 for 80, where its own formula has 4.024)."""


def _talker_echo(milliseconds: float) -> float:
    """Idte (7-19 to 7-22): one's own voice, back from the far end's telephone."""
    if milliseconds < 1:
        return 0.0
    terv = (
        TELR
        - 40 * math.log10((1 + milliseconds / 10) / (1 + milliseconds / 150))
        + 6 * math.exp(-0.3 * milliseconds**2)
    )
    # Roe = -1.5 (No - RLR) comes to Ro with the default loudness ratings.
    half = (BASIC_RATIO - (80 + 2.5 * (terv - 14))) / 2
    return (half + math.sqrt(half**2 + 100) - 1) * (1 - math.exp(-milliseconds))


def _listener_echo(round_trip: float) -> float:
    """Idle (7-25, 7-26). `round_trip`: milliseconds."""
    half = (BASIC_RATIO - 10.5 * (WEPL + 7) * math.pow(round_trip + 1, -0.25)) / 2
    return half + math.sqrt(half**2 + 169)
