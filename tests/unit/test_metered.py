"""What a conversation asks of its engines, as its record and the metrics tell of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import pytest

from connector.audio import Audio
from connector.errors import EngineError
from connector.interfaces import (
    EngineKind,
    LanguageModel,
    Message,
    ReplyEvent,
    Role,
    ServiceOutcome,
    ServiceUse,
    SpeechToText,
    TextDelta,
    TextToSpeech,
    TokenUsage,
    TurnDetector,
    TurnRecord,
    TurnTiming,
)
from connector.pipeline.cached_speech import CachedSpeech, SpeechCache
from connector.pipeline.meter import LOADED_RATIO, Meter
from connector.pipeline.metered import KEPT, Metering
from connector.pipeline.streams import PATIENCE, closing, read
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.engines import FakeLanguageModel, FakeSpeechToText, FakeTextToSpeech, ToneBook, join, silence

QUESTION = [Message(Role.USER, "what is the time")]
T = TypeVar("T")


class Detector:
    """Implements `TurnDetector`: sure after 30 ms."""

    async def start(self) -> None: ...

    async def check(self) -> None: ...

    async def aclose(self) -> None: ...

    async def probability(self, utterance: Audio) -> float:
        await asyncio.sleep(0.03)
        return 0.9


class Stage:
    """A conversation's engines, its metering, and what the meters that all calls share were told."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.book = ToneBook()
        self.stt = FakeSpeechToText(self.book)
        self.llm = FakeLanguageModel({"what is the time": ["It is noon."]})
        self.tts = FakeTextToSpeech()
        self.told: list[ServiceUse] = []
        kinds = (EngineKind.STT, EngineKind.TURN_DETECTOR, EngineKind.LLM, EngineKind.TTS)
        self.meters = {kind: Meter(kind, f"fake-{kind.value}", self.told.append) for kind in kinds}
        self.metering = Metering(self.clock, self.meters)

    async def hear(self, *phrases: str) -> float:
        """Recognises `phrases` as one utterance; returns when that was done."""
        audio = join(*(self.book.speak(phrase) for phrase in phrases))
        await self.metering.stt(self.stt).transcribe(audio)
        return self.clock.now()

    async def think(self, generation: int) -> list[ReplyEvent]:
        return await gathered(self.metering.llm(self.llm, generation).reply(QUESTION))

    async def speak(self, generation: int, text: str) -> None:
        await gathered(self.metering.tts(self.tts, generation).synthesize(text))

    def settle(self, generation: int, heard: float = 100.0, **timing: float) -> TurnRecord:
        record = TurnRecord(generation, "what is the time", "It is noon.", "", False, None, TurnTiming(**timing))
        return self.metering.settle(record, heard)


async def gathered(stream: AsyncIterator[T]) -> list[T]:
    return [item async for item in stream]


def outcomes(record: TurnRecord) -> list[tuple[str, str]]:
    return [(use.kind.value, use.outcome.value) for use in record.services]


@virtual_time
async def test_a_turn_tells_what_it_took_and_when() -> None:
    stage = Stage()
    transcribed = await stage.hear("what is the time")
    await stage.think(1)
    await stage.speak(1, "It is noon.")
    record = stage.settle(1, decided=0.0, transcribed=transcribed)
    stt, llm, tts = record.services
    assert (record.wasted, record.speculations) == (0, 0)
    assert outcomes(record) == [("stt", "used"), ("llm", "used"), ("tts", "used")]
    assert (stt.engine, stt.generation, stt.audio_in, stt.characters_out) == ("fake-stt", None, 1.0, 16)
    assert stt.first == stt.ended == pytest.approx(0.12)
    assert (llm.generation, llm.characters_in, llm.characters_out, llm.tokens_out) == (1, 16, 11, 3)
    assert llm.first == pytest.approx(llm.started + 0.15)
    assert llm.ended == pytest.approx(llm.started + 0.21)
    assert tts.characters_in == 11
    assert tts.audio_out == pytest.approx(11 / 15, abs=0.001)
    assert tts.first == pytest.approx(tts.started + 0.15)
    assert (record.timing.recognition, record.timing.first_sentence) == (stt.started, tts.started)
    assert stage.told == list(record.services)


