"""The engines' resampler: rates, level, aliases, and any length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.audio import Audio
from flavors.engines._resample import resample

RATES = [(8000, 16_000), (16_000, 8000), (22_050, 16_000), (24_000, 16_000), (48_000, 16_000), (22_050, 8000)]


def sine(frequency: float, rate: int, seconds: float = 1.0) -> Audio:
    time = np.arange(int(rate * seconds)) / rate
    return Audio(np.rint(10_000 * np.sin(2 * np.pi * frequency * time)).astype(np.int16), rate)


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("frequency", [100.0, 1000.0, 3000.0])
def test_a_tone_stays_what_and_where_it_is(source: int, target: int, frequency: float) -> None:
    resampled = resample(sine(frequency, source), target)
    expected = sine(frequency, target).samples
    middle = slice(target // 10, -target // 10)
    assert len(resampled) == target
    assert np.abs(resampled[middle].astype(float) - expected[middle]).max() < 10


@pytest.mark.parametrize(("source", "target", "frequency"), [(16_000, 8000, 4700.0), (48_000, 16_000, 9500.0)])
def test_what_the_lower_rate_cannot_carry_is_gone(source: int, target: int, frequency: float) -> None:
    resampled = resample(sine(frequency, source), target)
    assert np.abs(resampled[target // 10 : -target // 10]).max() < 10


@given(st.integers(0, 400), st.sampled_from(RATES), st.integers(-32768, 32767))
def test_any_length_and_level(samples: int, rates: tuple[int, int], level: int) -> None:
    source, target = rates
    resampled = resample(Audio(np.full(samples, level, np.int16), source), target)
    assert resampled.dtype == np.int16
    assert len(resampled) == -(-samples * target // source)
