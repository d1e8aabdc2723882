"""G.722: what it carries, its two rates, and its memory."""

from __future__ import annotations

import numpy as np
import pytest

from connector.audio import Samples
from connector.codec.registry import CODECS, Codec, make_codec
from tests.fakes.audio import level_db, purity_db, tone

FRAME = 320


def through(encoder: Codec, decoder: Codec, samples: Samples) -> Samples:
    frames = [samples[begin : begin + FRAME] for begin in range(0, len(samples), FRAME)]
    return np.concatenate([decoder.decode(encoder.encode(frame)) for frame in frames])


@pytest.mark.parametrize(("frequency", "purity"), [(300, 55), (1000, 45), (3000, 38), (6000, 24), (6900, 20)])
def test_speech_up_to_7_khz_passes_at_its_level(frequency: float, purity: float) -> None:
    original = tone(frequency, 1.0, 16_000).samples
    heard = through(make_codec("G722"), make_codec("G722"), original)[4000:12_000]
    assert level_db(heard) == pytest.approx(level_db(original), abs=0.1)
    assert purity_db(heard, frequency, 16_000) > purity


def test_an_octet_is_two_samples_and_one_unit_of_the_timestamp() -> None:
    """RFC 3551 section 4.5.2."""
    codec = make_codec("G722")
    payload = codec.encode(np.zeros(FRAME, np.int16))
    assert (codec.rate, codec.clock_rate) == (16_000, 8000)
    assert (len(payload), codec.duration(payload), len(codec.decode(payload))) == (160, 160, FRAME)
    assert (CODECS["G722"].payload_type, CODECS["G722"].clock_rate) == (9, 8000)


@pytest.mark.parametrize("size", [0, 1, 7, 160, 1500])
def test_any_octets_are_sound_of_their_length(size: int) -> None:
    payload = np.random.default_rng(size).bytes(size)
    codec = make_codec("G722")
    assert len(codec.decode(payload)) == 2 * codec.duration(payload) == 2 * size


def test_words_after_long_silence_begin_undistorted() -> None:
    """Which they would not if one payload of silence were sent again and again (see `memoryless`)."""
    encoder, decoder = make_codec("G722"), make_codec("G722")
    words = tone(1000, 0.2, 16_000).samples
    through(encoder, decoder, words)
    through(encoder, decoder, np.zeros(16_000, np.int16))
    heard = through(encoder, decoder, words)
    assert purity_db(heard[320:1920], 1000, 16_000) > 40
    assert not encoder.memoryless
