"""The echo, the ear, the reading of engines' streams, and which pipeline a flavor gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest

from connector import pipeline
from connector.audio import Audio, Frame
from connector.config.model import Flavor
from connector.errors import EngineError
from connector.host.vad import BatchedVadService
from connector.interfaces import Digit
from connector.pipeline import Cascade, CascadeEngines, Echo
from connector.pipeline.ear import Ear, utterance
from connector.pipeline.echo import ECHO_FRAMES
from connector.pipeline.streams import PATIENCE, patiently, read
from tests.fakes.audio_port import FakeAudioPort
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.engines import (
    FakeLanguageModel,
    FakeSpeechToText,
    FakeTextToSpeech,
    FakeVad,
    FakeVadService,
    ToneBook,
    tone,
)
from tests.scenarios.conversation import Notes

FRAME = 0.02


class Wire:
    """A tap that keeps both directions."""

    def __init__(self) -> None:
        self.heard: list[Frame] = []
        self.sent: list[Frame] = []

    def received(self, frame: Frame, at: float) -> None:
        self.heard.append(frame)

    def emitted(self, frame: Frame, at: float) -> None:
        self.sent.append(frame)


def samples(frames: list[Frame]) -> list[int]:
    return np.concatenate([frame.samples for frame in frames]).tolist()


# ------------------------------------------------------------------------------ echo


@virtual_time
async def test_the_echo_is_what_was_said_shortly_after() -> None:
    clock = LoopClock()
    async with FakeAudioPort(clock) as port:
        wire = Wire()
        port.tap(wire)
        echo = Echo(port, Notes())
        running = asyncio.create_task(echo.run())
        await clock.sleep(0.5)
        await port.caller_says(tone(440, 1.0))
        await clock.sleep(0.5)
        running.cancel()
        await asyncio.wait([running])
        late = ECHO_FRAMES
        assert samples(wire.sent[late:]) == samples(wire.heard[:-late])


@virtual_time
async def test_the_echo_is_silent_on_hold() -> None:
    clock = LoopClock()
    async with FakeAudioPort(clock) as port:
        wire = Wire()
        port.tap(wire)
        echo = Echo(port, Notes())
        running = asyncio.create_task(echo.run())
        await clock.sleep(0.1)
        echo.hold(True)
        echo.digit(Digit("1"))
        echo.say("nothing")
        await port.caller_says(tone(440, 1.0))
        assert not np.any(samples(wire.sent))
        echo.hold(False)
        await port.caller_says(tone(880, 1.0))
        assert np.any(samples(wire.sent))
        running.cancel()
        await asyncio.wait([running])


# ------------------------------------------------------------------------------ the ear


def heard(ear: Ear, count: int, rate: int = 8000, start: int = 0) -> None:
    """`count` frames whose samples all say their number."""
    for number in range(start, start + count):
        ear.hear(Frame(np.full(round(rate * FRAME), number, np.int16), rate, number * FRAME))


def an_ear(keep: float = 0.5) -> Ear:
    clock = LoopClock()
    ear = Ear(FakeAudioPort(clock, input_delay=0.04), FakeVadService(), clock, keep, lambda *window: None)
    ear.open()
    return ear


@virtual_time
async def test_an_utterance_is_cut_out_of_the_stream() -> None:
    ear = an_ear()
    heard(ear, 100)
    ear.begin(1.5)
    heard(ear, 100, start=100)
    audio = utterance(ear.take(3.0))
    assert audio.seconds == pytest.approx(1.5)
    assert (audio.samples[0], audio.samples[-1]) == (75, 149)


@virtual_time
async def test_no_audio_is_in_two_utterances() -> None:
    ear = an_ear()
    heard(ear, 100)
    ear.begin(1.6)
    first = ear.take(1.9)
    ear.begin(1.7)
    second = ear.take(2.0)
    assert [frame.time for frame in [*first, *second]] == pytest.approx([number * FRAME for number in range(80, 100)])


@virtual_time
async def test_while_nobody_speaks_little_is_kept() -> None:
    ear = an_ear(keep=0.5)
    heard(ear, 10_000)
    ear.begin(0.0)
    assert len(ear.take(1e9)) == pytest.approx(1.0 / FRAME, abs=1)


@virtual_time
async def test_a_closed_ear_hears_nothing() -> None:
    ear = an_ear()
    heard(ear, 10)
    ear.close()
    heard(ear, 10, start=10)
    ear.open()
    heard(ear, 10, start=20)
    assert ear.take(1e9)[0].time == pytest.approx(0.4)


@virtual_time
async def test_media_time_is_mapped_to_arrival() -> None:
    ear = an_ear()
    await asyncio.sleep(7.0)
    heard(ear, 50)
    assert ear.now == pytest.approx(1.0)
    assert ear.wire_time(1.0) == pytest.approx(7.0 - 0.04)
    assert ear.wire_time(0.4) == pytest.approx(7.0 - 0.04 - 0.6)


def test_an_utterance_that_changed_its_rate_has_one() -> None:
    narrow = [Frame(tone(400, FRAME).samples, 8000, 0.0)] * 10
    wide = [Frame(tone(400, FRAME, 16000).samples, 16000, 0.2)] * 10
    audio = utterance([*narrow, *wide])
    assert (audio.rate, audio.seconds) == (16000, pytest.approx(0.4))


# ------------------------------------------------------------------------------ streams


@virtual_time
async def test_a_stream_is_closed_when_its_reader_stops() -> None:
    closed = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
        finally:
            closed.append(True)

    async with aclosing(read(numbers(), "engine")) as stream:
        async for number in stream:
            if number == 3:
                break
    assert closed == [True]


@virtual_time
async def test_a_stream_that_falls_silent_fails() -> None:
    async def stalls() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(PATIENCE * 10)

    stream = read(stalls(), "openai-chat")
    assert await anext(stream) == 1
    with pytest.raises(EngineError, match="openai-chat: nothing came for 20 s") as caught:
        await anext(stream)
    assert caught.value.engine == "openai-chat"


@virtual_time
async def test_a_slow_stream_is_waited_for() -> None:
    async def slow() -> AsyncIterator[int]:
        for number in range(5):
            await asyncio.sleep(PATIENCE * 0.9)
            yield number

    assert [number async for number in read(slow(), "engine")] == [0, 1, 2, 3, 4]
    assert await patiently(asyncio.sleep(PATIENCE * 0.9, "done"), "engine") == "done"


# ------------------------------------------------------------------------------ make


def test_a_flavor_gets_its_pipeline() -> None:
    clock = LoopClock()
    port, notes, book = FakeAudioPort(clock), Notes(), ToneBook()
    engines = CascadeEngines(
        BatchedVadService(FakeVad()), FakeSpeechToText(book), FakeLanguageModel(), FakeTextToSpeech()
    )
    echo, cascade = Flavor(name="echo", pipeline="echo"), Flavor(name="desk")
    assert isinstance(pipeline.make(echo, None, port, notes, clock), Echo)
    assert isinstance(pipeline.make(cascade, engines, port, notes, clock), Cascade)
    with pytest.raises(ValueError, match="desk"):
        pipeline.make(cascade, None, port, notes, clock)


# ------------------------------------------------------------------------------ the fake port keeps the contract


def speech(seconds: float) -> Audio:
    return tone(440, seconds)


@virtual_time
async def test_the_fake_port_counts_what_was_emitted() -> None:
    clock = LoopClock()
    async with FakeAudioPort(clock) as port:
        await clock.sleep(0.005)
        port.write(1, speech(0.5))
        await clock.sleep(0.2)
        assert port.position.seconds == pytest.approx(0.2)
        port.write(1, speech(0.015))
        port.finish(1)
        position = await port.played(1)
        assert (position.generation, position.seconds) == (1, pytest.approx(0.515))
        assert clock.now() == pytest.approx(0.52, abs=FRAME)


@virtual_time
async def test_the_fake_port_drops_what_is_stale() -> None:
    clock = LoopClock()
    async with FakeAudioPort(clock) as port:
        port.write(1, speech(1.0))
        waiting = asyncio.create_task(port.played(1))
        await clock.sleep(0.5)
        position = port.clear()
        assert position.seconds == pytest.approx(0.5, abs=FRAME)
        assert await waiting == position
        port.write(1, speech(1.0))
        port.write(2, speech(0.1))
        port.write(1, speech(1.0))
        assert port.stale == 2
        assert port.buffered == pytest.approx(0.1)
        port.write(3, speech(0.2))
        assert (port.position.generation, port.buffered) == (3, pytest.approx(0.2))


@virtual_time
async def test_the_fake_port_pauses() -> None:
    clock = LoopClock()
    async with FakeAudioPort(clock) as port:
        port.write(1, speech(0.4))
        await clock.sleep(0.19)
        port.pause()
        await clock.sleep(5)
        assert port.position.seconds == pytest.approx(0.2)
        port.resume()
        await clock.sleep(0.1)
        port.pause()
        port.resume(back=0.15)
        assert port.position.seconds == pytest.approx(0.15)
        assert port.buffered == pytest.approx(0.25)
        port.finish(1)
        assert (await port.played(1)).seconds == pytest.approx(0.4)


def test_the_tone_book_reads_what_it_speaks() -> None:
    book = ToneBook()
    said = [book.speak(phrase, 0.3).samples for phrase in ("good morning", "goodbye", "good morning")]
    assert book.read(Audio(np.concatenate(said), 8000)) == ["good morning", "goodbye", "good morning"]
