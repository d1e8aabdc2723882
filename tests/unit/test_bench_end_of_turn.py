"""What the measurement of turn detectors makes of sentences."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np
import pytest

from bench.turns.end_of_turn import Judged, Utterance, gaps, over_line, recorded, rows, synthetic, texts_of

RATE = 8000


def noise(seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(1).normal(0, 0.1, round(seconds * RATE))


def test_gaps_lie_between_speech() -> None:
    speech = np.concatenate((noise(1), np.zeros(1600), noise(1), np.zeros(320), noise(0.5)))
    assert gaps(speech) == [(8000, 9600), (17600, 17920)]


def test_silence_after_speech_is_the_line_noise() -> None:
    heard = over_line(noise(1), -40.0, 0.5)
    assert len(heard) == 1.6 * RATE
    assert 20 * np.log10(np.std(heard[-3200:] / 32768)) == pytest.approx(-40, abs=0.5)


async def test_a_sentence_is_cut_where_its_voice_paused() -> None:
    parts = ["I would like to book a table,", "for four people on Friday evening."]
    made = {one.kind: one for one in await asyncio.to_thread(lambda: list(synthetic("flite:slt", 150, parts)))}
    whole, first = made["finished, two parts"], made["cut at a pause"]
    rest = made["finished, after the pause"]
    assert np.array_equal(first.speech, whole.speech[: len(first.speech)])
    assert np.array_equal(rest.speech, whole.speech[-len(rest.speech) :])
    assert 0.3 < len(first.speech) / len(whole.speech) < 0.7


def test_recordings_are_whole_sentences(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("; a comment\na: Please enter your number now.\nb: Thank you.\nc: You have five new...\n")
    assert list(texts_of(texts)) == [("a", "Please enter your number now.")]


def test_a_recording_is_cut_at_a_pause_and_in_a_phrase(tmp_path: Path) -> None:
    speech = np.concatenate((noise(1.2), np.zeros(400), noise(0.6), np.zeros(1600), noise(1)))
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((speech * 32767).astype("<i2").tobytes())
    made = {one.kind: len(one.speech) / RATE for one in recorded(tmp_path / "a.wav", "Some sentence.")}
    assert made == pytest.approx({"finished, one part": 3.05, "cut at a pause": 1.85, "cut in a phrase": 1.2}, abs=0.01)


def test_the_table_tells_how_well_the_kinds_are_told_apart() -> None:
    judged = [
        Judged(kind, "slt", "", -66.0, 0.1, "turn", probability)
        for kind, probability in (("finished, one part", 0.9), ("cut at a pause", 0.1), ("cut at a pause", 0.95))
    ]
    finished, cut = rows(judged)
    assert (finished[0], finished[4], finished[-1]) == ("finished, one part", "1", "")
    assert (cut[0], cut[4], cut[-1]) == ("cut at a pause", "2", "0.50")


def test_utterances_are_at_the_level_of_the_telephone(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((noise(2) * 3276).astype("<i2").tobytes())
    (whole,) = recorded(tmp_path / "a.wav", "")
    assert isinstance(whole, Utterance)
    assert 20 * np.log10(np.std(whole.speech)) == pytest.approx(-20, abs=0.5)
