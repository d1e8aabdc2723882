"""The servers of the GPU box, killed with -9 in mid-sentence: the next engine goes on, and the first one comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest

from connector.app import App
from connector.cli.phone.caller import Caller
from connector.config.model import Settings
from connector.interfaces import ServiceOutcome
from connector.pipeline.circuit import CircuitState
from connector.record import CallRecord, Turn
from tests.engines import telephone
from tests.engines.checkpoints.conversation import exchange
from tests.engines.servers import Server
from tests.engines.telephone import Line, ask_and_hold, calling, until, voice
from tests.fakes.calls import FakeMonitor

SILENCE = 1.5
"""Seconds that a caller may hear nothing for."""

QUESTION = exchange("what time do you open on saturday")

Part = Literal["stt", "llm", "tts"]

FIRST = {"stt": "openai-transcriptions", "llm": "openai-chat", "tts": "openai-speech"}

BUSY = {"llm": telephone.WRITING, "tts": "chatterbox_active_streams"}
"""The gauge by which a server tells that it is at work."""

SCRIPTED = "On Saturdays we are there from nine to one."

SCRIPT = f"{{engine: intents, intents: [{{name: hours, phrases: [{QUESTION.said}], replies: {SCRIPTED}}}]}}"
"""What answers in the model's place."""

VOICE = "{engine: espeak-ng, rate: 250}"

AT_EASE = ", deadline: 10"
"""A machine without a GPU, which other work keeps busy, may take longer to begin than a flavor would wait."""

ENDLESS = f"{AT_EASE}, max_tokens: 1800, extra_body: {{ignore_eos: true}}"
"""A reply with a middle to be killed in: the micro Llama writes what it has learnt within a tenth of a second."""


class Box:
    """The servers, and flavors of which one part is asked of a server first, and of another engine after it."""

    def __init__(self, folder: Path, model: Path, servers: dict[Part, Server]) -> None:
        self.servers = servers
        self._folder = folder
        self._model = model

    async def settings(self, part: Part, more: str = "") -> Settings:
        """`more`: options of the first engine of `part`."""
        whisper, script, vllm = telephone.whisper_here(self._model), SCRIPT, telephone.chat(self.servers["llm"])
        parts = {"stt": whisper, "llm": vllm, "tts": VOICE}
        match part:
            case "stt":
                parts[part] = f"[{telephone.service(FIRST[part], self.servers[part], more)}, {whisper}]"
            case "llm":
                parts[part] = f"[{telephone.chat(self.servers[part], more)}, {script}]"
            case "tts":
                parts[part] = f"[{telephone.service(FIRST[part], self.servers[part], more)}, {VOICE}]"
        # An answer that was begun before the end of the turn would be written by the time that it is heard.
        return await telephone.settings(self._folder, **parts, speculate=False)


@pytest.fixture
def box(tmp_path: Path, whisper_model: Path, whisper: Server, vllm: Server, chatterbox: Server) -> Box:
    return Box(tmp_path, whisper_model, {"stt": whisper, "llm": vllm, "tts": chatterbox})


async def ask(caller: Caller) -> float:
    """Says `QUESTION` and hears the answer begin; returns the clock time at which the question ended."""
    said = await caller.say(await voice(QUESTION.said))
    assert await caller.wait_for_speech(20, after=said.end)
    return said.end


async def back(app: App, seconds: float = 180) -> None:
    """Waits until every engine is asked again."""
    async with asyncio.timeout(seconds):
        while any(rung.circuit is not CircuitState.CLOSED for rung in app.rungs()):  # noqa: ASYNC110 - a server's
            await asyncio.sleep(0.05)


def longest_silence(caller: Caller, after: float) -> float:
    """Between clock time `after` and the end of what the agent said, in seconds, as the caller heard it."""
    spurts = [(max(spurt.start, after), spurt.end) for spurt in caller.heard.spurts if spurt.end > after]
    return max(start - end for (_, end), (start, _) in pairwise([(after, after), *spurts]))


def requests(turn: Turn, part: Part) -> list[tuple[int | None, ServiceOutcome]]:
    """What was asked of the engines of `part`, and what became of it."""
    return [(service.rung, service.outcome) for service in turn.services if service.kind.value == part]


def assert_taken_over(record: CallRecord, number: int, part: Part, cause: str = "") -> None:
    """In the turn `number` the second engine of `part` went on where the first one failed, and the record says so."""
    turn = record.turns[number]
    assert (turn.heard, turn.error) == (QUESTION.said, None)
    assert turn.spoken == turn.reply
    assert (1, ServiceOutcome.FAILED) in requests(turn, part)
    assert requests(turn, part)[-1] == (2, ServiceOutcome.USED)
    assert record.summary.failovers >= 1
    told = [error for error in record.errors if error.startswith(f"turn {number}: {part} 1, {FIRST[part]}: ")]
    assert any(cause in error for error in told), record.errors


