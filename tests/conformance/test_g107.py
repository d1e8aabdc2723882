"""The E-model (ITU-T G.107) beside its published values."""

from __future__ import annotations

import math

import pytest

from connector.rtp.e_model import (
    BASIC_RATIO,
    CODECS,
    FAIR_FROM,
    G711_WITH_CONCEALMENT,
    G711_WITHOUT_CONCEALMENT,
    GOOD_FROM,
    SIMULTANEOUS,
    Codec,
    Verdict,
    absolute_delay,
    delay_impairment,
    loss_impairment,
    mean_opinion,
    rating,
)

G729A = Codec(11.0, 19.0)
"""G.113 table I.4: G.729A with VAD."""


def test_the_default_values_come_to_what_the_recommendation_says() -> None:
    """Section 7.7: "a rating of R = 93.2"; the G.107 calculator shows a MOS of 4.41."""
    r = rating(G711_WITH_CONCEALMENT)
    assert round(r, 1) == 93.2
    assert round(mean_opinion(r), 2) == 4.41


def test_the_constants_follow_from_the_default_values_of_table_2() -> None:
    slr, rlr, stmr, d, p, noise_floor, circuit = 8.0, 2.0, 15.0, 3.0, 35.0, -64.0, -70.0
    olr = slr + rlr
    send = p - slr - d - 100 + 0.004 * (p - olr - d - 14) ** 2
    room = p + 10 * math.log10(1 + 10 ** ((10 - (stmr + d)) / 10))
    receive = rlr - 121 + room + 0.008 * (room - 35) ** 2
    noise = 10 * math.log10(sum(10 ** (one / 10) for one in (circuit, send, receive, noise_floor + rlr)))
    ratio = 15 - 1.5 * (slr + noise)
    assert ratio == pytest.approx(BASIC_RATIO, abs=0.001)
    assert -1.5 * (noise - rlr) == pytest.approx(BASIC_RATIO, abs=0.001), "Roe"

    loud = olr + 0.2 * (64 + noise - rlr)
    too_loud = 20 * ((1 + (loud / 8) ** 8) ** (1 / 8) - loud / 8)
    sidetone = -10 * math.log10(10 ** (-stmr / 10) + 10 ** (-65 / 10))
    sidetone_impairment = (
        12 * (1 + ((sidetone - 13) / 6) ** 8) ** (1 / 8)
        - 28 * (1 + ((sidetone + 1) / 19.4) ** 35) ** (1 / 35)
        - 13 * (1 + ((sidetone - 3) / 33) ** 13) ** (1 / 13)
        + 29
    )
    g = 1.07 + 0.258 * 37 + 0.0602 * 37**2
    quantizing = 15 * math.log10(1 + 10 ** ((ratio - 100) / 15 + 46 / 8.4 - g / 9) + 10 ** (46 / 30 - g / 40))
    assert too_loud + sidetone_impairment + quantizing == pytest.approx(SIMULTANEOUS, abs=0.001)


@pytest.mark.parametrize(("r", "mos"), [(90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58)])
def test_ratings_have_the_opinion_of_table_b_1(r: float, mos: float) -> None:
    assert mean_opinion(r) == pytest.approx(mos, abs=0.0061), "the table prints 4.03 where the formula has 4.024"


@pytest.mark.parametrize(("r", "mos"), [(-5, 1.0), (0, 1.0), (3, 1.0), (100, 4.5), (120, 4.5)])
def test_an_opinion_is_never_below_1_nor_above_4_5(r: float, mos: float) -> None:
    assert mean_opinion(r) == mos


@pytest.mark.parametrize(("milliseconds", "impairment"), [(0, 0.0), (100, 0.0), (150, 0.16), (200, 3.04), (400, 24.07)])
def test_delay_alone_impairs_as_idd_says(milliseconds: float, impairment: float) -> None:
    """Worked from (7-27) and (7-28) by hand: x = lg(Ta/100) / lg 2 is 0, 0.585, 1 and 2."""
    assert absolute_delay(milliseconds) == pytest.approx(impairment, abs=0.01)


def test_delay_with_the_default_echo_costs_what_g_114_draws() -> None:
    """The curve of G.114 figure 1: about 89 at 150 ms, below 70 at 400 ms."""
    at = {milliseconds: 93.36 - delay_impairment(milliseconds) for milliseconds in (0, 50, 150, 250, 400)}
    assert at[150] == pytest.approx(89.5, abs=0.2)
    assert at[400] == pytest.approx(62.2, abs=0.3)
    assert list(at.values()) == sorted(at.values(), reverse=True)


@pytest.mark.parametrize(
    ("codec", "percent", "burst_ratio", "impairment"),
    [
        (G711_WITHOUT_CONCEALMENT, 1, 1, 95 / 5.3),
        (G711_WITH_CONCEALMENT, 1, 1, 95 / 26.1),
        (G711_WITH_CONCEALMENT, 5, 1, 95 * 5 / 30.1),
        (G711_WITH_CONCEALMENT, 5, 2, 95 * 5 / 27.6),
        (G729A, 0, 1, 11),
        (G729A, 2, 1, 11 + 84 * 2 / 21),
    ],
)
def test_loss_impairs_as_equation_7_29_says(
    codec: Codec, percent: float, burst_ratio: float, impairment: float
) -> None:
    assert loss_impairment(codec, percent, burst_ratio) == pytest.approx(impairment)


def test_bursts_are_worse_than_the_same_loss_at_random_and_a_ratio_out_of_range_is_taken_as_its_bound() -> None:
    ratings = [rating(G711_WITH_CONCEALMENT, 0.05, ratio) for ratio in (1, 2, 4, 8)]
    assert ratings == sorted(ratings, reverse=True)
    assert rating(G711_WITH_CONCEALMENT, 0.05, 0.5) == ratings[0]
    assert rating(G711_WITH_CONCEALMENT, 0.05, 50) == ratings[-1]


def test_ratings_stay_on_the_scale_whatever_happens() -> None:
    for loss in (0.0, 0.01, 0.5, 1.0):
        for delay in (0.0, 0.001, 0.15, 3.0, 60.0):
            for codec in CODECS.values():
                assert 0 <= rating(codec, loss, 8, delay) <= 100


def test_verdicts_are_those_of_g_109() -> None:
    assert (round(mean_opinion(80), 2), round(mean_opinion(70), 2)) == (GOOD_FROM, FAIR_FROM)
    assert Verdict.of(mean_opinion(80)) is Verdict.GOOD
    assert Verdict.of(mean_opinion(79)) is Verdict.FAIR
    assert Verdict.of(mean_opinion(70)) is Verdict.FAIR
    assert Verdict.of(mean_opinion(69)) is Verdict.POOR
