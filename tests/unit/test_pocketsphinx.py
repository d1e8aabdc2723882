"""The grammar recogniser: its parts, and the real decoder on real (synthetic) voices."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.offline_rejection import speak, strange_lines, telephone
from connector.audio import Audio
from connector.errors import EngineError, ModelMissing
from connector.host.local import LocalEngineHost
from connector.interfaces import EngineContext, SpeechToText
from flavors.engines._evidence import WEIGHTS, Evidence, Segment, weigh
from flavors.engines.pocketsphinx import (
    RATE,
    PocketSphinxOptions,
    descriptor,
    telephone_to_model,
    word_graph,
    words_of,
)

PHRASES = (
    "What are your opening hours?",
    "where can i park my car",
    "how do i get to your office",
    "i want to talk to a human",
    "do i need an appointment",
    "that is all, thank you",
)
SILENCE = Audio(np.zeros(8000, np.int16), 8000)

# ------------------------------------------------------------------------------------- grammar

words = st.sampled_from(["a", "b", "c", "d"])
phrase_sets = st.sets(st.lists(words, min_size=1, max_size=4).map(tuple), min_size=1, max_size=12)


def accepted(graph: tuple[int, int, list[Any]]) -> Iterator[tuple[str, ...]]:
    """Every word sequence from start to final state."""
    start, final, arcs = graph

    def walk(state: int, said: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if state == final:
            yield said
        for source, target, _, *word in arcs:
            if source == state:
                yield from walk(target, (*said, *word))

    return walk(start, ())


@given(phrase_sets)
def test_the_graph_accepts_the_phrases_and_nothing_else(phrases: set[tuple[str, ...]]) -> None:
    found = list(accepted(word_graph(phrases)))
    assert set(found) == phrases
    assert len(found) == len(phrases)


@given(phrase_sets)
def test_what_leaves_a_state_is_equally_probable_and_certain_together(phrases: set[tuple[str, ...]]) -> None:
    _, final, arcs = word_graph(phrases)
    for state in {arc[0] for arc in arcs} - {final}:
        leaving = [arc[2] for arc in arcs if arc[0] == state]
        assert math.isclose(sum(leaving), 1.0)
        assert len(set(leaving)) == 1


def test_common_endings_are_shared() -> None:
    _, _, arcs = word_graph([("when", "do", "you", "open"), ("why", "do", "you", "open")])
    assert len([arc for arc in arcs if len(arc) == 4]) == 5


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("What's your address?", ("what's", "your", "address")),
        ("I’d like 'that', please!", ("i'd", "like", "that", "please")),
        ("call-back", ("call", "back")),
        ("...", ()),
    ],
)
def test_a_phrase_is_split_as_the_dictionary_writes_words(phrase: str, expected: tuple[str, ...]) -> None:
    assert words_of(phrase) == expected


# --------------------------------------------------------------------------------------- audio


def test_prepared_speech_has_one_level_and_little_silence() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    for peak in (200, 2000, 20000):
        padded = np.pad(tone * peak, (8000, 16000)).astype(np.int16)
        prepared = telephone_to_model(Audio(padded, 8000))
        assert 1.0 < len(prepared) / RATE < 1.5
        assert np.sqrt(np.mean(np.square(prepared[RATE // 2 : RATE].astype(float)))) == pytest.approx(3000, rel=0.05)


def test_silence_is_prepared_to_nothing() -> None:
    assert len(telephone_to_model(SILENCE)) == 0
    assert len(telephone_to_model(Audio(np.empty(0, np.int16), 8000))) == 0


# ------------------------------------------------------------------------------------- evidence


GOOD = [Segment("<sil>", 10, -20.0, 0), Segment("call", 24, -48.0, 3), Segment("back", 24, -72.0, 3)]


def test_evidence_measures_fit_pace_and_length() -> None:
    evidence = weigh(GOOD)
    assert evidence.fit == pytest.approx(-2.5)
    assert evidence.weakest == pytest.approx(-2.5)
    assert evidence.stretch == pytest.approx(0.0)
    assert evidence.length == pytest.approx(math.log(6))


def test_silence_that_swallowed_words_is_evidence_against() -> None:
    swallowed = [*GOOD, Segment("<sil>", 100, -1000.0, 0)]
    assert weigh(swallowed).fit == weigh(GOOD).fit
    assert weigh(swallowed).confidence < weigh(GOOD).confidence


def test_a_worse_fit_and_an_unnatural_pace_are_less_sure() -> None:
    badly = [Segment(segment.text, segment.frames, 3 * segment.likelihood, segment.phones) for segment in GOOD]
    slowly = [Segment(segment.text, 4 * segment.frames, 4 * segment.likelihood, segment.phones) for segment in GOOD]
    assert weigh(badly).confidence < weigh(GOOD).confidence
    assert weigh(slowly).confidence < weigh(GOOD).confidence


@given(st.lists(st.floats(-1e6, 1e6), min_size=len(WEIGHTS), max_size=len(WEIGHTS)))
def test_confidence_is_a_probability(values: list[float]) -> None:
    assert 0.0 <= Evidence(*values).confidence <= 1.0


# -------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    "options",
    [
        {"pronunciations": {"voxtrunk": "V AX"}},
        {"pronunciations": {"voxtrunk": ""}},
        {"pronunciations": {"Two Words": "T UW"}},
        {"min_confidence": 1.5},
        {"max_seconds": 0},
        {"grammar": "x"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PocketSphinxOptions.model_validate(options)


# --------------------------------------------------------------------------------- real decoder


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SpeechToText]:
    pytest.importorskip("pocketsphinx")
    host = LocalEngineHost()
    options = PocketSphinxOptions(pronunciations={"voxtrunk": "V AA K S T R AH NG K"})
    made = descriptor.load(options, EngineContext(host, tmp_path_factory.mktemp("models")))
    assert isinstance(made, SpeechToText)
    await made.start()
    yield made
    await made.aclose()
    await host.aclose()


def heard(text: str, voice: str = "rms", seed: int = 1) -> Audio:
    if shutil.which("flite") is None:
        pytest.skip("flite is not installed: apt install flite")
    return telephone(speak(text, voice), seed)


on_the_engine = pytest.mark.asyncio(loop_scope="module")


@on_the_engine
@pytest.mark.parametrize("phrase", PHRASES)
async def test_a_phrase_is_recognised_over_the_telephone(engine: SpeechToText, phrase: str) -> None:
    transcript = await engine.transcribe(heard(phrase), PHRASES)
    assert transcript.text == phrase
    assert transcript.confidence is not None
    assert transcript.confidence >= 0.5


@on_the_engine
@pytest.mark.parametrize("line", strange_lines()[1::22], ids=lambda line: line.text)
async def test_what_is_not_a_phrase_is_not_taken_for_one(engine: SpeechToText, line: Any) -> None:
    transcript = await engine.transcribe(heard(line.text), PHRASES)
    assert transcript.text not in PHRASES
    assert transcript.confidence is not None
    assert transcript.confidence < 0.5


@on_the_engine
async def test_the_same_audio_is_the_same_transcript(engine: SpeechToText) -> None:
    utterance = heard("where can i park my car")
    assert await engine.transcribe(utterance, PHRASES) == await engine.transcribe(utterance, PHRASES)


@on_the_engine
async def test_without_phrases_words_come_without_confidence(engine: SpeechToText) -> None:
    transcript = await engine.transcribe(heard("good morning"))
    assert transcript.text
    assert transcript.confidence is None


@on_the_engine
async def test_silence_and_nothing_are_empty(engine: SpeechToText) -> None:
    assert (await engine.transcribe(SILENCE, PHRASES)).text == ""
    assert (await engine.transcribe(Audio(np.empty(0, np.int16), 8000), PHRASES)).text == ""
    await engine.check()


@on_the_engine
async def test_a_word_without_pronunciation_is_named(engine: SpeechToText) -> None:
    with pytest.raises(EngineError, match="no pronunciation for flurble, zzyx: add it to `pronunciations`"):
        await engine.transcribe(SILENCE, ["call flurble zzyx please"])
    assert (await engine.transcribe(SILENCE, ["call voxtrunk"])).text == ""


@on_the_engine
async def test_many_phrase_sets_share_the_engine(engine: SpeechToText) -> None:
    utterance = heard("where can i park my car")
    for number in range(12):
        phrases = (*PHRASES, f"number {'nine ' * (number + 1)}")
        assert (await engine.transcribe(utterance, phrases)).text == "where can i park my car"
    assert (await engine.transcribe(utterance, PHRASES)).text == "where can i park my car"


async def test_a_missing_model_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    host = LocalEngineHost()
    made = descriptor.load(PocketSphinxOptions(model=tmp_path), EngineContext(host, tmp_path))
    with pytest.raises(ModelMissing, match="mdef is missing"):
        await made.start()
    await host.aclose()


async def test_before_start_it_says_so(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    made = descriptor.load(PocketSphinxOptions(), EngineContext(LocalEngineHost(), tmp_path))
    assert isinstance(made, SpeechToText)
    with pytest.raises(EngineError, match="not started"):
        await asyncio.wait_for(made.transcribe(SILENCE), 5)
    await made.aclose()