def assert_first_again(turn: Turn, part: Part) -> None:
    """The first engine of `part` has served `turn`, alone."""
    assert (turn.heard, turn.error) == (QUESTION.said, None)
    assert {rung for rung, _ in requests(turn, part)} == {1}
    assert not turn.failovers


@pytest.mark.parametrize(("part", "more"), [("tts", AT_EASE), ("llm", ENDLESS)])
async def test_a_server_killed_in_mid_answer_is_hardly_noticed(
    box: Box, part: Part, more: str, record_property: Callable[[str, object], None]
) -> None:
    server, monitor = box.servers[part], FakeMonitor()
    async with calling(await box.settings(part, more), monitor) as line:
        await ready(line, box)
        if part == "llm":
            await ask_and_hold(line.caller, server, QUESTION.said)
        else:
            await ask(line.caller)
            await until(server, lambda metrics: metrics[BUSY[part]] > 0)
        since = line.caller.heard.now
        await asyncio.to_thread(server.kill)
        assert await line.caller.wait_for_silence(2.0, 60)
        silence = longest_silence(line.caller, since)
        await asyncio.to_thread(server.start)
        await back(line.app)
        await ask(line.caller)
        await line.caller.pause(1.0)
    (record,) = monitor.records
    record_property("silence_seconds", round(silence, 3))
    assert_taken_over(record, 1, part)
    assert_first_again(record.turns[2], part)
    if part == "llm":
        assert record.turns[1].reply.startswith(QUESTION.reply.partition(".")[0])
        assert record.turns[1].reply.endswith(SCRIPTED)
    else:
        assert record.turns[1].reply == QUESTION.reply
    assert silence < SILENCE


async def test_a_recogniser_killed_while_the_caller_speaks_is_hardly_noticed_and_may_die_again(
    box: Box, record_property: Callable[[str, object], None]
) -> None:
    server, monitor = box.servers["stt"], FakeMonitor()
    silences = []
    async with calling(await box.settings("stt"), monitor, quiet=1.0) as line:
        for accepted in (False, True):
            if accepted:
                server.freeze()  # it dies with requests that it has accepted, and not begun to answer
            saying = asyncio.create_task(line.caller.say(await voice(QUESTION.said)))
            await line.caller.pause(0.8)
            await asyncio.to_thread(server.kill)
            said = await saying
            assert await line.caller.wait_for_speech(20, after=said.end)
            assert await line.caller.wait_for_silence(1.0, 30)
            silences.append(longest_silence(line.caller, said.end))
            await asyncio.to_thread(server.start)
            await back(line.app)
            await ask(line.caller)
            assert await line.caller.wait_for_silence(1.0, 30)
    (record,) = monitor.records
    record_property("silence_seconds", [round(silence, 3) for silence in silences])
    assert len(record.turns) == 5
    for number in (1, 3):
        assert_taken_over(record, number, "stt")
        assert_first_again(record.turns[number + 1], "stt")
        assert record.turns[number].reply == QUESTION.reply
    assert max(silences) < SILENCE


async def test_a_server_that_accepts_a_request_and_says_nothing_is_not_waited_for(
    box: Box, record_property: Callable[[str, object], None]
) -> None:
    server, monitor = box.servers["llm"], FakeMonitor()
    async with calling(await box.settings("llm"), monitor, quiet=1.0) as line:
        server.freeze()
        try:
            since = await ask(line.caller)
            assert await line.caller.wait_for_silence(1.0, 30)
            silence = longest_silence(line.caller, since)
        finally:
            server.thaw()
        await back(line.app)
        await ask(line.caller)
        assert await line.caller.wait_for_silence(1.0, 30)
    (record,) = monitor.records
    record_property("silence_seconds", round(silence, 3))
    assert_taken_over(record, 1, "llm", "no text within 0.7 s")
    assert_first_again(record.turns[2], "llm")
    assert (record.turns[1].reply, record.turns[2].reply) == (SCRIPTED, QUESTION.reply)
    assert silence < SILENCE


async def ready(line: Line, box: Box) -> None:
    """Waits until what is said in every call has been synthesised: the caller has the server to himself."""
    await until(box.servers["tts"], lambda metrics: not metrics["chatterbox_active_streams"])
    await line.caller.pause(0.5)