async def test_the_wrappers_are_engines_themselves() -> None:
    stage = Stage()
    llm = stage.metering.llm(stage.llm, 1)
    assert isinstance(llm, LanguageModel)
    assert isinstance(stage.metering.stt(stage.stt), SpeechToText)
    assert isinstance(stage.metering.tts(stage.tts, 1), TextToSpeech)
    assert isinstance(stage.metering.turn_detector(Detector()), TurnDetector)
    assert llm.phrases == stage.llm.phrases
    await llm.start()
    assert stage.llm.started == 1


@virtual_time
async def test_recognitions_that_a_later_one_replaced_were_in_vain() -> None:
    stage = Stage()
    await stage.hear("what is")
    transcribed = await stage.hear("what is", "the time")
    assert await stage.metering.turn_detector(Detector()).probability(silence(1.0)) == 0.9
    await stage.hear("what is", "the time")
    record = stage.settle(1, decided=stage.clock.now(), transcribed=transcribed)
    assert outcomes(record) == [("stt", "wasted"), ("stt", "used"), ("turn_detector", "used"), ("stt", "wasted")]
    assert record.wasted == 2
    assert record.timing.recognition == pytest.approx(0.12)


@virtual_time
async def test_a_dropped_speculation_is_waste_and_the_one_that_was_heard_is_not() -> None:
    stage = Stage()
    await stage.think(1)
    await stage.speak(1, "It is noon.")
    await stage.think(2)
    decided = stage.clock.now() + 0.01
    await stage.speak(2, "It is noon.")
    record = stage.settle(2, decided=decided)
    assert outcomes(record) == [("llm", "wasted"), ("tts", "wasted"), ("llm", "used"), ("tts", "used")]
    assert (record.speculations, record.wasted) == (2, 2)


@virtual_time
async def test_an_answer_that_was_begun_once_the_turn_was_taken_is_no_speculation() -> None:
    stage = Stage()
    await stage.think(1)
    assert stage.settle(1, decided=0.0).speculations == 0


@virtual_time
async def test_sentences_that_an_interruption_kept_from_being_heard_were_in_vain() -> None:
    stage = Stage()
    await stage.think(1)
    for text in ("A sentence of two seconds, all.", "And another one of two seconds."):
        await stage.speak(1, text)
    heard_half, heard_both = 1.0, 2.5
    assert outcomes(stage.settle(1, heard_half)) == [("llm", "used"), ("tts", "used"), ("tts", "wasted")]
    await stage.think(2)
    for text in ("A sentence of two seconds, all.", "And another one of two seconds."):
        await stage.speak(2, text)
    assert stage.settle(2, heard_both).wasted == 0


@virtual_time
async def test_an_answer_of_which_nothing_was_heard_was_in_vain() -> None:
    stage = Stage()
    await stage.think(1)
    await stage.speak(1, "It is noon.")
    assert outcomes(stage.settle(1, heard=0.0)) == [("llm", "wasted"), ("tts", "wasted")]


@virtual_time
async def test_a_cancelled_task_aborts_the_engine_and_is_noted_as_broken_off() -> None:
    stage = Stage()
    hearing = asyncio.create_task(stage.hear("what is the time"))
    thinking = asyncio.create_task(stage.think(1))
    await stage.clock.sleep(0.05)
    for task in (hearing, thinking):
        task.cancel()
    await asyncio.wait([hearing, thinking])
    record = stage.settle(1, heard=0.0)
    assert (stage.stt.aborted, stage.llm.aborted) == (1, 1)
    assert outcomes(record) == [("stt", "cancelled"), ("llm", "cancelled")]
    assert {(use.first, use.ended) for use in record.services} == {(None, 0.05)}
    assert record.wasted == 2
    assert [meter.in_flight for meter in stage.meters.values()] == [0, 0, 0, 0]


