"""A line that returns the agent's own voice: with audio processing, the agent does not interrupt itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from connector.host import BatchedAudioService
from connector.interfaces import AudioPort, Digit, Pipeline, PipelineObserver
from connector.pipeline.cascade import Cascade, CascadeEngines
from connector.pipeline.echo import Echo
from connector.pipeline.processed import ProcessedPort, processed
from tests.fakes.audio_port import FakeAudioPort
from tests.fakes.audio_processor import EchoingPort, FakeAudioProcessor
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.engines import (
    FakeLanguageModel,
    FakeSpeechToText,
    FakeTextToSpeech,
    FakeVadService,
    ToneBook,
    silence,
    tone,
)
from tests.scenarios.conversation import FLAVOR, Notes

ECHO_FRAMES = 8
"""160 ms."""


@dataclass
class Talk:
    """A conversation on an echoing line."""

    port: FakeAudioPort
    pipeline: Pipeline
    notes: Notes
    processor: FakeAudioProcessor
    book: ToneBook


@asynccontextmanager
async def talk(*, processing: bool) -> AsyncIterator[Talk]:
    """The agent's greeting has begun when the body runs."""
    clock, book, notes = LoopClock(), ToneBook(), Notes()
    processor = FakeAudioProcessor(echo_frames=ECHO_FRAMES)
    llm = FakeLanguageModel({"what is the time": ["It is noon."]})
    engines = CascadeEngines(FakeVadService(), FakeSpeechToText(book), llm, FakeTextToSpeech())

    async def make(port: AudioPort, observer: PipelineObserver) -> Pipeline:
        return Cascade(FLAVOR, engines, port, observer, clock)

    service = BatchedAudioService(processor, clock)
    async with EchoingPort(clock, ECHO_FRAMES) as port:
        pipeline = await (processed(make, service, port, notes) if processing else make(port, notes))
        running = asyncio.create_task(pipeline.run(), name="pipeline")
        try:
            yield Talk(port, pipeline, notes, processor, book)
        finally:
            running.cancel()
            await asyncio.wait([running])
            await service.aclose()


@virtual_time
async def test_without_processing_the_agent_does_not_interrupt_itself_either() -> None:
    async with talk(processing=False) as call:
        await call.notes.wait_for_turns(1)
        assert not call.notes.turns[0].interrupted
        assert call.notes.turns[0].spoken == FLAVOR.greeting
        await asyncio.sleep(2)
        assert len(call.notes.turns) == 1


@virtual_time
async def test_with_processing_it_is_heard_to_the_end() -> None:
    async with talk(processing=True) as call:
        await call.notes.wait_for_turns(1)
        assert not call.notes.turns[0].interrupted
        assert call.notes.turns[0].spoken == FLAVOR.greeting


@virtual_time
async def test_the_caller_is_still_heard_while_the_agent_speaks() -> None:
    """The words of a barge-in arrive whole: the echo was taken out of them, and nothing else."""
    async with talk(processing=True) as call:
        await asyncio.sleep(0.5)
        await call.port.caller_says(call.book.speak("what is the time"))
        await call.notes.wait_for_turns(2)
        assert call.notes.turns[0].interrupted
        assert call.notes.turns[1].heard == "what is the time"
        assert call.notes.turns[1].reply == "It is noon."


@virtual_time
async def test_keys_holds_and_announcements_reach_the_pipeline() -> None:
    async with talk(processing=True) as call:
        await asyncio.sleep(0.3)
        call.pipeline.hold(True)
        await asyncio.sleep(5)
        voiced = len(call.port.voice)
        assert voiced < 30
        call.pipeline.hold(False)
        await call.notes.wait_for_turns(1)
        assert call.notes.turns[0].spoken == FLAVOR.greeting
        call.pipeline.say("One moment.")
        await call.notes.wait_for_turns(2)
        assert call.notes.turns[1].spoken == "One moment."
        call.pipeline.digit(Digit("1"))
        await call.notes.wait_for_turns(3)
        assert call.notes.turns[2].heard == "1"


@virtual_time
async def test_the_end_of_a_call_ends_its_stream() -> None:
    async with talk(processing=True) as call:
        await asyncio.sleep(0.3)
    batches = len(call.processor.batches)
    assert call.processor.forgotten == [1]
    await asyncio.sleep(1)
    assert len(call.processor.batches) == batches


@virtual_time
async def test_every_frame_goes_with_what_was_emitted_before_it() -> None:
    async with talk(processing=True) as call:
        await asyncio.sleep(1)
    assert len(call.processor.batches) >= 49
    assert all(len(captured.rendered) == 1 for batch in call.processor.batches[1:] for captured in batch)


@virtual_time
async def test_what_the_processing_takes_is_part_of_the_input_delay() -> None:
    """The end of the caller's speech is mapped to the wire as without it."""
    clock = LoopClock()
    service = BatchedAudioService(FakeAudioProcessor(seconds=0.005), clock)
    async with FakeAudioPort(clock, input_delay=0.04) as port:
        heard = ProcessedPort(port, service)
        heard.open()
        heard.listen(lambda frame: None)
        await asyncio.sleep(0.1)
        assert heard.input_delay == pytest.approx(0.04 + 0.005 + 0.01)
        heard.close()
    await service.aclose()


@virtual_time
async def test_an_echo_pipeline_returns_what_the_processing_leaves() -> None:
    clock = LoopClock()
    service = BatchedAudioService(FakeAudioProcessor(echo_frames=10_000), clock)

    async def make(port: AudioPort, observer: PipelineObserver) -> Pipeline:
        return Echo(port, observer)

    async with FakeAudioPort(clock) as port:
        pipeline = await processed(make, service, port, Notes())
        running = asyncio.create_task(pipeline.run(), name="pipeline")
        await port.caller_says(tone(400, 0.5))
        await port.caller_says(silence(0.5))
        running.cancel()
        await asyncio.wait([running])
        assert port.voice_between(0, clock.now()) > 0.5
    await service.aclose()
