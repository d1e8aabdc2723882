"""The first and the last seconds of a call: greeting, impatient caller, farewell. Real call and conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from connector.call.call import FAREWELL_SECONDS
from connector.config.model import Flavor
from connector.host.vad import BatchedVadService
from connector.interfaces import AudioPort, Established, Party, Pipeline, PipelineObserver, Terminated
from connector.pipeline.cached_speech import CachedSpeech, SpeechCache
from connector.pipeline.cascade import Cascade, CascadeEngines
from connector.pipeline.echo import ECHO_BEHIND, Echo
from connector.pipeline.responder import pieces_of
from connector.pipeline.streams import read
from connector.record import CallRecord
from tests.fakes.audio_port import FakeAudioPort
from tests.fakes.calls import Stage, over
from tests.fakes.clock import virtual_time
from tests.fakes.engines import FakeLanguageModel, FakeSpeechToText, FakeTextToSpeech, FakeVad, ToneBook
from tests.fakes.leg import FakeLeg

FRAME = 0.02
GREETING = "Hello, how can I help you?"
FAREWELL = "Our time is over, goodbye."
DESK = Flavor(name="desk", greeting=GREETING)


@dataclass
class Desk:
    """A call that was taken at time 0 and answered at once; its ACK is up to the test."""

    flavor: Flavor
    stage: Stage = field(default_factory=Stage)
    book: ToneBook = field(default_factory=ToneBook)
    tts: FakeTextToSpeech = field(default_factory=FakeTextToSpeech)

    def __post_init__(self) -> None:
        self.clock = self.stage.clock
        self.stage.flavor = self.flavor
        self.port = FakeAudioPort(self.clock)
        self.leg = FakeLeg(self.port, acknowledges=False)
        self.stt = FakeSpeechToText(self.book)
        self.llm = FakeLanguageModel()
        self.cache = SpeechCache()

    async def acknowledged(self, at: float) -> None:
        """The ACK arrives at clock time `at`."""
        await self.clock.sleep(at - self.clock.now())
        self.leg.emit(Established())

    async def hung_up(self) -> CallRecord:
        """The caller hangs up."""
        self.leg.emit(Terminated(Party.CALLER, "BYE"))
        (record,) = await over(self.stage)
        return record


@asynccontextmanager
async def a_desk(flavor: Flavor, kept: Iterable[str] = ()) -> AsyncIterator[Desk]:
    """`kept`: the texts whose speech is there already."""
    desk = Desk(flavor)
    desk.cache = SpeechCache(kept)
    vad = BatchedVadService(FakeVad())
    voice = CachedSpeech(desk.tts, desk.cache)
    async with desk.port:
        for text in kept:
            async for _ in read(voice.synthesize(text), "voice"):
                pass
        desk.tts.calls.clear()

        def conversation(port: AudioPort, observer: PipelineObserver) -> Pipeline:
            return Cascade(flavor, CascadeEngines(vad, desk.stt, desk.llm, voice), port, observer, desk.clock)

        desk.stage.registry.take(desk.stage.call(desk.leg, pipeline=conversation))
        yield desk
        await desk.stage.registry.stop()
    await vad.aclose()


@virtual_time
@pytest.mark.parametrize("wait", [0.001, 0.007, 0.05, 0.313])
async def test_a_kept_greeting_begins_with_the_packet_after_the_acknowledgement(wait: float) -> None:
    async with a_desk(DESK, [GREETING]) as desk:
        began = desk.clock.now()
        await desk.acknowledged(began + wait)
        await desk.clock.sleep(5)
        assert desk.port.voice[0][0] - (began + wait) <= FRAME + 1e-6
        assert desk.tts.calls == []
        assert len(desk.port.voice) * FRAME == pytest.approx(desk.tts.seconds(GREETING), abs=FRAME)
        record = await desk.hung_up()
    assert [turn.spoken for turn in desk.stage.monitor.turns] == [GREETING]
    assert record.errors == []


@virtual_time
async def test_another_greeting_is_synthesised_while_the_acknowledgement_is_on_its_way() -> None:
    async with a_desk(DESK) as desk:
        await desk.acknowledged(at=0.5)
        await desk.clock.sleep(5)
        assert desk.port.voice[0][0] - 0.5 <= FRAME + 1e-6
        assert desk.tts.texts == [GREETING]
        await desk.hung_up()


@virtual_time
async def test_what_a_caller_says_before_the_acknowledgement_is_answered() -> None:
    """The ACK got lost and comes with the first repetition of the 200, half a second later."""
    async with a_desk(DESK.model_copy(update={"greeting": ""})) as desk:
        await desk.clock.sleep(0.1)
        await desk.port.caller_says(desk.book.speak("is anybody there", 1.0))
        await desk.acknowledged(at=1.2)
        await desk.clock.sleep(6)
        (turn,) = desk.stage.monitor.turns
        assert (turn.heard, turn.spoken) == ("is anybody there", "You said is anybody there.")
        await desk.hung_up()


@virtual_time
async def test_nothing_is_heard_of_a_call_that_nobody_acknowledges() -> None:
    async with a_desk(DESK, [GREETING]) as desk:
        await desk.clock.sleep(30)
        assert not desk.port.voice
        desk.leg.emit(Terminated(Party.SYSTEM, "no ACK"))
        (record,) = await over(desk.stage)
        assert record.reason == "no ACK"


@virtual_time
async def test_the_apology_is_heard_when_the_voice_is_down_too() -> None:
    async with a_desk(DESK.model_copy(update={"greeting": "", "apology": "Sorry."}), ["Sorry."]) as desk:
        await desk.acknowledged(desk.clock.now() + 0.05)
        desk.llm.failing = desk.tts.failing = True
        await desk.port.caller_says(desk.book.speak("what is the time", 1.0))
        await desk.clock.sleep(5)
        (turn,) = desk.stage.monitor.turns
        assert (turn.heard, turn.spoken, turn.error) == ("what is the time", "Sorry.", "fake-llm: out of order")
        assert len(desk.port.voice) * FRAME == pytest.approx(desk.tts.seconds("Sorry."), abs=FRAME)
        await desk.hung_up()


@virtual_time
async def test_a_call_that_lasts_too_long_ends_with_the_last_word_of_its_farewell() -> None:
    flavor = DESK.model_copy(update={"farewell": FAREWELL, "max_seconds": 60.0})
    async with a_desk(flavor, [GREETING, FAREWELL]) as desk:
        began = desk.clock.now()
        await desk.acknowledged(began + 0.05)
        (record,) = await over(desk.stage)
        assert desk.stage.monitor.turns[-1].spoken == FAREWELL
        assert (record.ended_by, record.reason) == (Party.SYSTEM, "maximum duration")
        said = sum(desk.tts.seconds(piece.text) for piece in pieces_of(FAREWELL))
        assert desk.port.voice_between(began + 60, began + 70) == pytest.approx(said, abs=FRAME)
        assert record.duration_seconds == pytest.approx(60 + said, abs=0.2)
        assert said < FAREWELL_SECONDS


@virtual_time
async def test_a_caller_who_does_not_stop_talking_is_hung_up_on_all_the_same() -> None:
    flavor = DESK.model_copy(update={"farewell": FAREWELL, "max_seconds": 60.0})
    async with a_desk(flavor, [GREETING, FAREWELL]) as desk:
        began = desk.clock.now()
        await desk.acknowledged(began + 0.05)
        await desk.clock.sleep(58)
        await desk.port.caller_says(desk.book.speak("and another thing", 15.0))
        (record,) = await over(desk.stage)
        assert record.duration_seconds == pytest.approx(60 + FAREWELL_SECONDS, abs=0.1)
        assert record.reason == "maximum duration"


@virtual_time
async def test_an_echo_is_no_later_for_a_late_acknowledgement() -> None:
    stage = Stage()
    async with FakeAudioPort(stage.clock) as port:
        leg = FakeLeg(port, acknowledges=False)
        stage.registry.take(stage.call(leg, pipeline=Echo))
        await stage.clock.sleep(2)
        leg.emit(Established())
        await stage.clock.sleep(1)
        assert port.buffered <= ECHO_BEHIND + FRAME
        assert port.voice_between(2.5, 3.0) == pytest.approx(0.5, abs=FRAME)
        leg.emit(Terminated(Party.CALLER, "BYE"))
        await over(stage)
