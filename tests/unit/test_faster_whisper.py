"""The Whisper engine on tiny checkpoints: faster-whisper and CTranslate2 are the real ones."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ctranslate2 import StorageView
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor
from hypothesis import given
from hypothesis import strategies as st

from connector.audio import Audio
from connector.errors import EngineError, EngineRefused, ModelMissing
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext, Placement, SpeechToText, Transcript, Worker
from flavors.engines._resample import resample
from flavors.engines._whisper_audio import MAX_SECONDS, RATE, log_mel, pieces, window_seconds
from flavors.engines._whisper_model import Recogniser, load
from flavors.engines.faster_whisper import FasterWhisper, FasterWhisperOptions, Question, Recognition, descriptor
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
    """Starts every worker in this process, which is quicker than one for each test, and notes what they are asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[float]] = []
        """Seconds of each utterance, batch by batch."""

    async def start(self, factory: Callable[[], Callable[..., Any]], placement: Placement, name: str) -> Worker:
        def noting() -> Callable[..., Any]:
            recogniser = factory()

            def recognise(questions: Sequence[Question]) -> Any:
                self.asked.append([question.audio.seconds for question in questions])
                return recogniser(questions)

            return recognise

        return await super().start(noting, Placement.THREAD, name)


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
@pytest.mark.parametrize("rate", [8000, 16000, 24000])
async def test_any_length_at_any_rate_is_recognised(english: Path, seconds: float, rate: int) -> None:
    async with recogniser(english) as engine:
        heard = await engine.transcribe(Audio(np.full(int(seconds * rate), 1000, np.int16), rate))
    assert heard.text == ("we open at nine" if seconds else "")


async def test_more_than_whispers_window_is_recognised_in_pieces(english: Path) -> None:
    async with recogniser(english) as engine:
        heard = await engine.transcribe(Audio(np.tile(NOISE, 40), 8000))
    assert heard.text == "we open at nine we open at nine"


# ------------------------------------------------------------------------------ batches


def noise(seconds: float, seed: int = 0) -> Audio:
    return Audio(np.random.default_rng(seed).normal(0, 1000, int(seconds * 8000)).astype(np.int16), 8000)


async def test_utterances_of_many_calls_are_recognised_together(english: Path) -> None:
    host = Here()
    async with recogniser(english, host=host, max_batch=16) as engine:
        heard = await asyncio.gather(*(engine.transcribe(noise(1 + n / 10, n)) for n in range(20)))
    assert [transcript.text for transcript in heard] == ["we open at nine"] * 20
    assert [len(batch) for batch in host.asked] == [16, 4]


async def test_batches_reach_the_process_of_the_model(english: Path) -> None:
    async with recogniser(english, host=LocalEngineHost()) as engine:
        heard = await asyncio.gather(*(engine.transcribe(noise(1, n)) for n in range(5)))
        assert (engine.batches.batches, engine.batches.questions) == (2, 5)
    assert [transcript.text for transcript in heard] == ["we open at nine"] * 5


async def test_only_utterances_of_one_window_share_a_batch(english: Path) -> None:
    host = Here()
    async with recogniser(english, host=host, window_seconds=5) as engine:
        await asyncio.gather(*(engine.transcribe(noise(seconds, seed=seconds)) for seconds in (1, 7, 2, 8, 3)))
    assert host.asked == [[1, 2, 3], [7, 8]]


async def test_the_newest_question_about_an_utterance_goes_before_older_ones(english: Path) -> None:
    host = Here()
    speech = noise(3, seed=1)
    grown = [
        Audio(np.concatenate((speech.samples[: int(seconds * 8000)], np.zeros(1600, np.int16))), 8000)
        for seconds in (1.0, 1.8, 2.8)
    ]
    async with recogniser(english, host=host, max_batch=1) as engine:
        await asyncio.gather(*(engine.transcribe(audio) for audio in (noise(0.5, seed=2), *grown, noise(1.5, seed=3))))
    assert host.asked == [[0.5], [3.0], [1.5], [1.2], [2.0]]


async def test_callers_whose_lines_are_muted_before_they_speak_do_not_overtake_each_other(english: Path) -> None:
    host = Here()
    muted = np.zeros(2400, np.int16)
    short, long = (
        Audio(np.concatenate((muted, noise(seconds, seed=seed).samples)), 8000) for seconds, seed in ((0.2, 1), (2, 2))
    )
    async with recogniser(english, host=host, max_batch=1) as engine:
        await asyncio.gather(*(engine.transcribe(audio) for audio in (noise(1), short, long)))
    assert host.asked == [[1.0], [0.5], [2.3]]


