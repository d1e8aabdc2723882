"""Where speech goes on after it was cut off."""

from __future__ import annotations

import numpy as np
import pytest

from connector.audio import Samples
from connector.sender.resumption import resumption
from tests.fakes.audio import tone

RATES = [8000, 16_000, 22_050, 24_000, 48_000]


def heard(rate: int, *parts: tuple[float, float]) -> Samples:
    """Stretches of (level of full scale, seconds), over the faint noise of a synthesiser."""
    voice = np.concatenate([tone(200, seconds, rate, level).samples for level, seconds in parts])
    noise = np.random.default_rng(1).integers(-8, 8, len(voice))
    return (voice + noise).astype(np.int16)


@pytest.mark.parametrize("rate", RATES)
def test_the_gap_before_the_word_is_the_place_though_an_earlier_one_is_longer(rate: int) -> None:
    samples = heard(rate, (0.3, 0.1), (0, 0.2), (0.3, 0.1), (0, 0.08), (0.3, 0.11))
    assert 0.459 <= resumption(samples, rate) / rate <= 0.48, "just before 0.48 s, where the word begins"


@pytest.mark.parametrize("rate", RATES)
def test_the_closure_of_a_plosive_is_not_taken_for_a_gap(rate: int) -> None:
    samples = heard(rate, (0.3, 0.1), (0, 0.1), (0.3, 0.15), (0, 0.04), (0.3, 0.1))
    assert 0.179 <= resumption(samples, rate) / rate <= 0.2


@pytest.mark.parametrize("rate", RATES)
def test_words_that_run_into_each_other_part_where_it_is_quietest(rate: int) -> None:
    samples = heard(rate, (0.3, 0.2), (0.03, 0.03), (0.3, 0.1), (0.1, 0.05), (0.3, 0.12))
    assert 0.195 <= resumption(samples, rate) / rate <= 0.23


def test_in_a_gap_nothing_is_heard_again() -> None:
    assert 0.48 <= resumption(heard(8000, (0.3, 0.3), (0, 0.2)), 8000) / 8000 <= 0.5


def test_in_silence_nothing_is_heard_again() -> None:
    assert resumption(np.zeros(4000, np.int16), 8000) == 3920


@pytest.mark.parametrize("count", [0, 1, 79, 80, 200])
def test_too_little_to_choose_from_is_heard_again_from_its_begin_on(count: int) -> None:
    assert 0 <= resumption(np.full(count, 1000, np.int16), 8000) < max(count, 1)
