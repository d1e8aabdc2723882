"""The silence that a voice begins with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.audio import Audio
from connector.pipeline.leading_silence import LEAD_SECONDS, LONGEST_SECONDS, LeadingSilence
from tests.fakes.engines import join, silence, tone

VOICE = tone(440, 0.3)


def trimmed(speech: Audio, *cuts: int) -> list[int]:
    """What is played of `speech`, streamed in pieces cut at `cuts`."""
    leading = LeadingSilence()
    pieces = np.split(speech.samples, sorted(cuts))
    return [sample for piece in pieces for sample in leading.trim(Audio(piece, speech.rate)).samples.tolist()]


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
def test_a_voice_begins_shortly_before_it_is_audible(rate: int) -> None:
    speech = join(silence(0.23, rate), tone(440, 0.3, rate))
    played = len(trimmed(speech)) / rate
    assert played == pytest.approx(0.3 + LEAD_SECONDS, abs=0.001)


def test_noise_below_speech_is_silence() -> None:
    hiss = np.random.default_rng(1).normal(0, 30, 2000).astype(np.int16)
    assert len(trimmed(join(Audio(hiss, 8000), VOICE))) / 8000 == pytest.approx(0.3 + LEAD_SECONDS, abs=0.001)


def test_a_voice_that_begins_at_once_loses_nothing() -> None:
    assert trimmed(VOICE, 100, 200) == VOICE.samples.tolist()


def test_what_follows_the_beginning_is_left_alone() -> None:
    speech = join(VOICE, silence(0.4), VOICE)
    assert trimmed(speech, 2400, 4000) == speech.samples.tolist()


def test_a_long_silence_is_meant() -> None:
    speech = join(silence(2.0), VOICE)
    assert len(trimmed(speech, 8000)) == len(speech.samples) - LONGEST_SECONDS * 8000


@given(quiet=st.integers(0, 6000), cuts=st.lists(st.integers(0, 8400), max_size=8))
def test_the_pieces_of_a_stream_do_not_matter(quiet: int, cuts: list[int]) -> None:
    speech = join(Audio(np.zeros(quiet, np.int16), 8000), VOICE)
    assert trimmed(speech, *cuts) == trimmed(speech)