async def test_a_question_that_is_given_up_leaves_the_queue(english: Path) -> None:
    host = Here()
    async with recogniser(english, host=host, max_batch=1) as engine:
        first = asyncio.create_task(engine.transcribe(noise(1.0)))
        stale = asyncio.create_task(engine.transcribe(noise(1.1, seed=1)))
        last = asyncio.create_task(engine.transcribe(noise(1.2, seed=2)))
        await asyncio.sleep(0)
        stale.cancel()
        assert (await first).text == (await last).text == "we open at nine"
    assert host.asked == [[1.0], [1.2]]


async def test_a_question_that_cannot_be_answered_fails_alone(english: Path) -> None:
    async with recogniser(english) as engine:
        questions = [Question(noise(1, n), "xx" if n == 2 else "en") for n in range(5)]
        answers = await asyncio.gather(*map(engine.recognise, questions), return_exceptions=True)
    assert isinstance(answers[2], EngineRefused)
    assert "does not know the language 'xx'" in str(answers[2])
    assert [getattr(answer, "text", None) for answer in answers] == [
        "we open at nine", "we open at nine", None, "we open at nine", "we open at nine",
    ]  # fmt: skip


def test_a_language_that_the_model_does_not_know_holds_nobody_up(english: Path) -> None:
    """What is refused is not looked at, and the others are looked at once."""

    class Counting(WhisperModel):
        encoded = 0

        def encode(self, features: np.ndarray) -> StorageView:
            self.encoded += len(features)
            return super().encode(features)

    model = Counting(str(english), device="cpu", cpu_threads=1)
    recognise = Recogniser(model, FasterWhisperOptions(device="cpu"))
    answers = recognise([Question(noise(1, n), "xx" if n == 2 else "en") for n in range(5)])
    assert [isinstance(answer, EngineRefused) for answer in answers] == [False, False, True, False, False]
    assert model.encoded == 4
    assert [type(answer) for answer in recognise([Question(noise(1), "xx")])] == [EngineRefused]


async def test_each_utterance_of_a_batch_has_its_own_language(multilingual: Path) -> None:
    async with recogniser(multilingual, language=None) as engine:
        questions = [Question(noise(1, n), language) for n, language in enumerate([None, "fr", None, "en"])]
        answers = await asyncio.gather(*map(engine.recognise, questions))
    assert [answer.language for answer in answers] == ["de", "fr", "de", "en"]


async def test_an_utterance_is_understood_in_a_batch_as_it_is_alone(english: Path) -> None:
    """To the last bit of what the model thinks of it: batches change no words."""
    recognise = await asyncio.to_thread(
        load, FasterWhisperOptions(model=str(english), device="cpu", cpu_threads=1), Path("models")
    )
    questions = [Question(noise(1 + n, n), "en") for n in range(4)]
    together = recognise(questions)
    alone = [answer for question in questions for answer in recognise([question])]
    for both in zip(together, alone, strict=True):
        one, other = both
        assert isinstance(one, Recognition)
        assert isinstance(other, Recognition)
        assert one.text == other.text
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)


async def test_who_waits_when_the_engine_is_closed_is_told(english: Path) -> None:
    async with recogniser(english) as engine:
        waiting = [asyncio.create_task(engine.transcribe(noise(1, n))) for n in range(4)]
        await asyncio.sleep(0)
        await engine.aclose()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, EngineError) and "closed" in str(answer) for answer in answers)


async def test_the_process_that_was_killed_is_started_anew(english: Path) -> None:
    async with recogniser(english, host=LocalEngineHost()) as engine:
        [process] = multiprocessing.active_children()
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="died; the next call starts it anew"):
            await engine.transcribe(UTTERANCE)
        assert (await engine.transcribe(UTTERANCE)).text == "we open at nine"


# ------------------------------------------------------------------------------ invented text


@pytest.mark.parametrize("level", [0, 20])
async def test_nothing_is_made_of_silence_and_the_model_is_not_asked(english: Path, level: int) -> None:
    host = Here()
    silence = np.random.default_rng(4).integers(-level, level + 1, 16000).astype(np.int16)
    async with recogniser(english, host=host) as engine:
        heard = await engine.transcribe(Audio(silence, 8000))
    assert heard == Transcript("")
    assert host.asked == []