@virtual_time
async def test_a_stream_that_is_closed_half_way_aborts_the_engine_and_keeps_its_notes() -> None:
    stage = Stage()
    async with closing(stage.metering.tts(stage.tts, 1).synthesize("A sentence of two seconds, all.")) as chunks:
        await anext(chunks)
    (use,) = stage.settle(1, heard=0.1).services
    assert stage.tts.aborted == 1
    assert (use.outcome, use.audio_out) == (ServiceOutcome.USED, 0.2)


@virtual_time
async def test_what_still_runs_when_the_turn_is_over_is_given_up_now_and_told_once() -> None:
    """The voice that an interruption stops has not been told yet."""
    stage = Stage()
    speaking = asyncio.create_task(stage.speak(1, "A sentence of two seconds, all."))
    await stage.clock.sleep(0.2)
    (use,) = stage.settle(1, heard=0.1).services
    assert (use.outcome, use.ended) == (ServiceOutcome.USED, 0.2)
    assert stage.meters[EngineKind.TTS].in_flight == 1
    speaking.cancel()
    await asyncio.wait([speaking])
    stage.metering.close()
    assert stage.told == [use]
    assert stage.meters[EngineKind.TTS].in_flight == 0


@virtual_time
async def test_a_failure_is_raised_and_noted_and_is_no_waste() -> None:
    stage = Stage()
    stage.stt.failing = stage.llm.failing = True
    stage.tts.fail_on.add("It is noon.")
    with pytest.raises(EngineError):
        await stage.hear("what is the time")
    with pytest.raises(EngineError):
        await stage.think(1)
    with pytest.raises(EngineError):
        await stage.speak(1, "It is noon.")
    record = stage.settle(1)
    assert outcomes(record) == [("stt", "failed"), ("llm", "failed"), ("tts", "failed")]
    assert record.wasted == 0


@virtual_time
async def test_an_engine_that_falls_silent_has_failed() -> None:
    stage = Stage()
    stage.llm.first_token = 2 * PATIENCE
    with pytest.raises(EngineError, match="fake-llm: nothing came"):
        await gathered(read(stage.metering.llm(stage.llm, 1).reply(QUESTION), "fake-llm"))
    (use,) = stage.settle(1).services
    assert use.outcome is ServiceOutcome.FAILED
    assert use.ended == PATIENCE


@virtual_time
async def test_the_engines_own_count_of_tokens_is_taken_and_passed_to_nobody() -> None:
    stage = Stage()
    stage.llm = FakeLanguageModel({"what is the time": ["It is noon.", TokenUsage(40, 5)]})
    events = await stage.think(1)
    assert events == [TextDelta("It"), TextDelta(" is"), TextDelta(" noon.")]
    (use,) = stage.settle(1).services
    assert (use.tokens_in, use.tokens_out) == (40, 5)


@virtual_time
async def test_what_listens_to_the_interruption_belongs_to_the_next_turn() -> None:
    stage = Stage()
    taken = await stage.hear("what is the time")
    await stage.speak(1, "It is noon.")
    transcribed = await stage.hear("stop")
    assert outcomes(stage.settle(1, transcribed=taken)) == [("stt", "used"), ("tts", "used")]
    assert outcomes(stage.settle(2, transcribed=transcribed)) == [("stt", "used")]


@virtual_time
async def test_a_reply_that_is_already_begun_belongs_to_its_own_turn() -> None:
    stage = Stage()
    await stage.speak(1, "Hello.")
    await stage.think(2)
    assert outcomes(stage.settle(1)) == [("tts", "used")]
    assert outcomes(stage.settle(2)) == [("llm", "used")]


@virtual_time
async def test_what_no_turn_came_of_is_told_at_the_end_of_the_conversation() -> None:
    stage = Stage()
    await stage.hear("noise")
    stage.metering.close()
    stage.metering.close()
    assert [use.outcome for use in stage.told] == [ServiceOutcome.WASTED]


