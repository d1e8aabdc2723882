"""The quality of a call, from what both ends counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.rtp.e_model import G711_WITH_CONCEALMENT, mean_opinion, rating
from connector.rtp.quality import FAR_BUFFER_SECONDS, Quality, Reception, Sample

CLEAN = mean_opinion(rating(G711_WITH_CONCEALMENT, delay=0.02))


def windows(*samples: Sample) -> Quality:
    quality = Quality()
    for sample in samples:
        quality = quality.plus(sample)
    return quality


def heard(*receptions: Reception) -> Quality:
    return windows(*(Sample("PCMU", reception) for reception in receptions))


def test_a_clean_call_sounds_as_g711_can() -> None:
    quality = heard(Reception(500), Reception(1000))
    assert quality.heard.mos == quality.heard.worst == pytest.approx(CLEAN)
    assert quality.heard.mos == pytest.approx(4.40, abs=0.02)


def test_a_call_that_was_not_heard_has_no_rating() -> None:
    quality = windows(Sample("PCMU", Reception()))
    assert quality.heard.mos is quality.heard.worst is quality.reported.mos is None
    assert quality.jitter.mean is quality.jitter.maximum is quality.buffer_delay.mean is quality.round_trip.mean is None


def test_a_bad_stretch_shows_in_the_worst_window_and_less_in_the_mean() -> None:
    quality = heard(Reception(500), Reception(1000, 100), *(Reception(1000 + 500 * n, 100) for n in range(1, 9)))
    assert quality.heard.mos is not None
    assert quality.heard.worst is not None
    assert quality.heard.worst == pytest.approx(mean_opinion(rating(G711_WITH_CONCEALMENT, 0.2, delay=0.02)))
    assert quality.heard.worst < quality.heard.mos - 0.5
    assert quality.heard.mos > 4.0


def test_a_window_of_less_than_a_second_joins_the_next() -> None:
    quality = heard(Reception(500), Reception(510, 10))
    assert quality.heard.worst == pytest.approx(CLEAN)
    quality = quality.plus(Sample("PCMU", Reception(1000, 10)))
    assert quality.heard.worst == pytest.approx(mean_opinion(rating(G711_WITH_CONCEALMENT, 0.02, delay=0.02)))


def test_silence_is_not_rated() -> None:
    """On hold nothing is due, and the worst window is one in which something was."""
    on_hold = [Reception(500)] * 30
    assert heard(*on_hold).heard.mos == pytest.approx(CLEAN)


def test_losses_in_bursts_are_worse_than_the_same_ones_alone() -> None:
    alone, unknown, bursts = (
        heard(Reception(500, 25, gaps)).heard.mos for gaps in (24, None, 5)
    )  # 25 of 500 at random come in 24 gaps
    assert alone is not None
    assert bursts is not None
    assert alone == pytest.approx(unknown, abs=0.01)
    assert bursts < alone - 0.05


def test_duplicates_that_make_up_for_losses_do_not_make_a_call_better_than_clean() -> None:
    assert heard(Reception(500, -5)).heard.mos == pytest.approx(CLEAN)


def test_counters_that_begin_anew_are_no_window() -> None:
    quality = heard(Reception(1000, 100), Reception(100, 0), Reception(600, 0))
    assert quality.heard.spread.weight == 1500


def test_delay_costs_in_both_directions() -> None:
    sample = Sample("PCMU", Reception(500), Reception(500), buffer_delay=0.06, round_trip=0.4)
    quality = windows(sample)
    assert quality.heard.mos == pytest.approx(mean_opinion(rating(G711_WITH_CONCEALMENT, delay=0.02 + 0.2 + 0.06)))
    assert quality.reported.mos == pytest.approx(
        mean_opinion(rating(G711_WITH_CONCEALMENT, delay=0.02 + 0.2 + FAR_BUFFER_SECONDS))
    )


def test_the_far_end_is_rated_by_its_reports_alone() -> None:
    quality = windows(
        Sample("G722", Reception(500)),
        Sample("G722", Reception(1000), Reception(900, 90)),
        Sample("G722", Reception(1500), Reception(900, 90)),
    )
    assert quality.reported.mos == pytest.approx(
        mean_opinion(rating(G711_WITH_CONCEALMENT, 0.1, delay=0.02 + FAR_BUFFER_SECONDS))
    )
    assert quality.heard.mos == pytest.approx(CLEAN)


def test_measures_have_their_mean_and_maximum() -> None:
    quality = windows(
        Sample("PCMU", Reception(500), jitter=0.002, buffer_delay=0.04),
        Sample("PCMU", Reception(1000), jitter=0.010, buffer_delay=0.08, round_trip=0.1),
    )
    assert (quality.jitter.mean, quality.jitter.maximum) == (0.006, 0.010)
    assert quality.buffer_delay.mean == pytest.approx(0.06)
    assert quality.round_trip.mean == quality.round_trip.maximum == 0.1


COUNTS = st.integers(-10, 100_000)
RECEPTIONS = st.builds(Reception, COUNTS, COUNTS, st.none() | COUNTS)
SAMPLES = st.builds(
    Sample,
    st.sampled_from(["PCMU", "G722", "opus", "?"]),
    RECEPTIONS,
    st.none() | RECEPTIONS,
    st.floats(0, 10),
    st.floats(0, 10),
    st.none() | st.floats(0, 100),
)


@given(st.lists(SAMPLES, max_size=10))
def test_whatever_is_counted_the_ratings_stay_on_the_scale(samples: list[Sample]) -> None:
    """A far end may report anything."""
    quality = windows(*samples)
    for ratings in (quality.heard, quality.reported):
        if ratings.mos is not None:
            assert ratings.worst is not None
            assert 1 <= ratings.worst <= ratings.mos + 1e-9 <= 4.42
