"""Servers killed with -9 in mid-call, over real SIP and RTP: the next engine goes on, and the first one comes back.

And servers that are stopped in mid-call, with nobody to go on for them: the caller is told to wait, and what happened.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import randrange

import pytest

from connector.app import App, SystemClock
from connector.call.ladders import LAST_DEADLINE
from connector.cli.phone.caller import Caller
from connector.cli.phone.own import own_phone
from connector.config import engine_descriptors
from connector.config.model import (
    EngineChoice,
    Flavor,
    HttpSettings,
    MediaSettings,
    RecordSettings,
    Route,
    Settings,
    SipSettings,
)
from connector.interfaces import Engine, EngineContext, EngineDescriptor, EngineKind, EngineOptions, ServiceOutcome
from connector.pipeline.circuit import CircuitState
from connector.pipeline.ladder import GO_ON
from connector.pipeline.responder import FILLED_SECONDS
from connector.record import CallRecord, Service
from tests.e2e.openai_server import QUESTION, STORY
from tests.fakes.calls import FakeMonitor
from tests.fakes.engines import FakeLanguageModel, FakeSpeechToText, FakeTextToSpeech, FakeVad, Step, ToneBook

SILENCE = 1.5
"""Seconds that a caller may hear nothing for."""

INSTALLED = engine_descriptors()

FIRST = {"stt": "openai-transcriptions", "llm": "openai-chat", "tts": "openai-speech"}


class ServerProcess:
    """`tests.e2e.openai_server` on a port that it keeps."""

    def __init__(self) -> None:
        self.base_url = ""
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.e2e.openai_server", str(self._port), stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.base_url = (await self._process.stdout.readline()).decode().strip()
        self._port = int(self.base_url.split(":")[2].partition("/")[0])

    def hang(self) -> None:
        """It accepts connections, and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    async def kill(self) -> None:
        """With -9. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            await process.wait()


def _continued(asked: str) -> list[Step]:
    return ["and so on."] if asked == GO_ON else [STORY]


class House:
    """A connector whose first choice for one part is the server, its only one where that is `alone`.

    All else are fakes in this process.
    """

    def __init__(self, folder: Path, part: str, server: ServerProcess, *, alone: bool = False) -> None:
        self.book = ToneBook()
        self.monitor = FakeMonitor()
        self.engines: dict[str, tuple[EngineKind, Engine]] = {
            "fake-vad": (EngineKind.VAD, FakeVad()),
            "fake-stt": (EngineKind.STT, FakeSpeechToText(self.book)),
            "fake-llm": (EngineKind.LLM, FakeLanguageModel(otherwise=_continued)),
            "fake-tts": (EngineKind.TTS, FakeTextToSpeech()),
        }
        own = {"base_url": server.base_url, "retries": 0, **({"model": "test-model"} if part == "llm" else {})}
        options = INSTALLED[FIRST[part]].options.model_validate(own)
        fakes = {
            kind.value: EngineChoice(engine=name, options=EngineOptions()) for name, (kind, _) in self.engines.items()
        }
        successors = () if alone else (fakes[part],)
        ladder = EngineChoice(engine=FIRST[part], options=options, successors=successors)
        self.flavor = Flavor(name="desk", **{**fakes, part: ladder})  # type: ignore[arg-type]
        if not alone:
            self.flavor = self.flavor.model_copy(update={"fillers": ()})
        first = randrange(21_000, 32_000, 100)
        self.settings = Settings(
            file=folder / "voxtrunk.yml",
            sip=SipSettings(listen="127.0.0.1:0"),
            media=MediaSettings(ports=f"{first}-{first + 99}"),
            records=RecordSettings(directory=folder / "records"),
            http=HttpSettings(listen="127.0.0.1:0"),
            models=folder,
            flavors={"desk": self.flavor},
            routes=(Route(number="1000", flavor=self.flavor),),
        )

    @property
    def descriptors(self) -> Mapping[str, EngineDescriptor]:
        fakes = {
            name: EngineDescriptor(name, kind, EngineOptions, "fake", partial(_made, engine))
            for name, (kind, engine) in self.engines.items()
        }
        return {**INSTALLED, **fakes}


def _made(engine: Engine, options: EngineOptions, context: EngineContext) -> Engine:
    return engine


@asynccontextmanager
async def a_call(house: House) -> AsyncIterator[tuple[App, Caller]]:
    clock = SystemClock()
    async with App(house.settings, monitors=[house.monitor], descriptors=house.descriptors) as app:
        assert app.problem(house.flavor) == ""
        assert app.local is not None
        async with own_phone(clock) as phone:
            leg = await phone.dial(f"sip:1000@127.0.0.1:{app.local[1]}", calling="alice")
            async with Caller(leg, clock) as caller:
                await caller.pause(0.5)
                yield app, caller


async def record_of(house: House) -> CallRecord:
    async with asyncio.timeout(10):
        while not house.monitor.records:  # noqa: ASYNC110 - what is waited for is on the other side of a socket
            await asyncio.sleep(0.05)
    return house.monitor.records[0]


async def closed(app: App) -> None:
    """Waits until every engine is asked again."""
    async with asyncio.timeout(20):
        while any(rung.circuit is not CircuitState.CLOSED for rung in app.rungs()):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)


async def logged(caplog: pytest.LogCaptureFixture, message: str) -> None:
    """Waits until the connector has logged `message`."""
    async with asyncio.timeout(20):
        while message not in caplog.messages:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)


def longest_silence(caller: Caller, after: float) -> float:
    """Between clock time `after` and the end of what the agent said."""
    edges = [(after, after), *((spurt.start, spurt.end) for spurt in caller.heard.spurts if spurt.start > after)]
    return max(start - end for (_, end), (start, _) in pairwise(edges))


def of(services: list[Service], kind: str) -> list[tuple[int | None, ServiceOutcome]]:
    return [(one.rung, one.outcome) for one in services if one.kind.value == kind]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["tts", "llm", "stt"])
async def test_a_server_killed_in_mid_sentence_is_hardly_noticed(part: str, tmp_path: Path) -> None:
    server = ServerProcess()
    try:
        await server.start()
        house = House(tmp_path, part, server)
        async with a_call(house) as (app, caller):
            question = house.book.speak(QUESTION, 1.5).samples
            if part == "stt":
                saying = asyncio.create_task(caller.say(question))
                await caller.pause(0.8)
                await server.kill()
                said = await saying
            else:
                said = await caller.say(question)
                assert await caller.wait_for_speech(5, after=said.end)
                await caller.pause(0.8)
                await server.kill()
            assert await caller.wait_for_speech(5, after=said.end)
            assert await caller.wait_for_silence(2.0, 15)
            first_silence = longest_silence(caller, said.end)

            await server.start()
            await closed(app)
            said = await caller.say(question)
            assert await caller.wait_for_speech(5, after=said.end)
            assert await caller.wait_for_silence(2.0, 15)
        record = await record_of(house)
    finally:
        await server.kill()
    assert first_silence < SILENCE
    killed, recovered = record.turns
    assert (killed.heard, killed.error) == (QUESTION, None)
    assert killed.spoken == killed.reply
    if part == "llm":
        assert killed.reply.startswith("Here is a story for you.")
        assert killed.reply.endswith(" and so on.")
    else:
        assert killed.reply == STORY
    assert (1, ServiceOutcome.FAILED) in of(killed.services, part)
    assert of(killed.services, part)[-1] == (2, ServiceOutcome.USED)
    assert any(error.startswith(f"turn 1: {part} 1, {FIRST[part]}: ") for error in record.errors)
    assert recovered.error is None
    assert {rung for rung, _ in of(recovered.services, part)} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("part", ["tts", "llm", "stt"])
async def test_a_sole_server_that_hangs_leaves_nobody_in_silence(
    part: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "connector")
    server = ServerProcess()
    try:
        await server.start()
        house = House(tmp_path, part, server, alone=True)
        async with a_call(house) as (_, caller):
            question = house.book.speak(QUESTION, 1.5).samples
            await logged(caplog, "voice prepared")
            server.hang()
            said = await caller.say(question)
            told = await caller.wait_for_speech(5, after=said.end)
            assert told is not None
            await caller.wait_for_silence(FILLED_SECONDS + 1.5, 30)
        record = await record_of(house)
    finally:
        await server.kill()
    assert told.start - said.end < SILENCE
    [turn] = record.turns
    assert turn.spoken == " ".join([*house.flavor.fillers * 2, house.flavor.apology])
    assert turn.error == f"{FIRST[part]}: no {'audio' if part == 'tts' else 'text'} within {LAST_DEADLINE} s"