@virtual_time
async def test_an_hour_of_noise_leaves_no_endless_list() -> None:
    stage = Stage()
    stage.stt.delay = 0.0
    for _ in range(KEPT + 20):
        await stage.hear("noise")
    assert len(stage.told) == 20
    assert len(stage.settle(1).services) == KEPT


@virtual_time
async def test_speech_from_the_cache_is_no_request() -> None:
    stage = Stage()
    voice = CachedSpeech(stage.tts, SpeechCache(["Hello."]))
    await voice.prepare("fake-tts")
    for text in ("Hello.", "It is noon."):
        await gathered(stage.metering.tts(voice, 1).synthesize(text))
    assert [use.characters_in for use in stage.settle(1).services] == [len("It is noon.")]


# ------------------------------------------------------------------------------ load


async def ask(stage: Stage, calls: int) -> None:
    """So many calls ask at once."""
    await asyncio.gather(*(stage.think(generation) for generation in range(calls)))


@virtual_time
async def test_requests_of_all_calls_count_while_they_run() -> None:
    stage = Stage()
    others = Metering(stage.clock, stage.meters)
    meter = stage.meters[EngineKind.LLM]
    asking = [
        asyncio.create_task(gathered(each.llm(stage.llm, 1).reply(QUESTION))) for each in (stage.metering, others)
    ]
    await stage.clock.sleep(0.1)
    assert meter.in_flight == 2
    await asyncio.wait(asking)
    assert meter.in_flight == 0
    assert meter.first_seconds == pytest.approx(0.15)


@virtual_time
async def test_an_engine_is_loaded_while_answers_begin_later_than_without_others() -> None:
    stage = Stage()
    await stage.think(1)
    assert not stage.metering.loaded()
    stage.llm.first_token *= LOADED_RATIO * 2
    await ask(stage, 20)
    assert stage.metering.loaded()
    stage.llm.first_token = 0.15
    await ask(stage, 20)
    assert not stage.metering.loaded()


@virtual_time
async def test_an_engine_that_answers_nobody_is_loaded_before_the_first_answer_tells() -> None:
    stage = Stage()
    await stage.think(1)
    stage.llm.first_token = 10.0
    asking = asyncio.create_task(ask(stage, 20))
    await stage.clock.sleep(0.2)
    assert not stage.metering.loaded()
    await stage.clock.sleep(0.2)
    assert stage.metering.loaded()
    asking.cancel()
    await asyncio.wait([asking])
    assert stage.meters[EngineKind.LLM].in_flight == 0


@virtual_time
async def test_a_recogniser_that_takes_longer_for_a_longer_utterance_is_not_taken_for_loaded() -> None:
    stage = Stage()
    await stage.hear("what is")
    stage.stt.delay = 3.0
    hearing = [asyncio.create_task(stage.hear("what is the time")) for _ in range(3)]
    await asyncio.wait(hearing)
    assert not stage.metering.loaded()


@virtual_time
async def test_a_fast_engine_is_not_loaded_for_a_few_milliseconds_more() -> None:
    stage = Stage()
    stage.llm.first_token = 0.002
    await stage.think(1)
    stage.llm.first_token = 0.02
    await ask(stage, 20)
    assert not stage.metering.loaded()


def test_an_engine_of_which_nothing_is_known_is_not_loaded() -> None:
    meter = Meter(EngineKind.LLM, "vllm")
    meter.begin(0.0)
    assert not meter.loaded(now=100.0)


@virtual_time
async def test_engines_without_shared_meters_are_metered_all_the_same() -> None:
    metering = Metering(LoopClock())
    phrases: Sequence[str] = ["hello"]
    book = ToneBook()
    await metering.stt(FakeSpeechToText(book)).transcribe(book.speak("hello"), phrases)
    record = metering.settle(TurnRecord(1, "hello", "", "", False, None, TurnTiming()))
    assert [(use.engine, use.outcome) for use in record.services] == [("stt", ServiceOutcome.WASTED)]
