"""Sample-rate conversion: level, aliases, delay, and independence of how a stream is cut."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest

from connector.audio import Audio, Samples
from connector.codec.resample import Resampler, resample
from tests.fakes.audio import level_db, purity_db, tone

RATIOS = list(permutations([8000, 16_000, 22_050, 24_000, 44_100, 48_000], 2))
"""Every rate of codecs, recognisers and synthesisers into every other."""

each_ratio = pytest.mark.parametrize(("source", "target"), RATIOS)


def middle(samples: Samples, rate: int) -> Samples:
    """Without the edges, where the tone begins and ends at once."""
    return samples[rate // 50 : -rate // 50]


@each_ratio
@pytest.mark.parametrize("share", [0.25, 0.85])
def test_a_tone_of_the_passband_keeps_level_and_purity(source: int, target: int, share: float) -> None:
    frequency = share * min(source, target) / 2
    original = tone(frequency, 0.5, source)
    converted = middle(resample(original, target).samples, target)
    assert level_db(converted) == pytest.approx(level_db(original.samples), abs=0.05)
    assert purity_db(converted, frequency, target) > 55


@pytest.mark.parametrize(
    ("source", "target", "excess"),
    [
        (source, target, excess)
        for source, target in RATIOS
        for excess in (1.16, 1.3, 1.7, 1.95)
        if excess * target < source
    ],
)
def test_a_tone_that_would_alias_into_the_passband_is_gone(source: int, target: int, excess: float) -> None:
    frequency = excess * target / 2
    assert level_db(middle(resample(tone(frequency, 0.5, source, level=0.9), target).samples, target)) < -60


@each_ratio
def test_a_constant_passes_exactly(source: int, target: int) -> None:
    constant = Audio(np.full(source // 10, 12_345, np.int16), source)
    assert set(middle(resample(constant, target).samples, target)) == {12_345}


@each_ratio
def test_the_length_is_kept_and_the_sound_stays_where_it_was(source: int, target: int) -> None:
    frequency = 700
    original = tone(frequency, 0.2, source)
    converted = resample(original, target)
    assert converted.seconds == pytest.approx(original.seconds, abs=1 / target)
    expected = tone(frequency, 0.2, target).samples
    difference = middle(converted.samples, target) - middle(expected[: len(converted.samples)], target)
    assert np.abs(difference).max() <= 8, "a delay of one sample would differ by thousands"


@each_ratio
def test_samples_are_held_back_for_less_than_two_milliseconds(source: int, target: int) -> None:
    resampler = Resampler(source, target)
    given = made = 0
    for frame in np.array_split(tone(440, 1.0, source).samples, 50):
        made += len(resampler.process(frame))
        given += len(frame)
        assert given / source - made / target < 0.002


@each_ratio
def test_no_chunking_changes_a_sample(source: int, target: int) -> None:
    noise = np.random.default_rng(7).integers(-32768, 32767, source // 4, dtype=np.int16)
    whole = resample(Audio(noise, source), target).samples
    for size in (1, 7, source // 50, 5000):
        cuts = [*range(0, len(noise) if size > 1 else 300, size), len(noise)]
        resampler = Resampler(source, target)
        parts = [resampler.process(noise[begin:end]) for begin, end in pairwise(cuts)]
        assert np.array_equal(np.concatenate([*parts, resampler.flush()]), whole)


@each_ratio
def test_the_passband_is_flat_and_the_gain_is_one(source: int, target: int) -> None:
    """Sixteen tones at once, up to 0.85 of the band: none is off by 0.05 dB (ITU-T G.712 allows 0.5)."""
    band = min(source, target) / 2
    frequencies = np.linspace(0.02, 0.85, 16) * band
    phases = np.arange(16) ** 2  # low peaks
    given = sum(
        np.sin(2 * np.pi * f * np.arange(source) / source + p) for f, p in zip(frequencies, phases, strict=True)
    )
    heard = resample(Audio(np.rint(3000 * given).astype(np.int16), source), target).samples
    window = np.hanning(target)
    moments = np.arange(target) / target
    levels = [abs(np.sum(heard * window * np.exp(-2j * np.pi * f * moments))) for f in frequencies]
    gains = 20 * np.log10(np.array(levels) / (3000 / 2 * window.sum()))
    assert np.abs(gains).max() < 0.05


def test_full_scale_is_clipped_and_does_not_wrap_around() -> None:
    square = np.where(np.arange(4000) // 20 % 2 == 0, 32767, -32768).astype(np.int16)
    converted = resample(Audio(square, 8000), 16_000).samples
    assert converted.max() == 32767
    assert converted.min() == -32768
    assert level_db(converted) == pytest.approx(level_db(square), abs=0.5)


def test_a_flushed_resampler_begins_anew() -> None:
    resampler = Resampler(24_000, 8000)
    audio = tone(440, 0.1, 24_000).samples
    first = np.concatenate((resampler.process(audio), resampler.flush()))
    second = np.concatenate((resampler.process(audio), resampler.flush()))
    assert np.array_equal(first, second)


def test_equal_rates_pass_through() -> None:
    audio = tone(440, 0.1)
    assert resample(audio, audio.rate) is audio
    assert Resampler(8000, 8000).process(audio.samples) is audio.samples


def test_nothing_becomes_nothing() -> None:
    assert len(resample(Audio(np.empty(0, np.int16), 24_000), 8000).samples) == 0
