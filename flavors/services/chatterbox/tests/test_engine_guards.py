"""How long a text may take, and how its speech ends."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="runs in the environment of Chatterbox: see `make test-engines`")

from chatterbox_service.engine import NothingToSay
from chatterbox_service.guards import Tail, bounds
from chatterbox_service.text import prepare

RATE = 24000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Hi.", 0.5),
        ("We open at nine on Saturday, and close at five in the afternoon.", 4.5),
        ("Your number is 4 7 1 1 0 8 1 5.", 6.0),
        ("我们星期六早上九点开门。", 3.5),
    ],
)
def test_unhurried_speech_is_within_the_bounds(text: str, seconds: float) -> None:
    length = bounds(text)
    assert length.least <= seconds * 25 <= length.most
    assert length.most <= 4 * seconds * 25 + 100


def test_what_no_one_can_say_is_refused() -> None:
    with pytest.raises(NothingToSay, match="nothing to say"):
        bounds(" ... — !")


@pytest.mark.parametrize("written", ["½", "x²", "①", "Ⅳ", "፩", "〇", "٣", "Yes. ½."])
def test_whatever_number_is_left_of_a_text_can_be_said(written: str) -> None:
    pieces = prepare(written)
    assert pieces
    assert all(bounds(piece).most > 0 for piece in pieces)


def tone(seconds: float, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(np.arange(round(seconds * RATE)) * 2 * np.pi * 200 / RATE)).astype(np.float32)


def ended(audio: np.ndarray, chunk: float) -> np.ndarray:
    """What is heard of it in chunks of so many seconds."""
    tail, size = Tail(RATE), round(chunk * RATE)
    begins = range(0, len(audio), size)
    return np.concatenate([tail(audio[begin : begin + size], last=begin == begins[-1]) for begin in begins])


@pytest.mark.parametrize("chunk", [0.2, 0.33, 5.0])
def test_noise_after_the_last_sound_is_cut_and_the_end_fades(chunk: float) -> None:
    noise = np.random.default_rng(0).normal(scale=5e-4, size=RATE // 3).astype(np.float32)
    heard = ended(np.concatenate([tone(1.0), noise]), chunk)
    assert len(heard) / RATE == pytest.approx(1.15, abs=0.02)
    np.testing.assert_array_equal(heard[: RATE - 10], tone(1.0)[: RATE - 10])
    assert abs(heard[-1]) < 1e-4


def test_a_pause_is_no_end() -> None:
    audio = np.concatenate([tone(0.5), np.zeros(RATE, np.float32), tone(0.5)])
    heard = ended(audio, 0.2)
    assert len(heard) == len(audio)
    np.testing.assert_array_equal(heard[:-480], audio[:-480])


def test_speech_that_is_cut_off_fades() -> None:
    heard = ended(tone(1.0), 0.3)
    assert len(heard) == RATE
    assert np.abs(heard[-5:]).max() < 0.01


def test_quiet_speech_is_heard() -> None:
    heard = ended(tone(1.0, level=0.003), 0.2)
    assert len(heard) == RATE
