"""Audio made longer or shorter without a click."""

from __future__ import annotations

import numpy as np
import pytest

from connector.receiver.time_scale import join
from tests.fakes.audio import hears, silence, tone

ANY = -1.0


@pytest.mark.parametrize(("rate", "pitch"), [(8000, 110), (8000, 440), (16_000, 300)])
@pytest.mark.parametrize("backward", [True, False])
def test_a_tone_stays_a_tone(rate: int, pitch: int, backward: bool) -> None:
    samples = tone(pitch, 0.3, rate).samples
    at = rate // 10
    least, most = rate // 50, rate // 50 + rate // 100
    jumps = range(-most, -least + 1) if backward else range(least, most + 1)
    joined = join(samples, at, jumps, rate, 0.95, 0)
    assert joined is not None
    assert hears(np.concatenate((samples[:at], joined)), pitch, rate)
    assert len(samples) - at - len(joined) in jumps


def test_in_a_pause_it_is_exactly_as_much_as_was_wanted() -> None:
    samples = silence(0.3).samples
    joined = join(samples, 800, range(100, 161), 8000, 2.0, 150)
    assert joined is not None
    assert len(joined) == len(samples) - 800 - 150


def test_where_nothing_is_alike_it_is_left_for_later_unless_it_must_be() -> None:
    noise = np.random.default_rng(1).normal(0, 3000, 2400).astype(np.int16)
    assert join(noise, 800, range(100, 161), 8000, 0.9, 0) is None
    assert join(noise, 800, range(100, 161), 8000, ANY, 0) is not None


def test_steps_are_kept() -> None:
    samples = tone(440, 0.3, 16_000).samples
    for begin in (100, 102):
        joined = join(samples, 800, range(begin, 321, 2), 16_000, 0.9, 0)
        assert joined is not None
        assert (len(samples) - 800 - len(joined)) % 2 == 0
