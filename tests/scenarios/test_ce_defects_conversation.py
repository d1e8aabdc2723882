"""Defects known from the field, each shown on a variant of ours that has it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

import pytest
from blockbuster import BlockingError

from connector.audio import Audio, Frame
from connector.host import LocalEngineHost
from connector.interfaces import HangUp, Message, Placement, ReplyEvent, TextDelta, Transcript
from connector.pipeline.cascade import Cascade
from connector.pipeline.exchange import Exchange
from connector.pipeline.passages import Passage
from connector.pipeline.responder import Responder
from connector.turn.barge_in import VOICED_SECONDS
from tests.fakes.clock import run_virtual
from tests.fakes.engines import FakeLanguageModel, silence
from tests.scenarios.conversation import FRAME, WINDOW, Conversation, MakeCascade, Notes

HOURS = "We are open from nine to five on every working day. On Saturdays we open at ten and close at two."


# ------------------------------------------------------------------------------ whole-reply TTS


class WholeReply(Responder):
    """Speaks only what is complete."""

    async def _think(self, exchange: Exchange, pieces: asyncio.Queue[Passage | None]) -> None:
        await super()._think(exchange, asyncio.Queue())
        for piece in (*exchange.pieces, None):
            pieces.put_nowait(piece)


async def the_voice_begins_with_the_first_sentence(make: MakeCascade) -> None:
    async with Conversation(answers={"opening hours": [HOURS, 3.0, " Goodbye."]}, make=make) as talk:
        turn = await talk.asks("opening hours")
        assert turn.timing.first_audio is not None
        assert turn.timing.first_audio < talk.llm.finished_at[0] - 3.0


def test_the_voice_does_not_wait_for_the_whole_reply() -> None:
    run_virtual(the_voice_begins_with_the_first_sentence(Cascade))
    with pytest.raises(AssertionError):
        run_virtual(the_voice_begins_with_the_first_sentence(partial(Cascade, responder=WholeReply)))


# ------------------------------------------------------------------------------ barge-in with the next answer only


class LateBargeIn(Cascade):
    """Lets the old reply play until the next one supersedes it."""

    def _watch_for_interruption(self, at: float) -> None:
        """It is not looked for."""


async def the_voice_stops_when_the_caller_speaks(make: MakeCascade) -> None:
    async with Conversation(answers={"opening hours": [HOURS]}, make=make) as talk:
        await talk.says("opening hours")
        await talk.until_voice()
        await talk.clock.sleep(1)
        began = talk.clock.now()
        await talk.says("stop please")
        latest = began + VOICED_SECONDS + WINDOW + 2 * FRAME
        assert talk.port.voice_between(latest, talk.clock.now()) == 0


def test_barge_in_does_not_wait_for_the_next_answer() -> None:
    run_virtual(the_voice_stops_when_the_caller_speaks(Cascade))
    with pytest.raises(AssertionError):
        run_virtual(the_voice_stops_when_the_caller_speaks(LateBargeIn))


# ------------------------------------------------------------------------------ only text that ends in . ? !


class OnlySentencesHeard(Responder):
    """Answers only to recognised text that ends like a sentence."""

    async def recognise(self, frames: Sequence[Frame]) -> str:
        words = await super().recognise(frames)
        return words if words.endswith((".", "?", "!")) else ""


class OnlySentencesSpoken(Responder):
    """Speaks only what ends like a sentence."""

    async def _say(self, exchange: Exchange, piece: Passage) -> None:
        if piece.text.endswith((".", "?", "!")):
            await super()._say(exchange, piece)


async def words_without_punctuation_are_heard_and_spoken(make: MakeCascade) -> None:
    async with Conversation(answers={"where are you": ["We are at the station"]}, make=make) as talk:
        await talk.says("where are you")
        await talk.clock.sleep(5)
        assert [turn.spoken for turn in talk.notes.turns] == ["We are at the station"]


@pytest.mark.parametrize("broken", [OnlySentencesHeard, OnlySentencesSpoken])
def test_nothing_has_to_end_like_a_sentence(broken: type[Responder]) -> None:
    run_virtual(words_without_punctuation_are_heard_and_spoken(Cascade))
    with pytest.raises(AssertionError):
        run_virtual(words_without_punctuation_are_heard_and_spoken(partial(Cascade, responder=broken)))


# ------------------------------------------------------------------------------ engines that reach through the call


class ReachingModel(FakeLanguageModel):
    """Holds the call and ends it itself instead of asking for it."""

    call: Notes

    async def reply(self, history: Sequence[Message]) -> AsyncIterator[ReplyEvent]:
        yield TextDelta("Goodbye, and thank you for calling.")
        self.call.act(HangUp())


async def the_goodbye_is_heard_before_the_call_ends(llm: FakeLanguageModel) -> None:
    async with Conversation(llm=llm) as talk:
        if isinstance(llm, ReachingModel):
            llm.call = talk.notes
        await talk.asks("bye")
        [(at, _)] = talk.notes.actions
        assert at >= talk.port.voice[-1][0]


def test_engines_ask_and_the_call_acts() -> None:
    asking = FakeLanguageModel({"bye": ["Goodbye, and thank you for calling.", HangUp()]})
    run_virtual(the_goodbye_is_heard_before_the_call_ends(asking))
    with pytest.raises(AssertionError):
        run_virtual(the_goodbye_is_heard_before_the_call_ends(ReachingModel()))


# ------------------------------------------------------------------------------ blocking calls on the event loop


def compute(utterance: Audio) -> Transcript:
    """Keeps its thread busy for half a second, as a recogniser does."""
    time.sleep(0.5)
    return Transcript("hello")


async def most_lag(work: Callable[[], Awaitable[object]]) -> float:
    """The most by which the event loop is late while `work` goes on, in seconds."""
    loop = asyncio.get_running_loop()
    working = asyncio.ensure_future(work())
    most = 0.0
    while not working.done():
        due = loop.time() + 0.005
        await asyncio.sleep(0.005)
        most = max(most, loop.time() - due)
    await working
    return most


async def test_a_computing_engine_does_not_delay_the_event_loop() -> None:
    utterance = silence(1.0)
    host = LocalEngineHost()
    worker = await host.start(lambda: compute, Placement.THREAD, "recogniser")

    async def blocking() -> object:
        return compute(utterance)

    assert await most_lag(lambda: worker.run(utterance)) < 0.25
    assert await most_lag(blocking) >= 0.25
    await host.aclose()


def test_the_detector_of_blocking_calls_sees_engines() -> None:
    """The same engine without a host is caught in every test that has a conversation."""

    class Blocking(FakeLanguageModel):
        async def reply(self, history: Sequence[Message]) -> AsyncIterator[ReplyEvent]:
            compute(silence(0.1))
            yield TextDelta("Too late.")

    async def talk() -> None:
        async with Conversation(llm=Blocking()) as talk:
            await talk.asks("hello")

    with pytest.raises(ExceptionGroup) as caught:
        run_virtual(talk())
    assert caught.group_contains(BlockingError)
