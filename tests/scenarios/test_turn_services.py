"""What whole conversations tell of the work of their engines."""

from __future__ import annotations

from collections import Counter

from connector.interfaces import ServiceOutcome, TurnRecord
from connector.record import WireTurn, latency
from tests.fakes.clock import virtual_time
from tests.scenarios.conversation import Conversation

LONG = "A reply that goes on for much longer than anybody would care to listen to it. " * 3


def outcomes(record: TurnRecord, kind: str) -> Counter[str]:
    return Counter(use.outcome.value for use in record.services if use.kind.value == kind)


@virtual_time
async def test_a_turn_tells_which_requests_its_answer_took() -> None:
    async with Conversation(answers={"what is the time": ["It is noon."]}) as talk:
        record = await talk.asks("what is the time")
    assert record.spoken == "It is noon."
    assert outcomes(record, "stt")["used"] == 1
    assert outcomes(record, "llm")["used"] == outcomes(record, "tts")["used"] == 1
    for use in record.services:
        assert use.started <= use.ended
        assert use.first is None or use.started <= use.first <= use.ended


@virtual_time
async def test_an_answer_that_the_caller_outran_was_in_vain() -> None:
    """The caller goes on after a pause in which an answer was begun."""
    async with Conversation(end_silence=1.0) as talk:
        await talk.says("what is the time")
        await talk.clock.sleep(0.5)
        record = await talk.asks("please")
    assert record.heard == "what is the time please"
    assert record.speculations == 2
    assert record.wasted >= 2
    assert outcomes(record, "llm")["used"] == 1
    assert sum(outcomes(record, "llm").values()) == 2


@virtual_time
async def test_an_interrupted_answer_was_used_as_far_as_it_was_heard() -> None:
    async with Conversation(answers={"tell me all": [LONG], "stop it now": ["Very well."]}) as talk:
        await talk.says("tell me all")
        await talk.until_voice()
        await talk.clock.sleep(0.5)
        await talk.says("stop it now")
        await talk.notes.wait_for_turns(2)
    interrupted, answer = talk.notes.turns
    assert interrupted.interrupted
    assert outcomes(interrupted, "llm") == {"used": 1}
    assert outcomes(interrupted, "tts")["used"] == 1
    assert outcomes(interrupted, "stt")["used"] == outcomes(answer, "stt")["used"] == 1
    assert answer.heard == "stop it now"


@virtual_time
async def test_a_failure_is_told_with_the_turn_that_it_cost() -> None:
    async with Conversation() as talk:
        talk.llm.failing = True
        record = await talk.asks("what is the time")
    assert set(outcomes(record, "llm")) == {"failed"}
    assert record.error == "fake-llm: out of order"


@virtual_time
async def test_the_parts_of_the_silence_are_those_of_the_answer_that_was_heard() -> None:
    async with Conversation(answers={"what is the time": ["It is noon."]}) as talk:
        end = await talk.says("what is the time")
        heard = await talk.until_voice()
        await talk.notes.wait_for_turns(1)
    (record,) = talk.notes.turns
    measured = latency(record.timing, WireTurn(None, end, heard, None))
    parts = measured.parts_ms
    assert measured.silence_ms == parts.total
    assert parts.stt == round(talk.stt.delay * 1000)
    assert parts.llm == round(talk.llm.first_token * 1000)
    assert parts.tts == round(talk.tts.first_audio * 1000)
    assert all(use.outcome is not ServiceOutcome.FAILED for use in record.services)
