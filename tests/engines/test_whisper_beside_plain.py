"""Short windows and batches change no words: our recogniser beside faster-whisper's own `transcribe`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connector.audio import Audio
from flavors.engines._whisper_model import load
from flavors.engines.faster_whisper import FasterWhisperOptions, Question, Recognition
from tests.engines.checkpoints.conversation import SENTENCES
from tests.engines.checkpoints.takes import RATE, VOICES, take

UNEQUAL = 0.03
"""Share of the takes in which both may differ: where one of them, or both, misheard."""


@pytest.mark.parametrize("window", [10, 30])
def test_words_equal_those_of_plain_faster_whisper(whisper_model: Path, window: int) -> None:
    from faster_whisper import WhisperModel

    chosen = {"device": "cpu", "compute_type": "int8", "cpu_threads": 1}
    plain = WhisperModel(str(whisper_model), **chosen)
    ours = load(
        FasterWhisperOptions.model_validate({"model": str(whisper_model), "window_seconds": window, **chosen}), Path()
    )
    random = np.random.default_rng(11)
    said = [
        take(sentence, voice, random, telephone=telephone)
        for sentence in SENTENCES
        for voice in VOICES[:2]
        for telephone in (True, False)
    ]
    expected = [_plainly(plain, samples) for samples in said]
    questions = [Question(Audio(np.rint(samples * 32768).astype(np.int16), RATE), "en") for samples in said]
    heard: list[str] = []
    for batch in (questions[start : start + 16] for start in range(0, len(questions), 16)):
        for answer in ours(batch):
            assert isinstance(answer, Recognition)
            heard.append(answer.text)
    unequal = [pair for pair in zip(expected, heard, strict=True) if pair[0] != pair[1]]
    assert len(unequal) <= UNEQUAL * len(said), unequal


def _plainly(model: Any, samples: np.ndarray[tuple[int], np.dtype[np.float32]]) -> str:
    # Padded with silence, as Whisper learnt: faster-whisper pads features with zeros, which a model so small takes for
    # a sound that it never heard.
    segments, _ = model.transcribe(
        np.pad(samples, (0, 30 * RATE - len(samples))),
        language="en",
        beam_size=1,
        temperature=0.0,
        without_timestamps=True,
        condition_on_previous_text=False,
        compression_ratio_threshold=None,
        log_prob_threshold=None,
        no_speech_threshold=None,
    )
    return " ".join(segment.text.strip() for segment in segments)
