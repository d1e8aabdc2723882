"""The Whisper engine on tiny checkpoints: faster-whisper and CTranslate2 are the real ones."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor
from hypothesis import given
from hypothesis import strategies as st

from connector.audio import Audio
from connector.errors import EngineError, ModelMissing
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext, Placement, SpeechToText, Worker
from flavors.engines.faster_whisper import (
    MAX_SECONDS,
    RATE,
    FasterWhisper,
    FasterWhisperOptions,
    descriptor,
    log_mel,
    pieces,
    window_seconds,
)
from tests.fakes import whisper

NOISE = (np.random.default_rng(3).normal(0, 1000, 8000)).astype(np.int16)
UTTERANCE = Audio(NOISE, 8000)


@pytest.fixture(scope="session")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper.build(tmp_path_factory.mktemp("english"), "we open at nine")


@pytest.fixture(scope="session")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("multilingual")
    return whisper.build(folder, "wir öffnen um neun", multilingual=True, language="de")


class Here(LocalEngineHost):
    """Starts every worker in this process, which is quicker than one for each test."""

    async def start(self, factory: Callable[[], Callable[..., Any]], placement: Placement, name: str) -> Worker:
        return await super().start(factory, Placement.THREAD, name)


@asynccontextmanager
async def recogniser(
    model: Path | str, models: Path = Path("models"), *, host: LocalEngineHost | None = None, **options: Any
) -> AsyncIterator[FasterWhisper]:
    host = host or Here()
    values = {"model": str(model), "device": "cpu", "cpu_threads": 1} | options
    context = EngineContext(host=host, models=models)
    engine = await asyncio.to_thread(descriptor.load, FasterWhisperOptions.model_validate(values), context)
    assert isinstance(engine, FasterWhisper)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.aclose()
        await host.aclose()


async def test_an_utterance_at_the_telephones_rate_is_recognised(english: Path) -> None:
    """In a process of its own, as always but in these tests."""
    async with recogniser(english, host=LocalEngineHost()) as engine:
        assert isinstance(engine, SpeechToText)
        heard = await engine.transcribe(UTTERANCE)
    assert heard.text == "we open at nine"
    assert heard.confidence == pytest.approx(1.0)


async def test_a_multilingual_model_in_the_language_chosen(multilingual: Path) -> None:
    async with recogniser(multilingual, language="de", compute_type="int8") as engine:
        assert (await engine.transcribe(UTTERANCE)).text == "wir öffnen um neun"


async def test_a_multilingual_model_that_detects_the_language(multilingual: Path) -> None:
    async with recogniser(multilingual, language=None) as engine:
        assert (await engine.transcribe(UTTERANCE)).text == "wir öffnen um neun"


async def test_an_english_model_without_a_language(english: Path) -> None:
    async with recogniser(english, language=None) as engine:
        assert (await engine.transcribe(UTTERANCE)).text == "we open at nine"


async def test_a_model_in_the_models_folder_is_found_by_its_name(english: Path) -> None:
    async with recogniser(english.name, models=english.parent) as engine:
        await engine.check()


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.02, 9.99, 10.01, 30.0])
async def test_any_length_is_recognised(english: Path, seconds: float) -> None:
    async with recogniser(english) as engine:
        heard = await engine.transcribe(Audio(np.zeros(int(seconds * 8000), np.int16), 8000))
    assert heard.text == ("we open at nine" if seconds else "")


async def test_more_than_whispers_window_is_recognised_in_pieces(english: Path) -> None:
    async with recogniser(english) as engine:
        heard = await engine.transcribe(Audio(np.tile(NOISE, 40), 8000))
    assert heard.text == "we open at nine we open at nine"


async def test_words_that_whisper_invents_for_noise_are_dropped(tmp_path: Path) -> None:
    model = whisper.build(tmp_path, "thank you", no_speech=True, unsure=True)
    async with recogniser(model) as engine:
        assert (await engine.transcribe(UTTERANCE)).text == ""
    async with recogniser(model, min_confidence=0) as engine:
        assert (await engine.transcribe(UTTERANCE)).text == "thank you"


async def test_sure_words_are_kept_though_speech_seems_absent(tmp_path: Path) -> None:
    async with recogniser(whisper.build(tmp_path, "no", no_speech=True)) as engine:
        assert (await engine.transcribe(UTTERANCE)).text == "no"


async def test_a_loop_of_the_decoder_is_not_what_was_heard(tmp_path: Path) -> None:
    model = whisper.build(tmp_path, "bye", repeats=40)
    async with recogniser(model) as engine:
        assert (await engine.transcribe(Audio(np.tile(NOISE, 8), 8000))).text == ""


async def test_hotwords_are_given_to_the_decoder(english: Path) -> None:
    async with recogniser(english, hotwords="Voxtrunk, OpenSIPS") as engine:
        # The checkpoint spells its text at fixed places; a longer prompt starts beyond them.
        assert (await engine.transcribe(UTTERANCE)).text != "we open at nine"


async def test_giving_up_a_recognition_leaves_the_engine_usable(english: Path) -> None:
    async with recogniser(english) as engine:
        task = asyncio.create_task(engine.transcribe(Audio(np.tile(NOISE, 30), 8000)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await engine.transcribe(UTTERANCE)).text == "we open at nine"


# ------------------------------------------------------------------------------ errors


async def test_a_name_that_is_no_model() -> None:
    with pytest.raises(ModelMissing, match="faster-whisper: giant is neither a folder nor a model"):
        async with recogniser("giant"):
            pass


async def test_a_model_that_was_not_fetched() -> None:
    with pytest.raises(ModelMissing, match=r"is neither a folder nor in the cache .* set `download: true`"):
        async with recogniser("voxtrunk-tests/never-fetched"):
            pass


async def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"not a Whisper model for CTranslate2: no model\.bin, config\.json"):
        async with recogniser(tmp_path):
            pass


async def test_a_damaged_model(english: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(english, tmp_path / "damaged")
    os.truncate(damaged / "model.bin", 1000)
    with pytest.raises(EngineError, match="cannot be loaded"):
        async with recogniser(damaged):
            pass


async def test_a_language_that_the_model_does_not_know(english: Path) -> None:
    with pytest.raises(EngineError, match="does not know the language 'de'; it knows en"):
        async with recogniser(english, language="de"):
            pass


async def test_an_unknown_compute_type(english: Path) -> None:
    with pytest.raises(EngineError, match=r"cannot be loaded: .*int7"):
        async with recogniser(english, compute_type="int7"):
            pass


async def test_use_before_start_is_an_error() -> None:
    engine = FasterWhisper(FasterWhisperOptions(), EngineContext(host=LocalEngineHost(), models=Path("models")))
    with pytest.raises(EngineError, match="not started"):
        await engine.transcribe(UTTERANCE)


# ------------------------------------------------------------------------------ windows


@given(st.floats(0, MAX_SECONDS), st.floats(2, MAX_SECONDS))
def test_the_window_holds_the_utterance_and_is_not_longer_than_needed(seconds: float, floor: float) -> None:
    window = window_seconds(seconds, floor)
    assert max(seconds, floor) <= window <= min(MAX_SECONDS, max(floor, seconds + 5))


def test_long_speech_is_cut_where_it_is_quiet() -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 45 * RATE).astype(np.float32)
    samples[int(27.5 * RATE) : int(27.7 * RATE)] = 0
    first, second = pieces(samples)
    assert 27.5 <= len(first) / RATE <= 27.7
    assert np.array_equal(np.concatenate([first, second]), samples)


@pytest.mark.parametrize("level", [0.2, 1e-6])
def test_features_equal_those_of_samples_padded_with_silence(level: float) -> None:
    extractor = FeatureExtractor()
    samples = np.random.default_rng(2).normal(0, level, int(3.21 * RATE)).astype(np.float32)
    padded = np.pad(samples, (0, 10 * RATE - len(samples)))
    assert np.allclose(log_mel(extractor, samples, 10), extractor(padded, padding=0)[..., :1000], atol=1e-3)