@pytest.mark.parametrize(
    "credit",
    [
        "Thanks for watching!",
        "Thank you so much for watching.",
        "Subtitles by the Amara.org community",
        "Untertitelung des ZDF, 2020",
        "Sous-titres réalisés par la communauté",
    ],
)
async def test_the_credits_of_films_are_not_what_a_caller_said(tmp_path: Path, credit: str) -> None:
    async with recogniser(await asyncio.to_thread(whisper.build, tmp_path, credit)) as engine:
        assert (await engine.transcribe(UTTERANCE)).text == ""


@pytest.mark.parametrize("words", ["Thank you.", "Thank you for your help", "subtitles", "I want to subscribe"])
async def test_a_caller_may_say_what_resembles_them(tmp_path: Path, words: str) -> None:
    async with recogniser(await asyncio.to_thread(whisper.build, tmp_path, words)) as engine:
        assert (await engine.transcribe(UTTERANCE)).text == words


async def test_thanks_without_speech_are_dropped_however_sure(tmp_path: Path) -> None:
    model = await asyncio.to_thread(whisper.build, tmp_path, "Thank you.", no_speech=True)
    async with recogniser(model) as engine:
        assert (await engine.transcribe(UTTERANCE)).text == ""


async def test_words_that_whisper_invents_for_noise_are_dropped(tmp_path: Path) -> None:
    model = whisper.build(tmp_path, "we see", no_speech=True, unsure=True)
    async with recogniser(model) as engine:
        assert (await engine.transcribe(UTTERANCE)).text == ""
    async with recogniser(model, min_confidence=0) as engine:
        assert (await engine.transcribe(UTTERANCE)).text == "we see"


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


async def test_an_utterance_is_encoded_in_a_window_no_longer_than_it_needs(tmp_path: Path) -> None:
    """The checkpoint's encoder holds 10 s, and fails on what is padded to Whisper's 30."""
    model = await asyncio.to_thread(whisper.build, tmp_path, "we open at nine", seconds=10)
    async with recogniser(model) as engine:
        assert (await engine.transcribe(noise(3))).text == "we open at nine"
        with pytest.raises(EngineError, match=r"expected an input with shape \(1, 80, 1000\)"):
            await engine.transcribe(noise(11))


@given(st.floats(0, MAX_SECONDS), st.floats(2, MAX_SECONDS))
def test_the_window_holds_the_utterance_and_is_not_longer_than_needed(seconds: float, floor: float) -> None:
    window = window_seconds(seconds, floor)
    assert max(seconds, floor) <= window <= min(MAX_SECONDS, max(floor, seconds + 5))


@pytest.mark.parametrize("rate", [8000, 11025, 16000])
def test_long_speech_is_cut_where_it_is_quiet(rate: int) -> None:
    samples = np.random.default_rng(1).normal(0, 3000, 45 * rate).astype(np.int16)
    samples[int(27.5 * rate) : int(27.7 * rate)] = 0
    first, second = pieces(Audio(samples, rate))
    assert 27.5 <= first.seconds <= 27.7
    assert np.array_equal(np.concatenate([first.samples, second.samples]), samples)


@pytest.mark.parametrize("level", [6000, 1, 0])
def test_features_equal_those_of_samples_padded_with_silence(level: float) -> None:
    extractor = FeatureExtractor()
    samples = np.random.default_rng(2).normal(0, level, int(3.21 * RATE)).astype(np.int16)
    padded = np.pad(samples.astype(np.float32) / 32768, (0, 10 * RATE - len(samples)))
    features = log_mel(extractor.mel_filters, Audio(samples, RATE), 10)
    assert np.allclose(features, extractor(padded, padding=0)[..., :1000], atol=1e-3)


def test_telephone_audio_has_the_features_that_resampling_would_give_it() -> None:
    filters = FeatureExtractor().mel_filters
    telephone = noise(3.0)
    direct = log_mel(filters, telephone, 10)
    usual = log_mel(filters, Audio(resample(telephone, RATE), RATE), 10)
    # But for the edges of a cut that no caller makes: the noise begins and ends within a sample.
    difference = np.abs(direct - usual)[:, 3:298]
    passed = int(np.searchsorted(np.argmax(filters, axis=1) * 40, 3200))
    assert difference[:passed].max() < 5e-3
    assert difference.mean() < 3e-3
