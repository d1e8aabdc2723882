"""The whole connector over real SIP and RTP on loopback, with engines whose speech is tones."""

from __future__ import annotations

import asyncio
import json
import wave
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import randrange

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
from jsonschema.validators import Draft202012Validator
from numpy.typing import NDArray
from pydantic import SecretStr

from connector.app import App, SystemClock
from connector.cli.phone.caller import Caller
from connector.cli.phone.own import own_phone
from connector.config.model import (
    EngineChoice,
    Flavor,
    HttpSettings,
    IdentitySettings,
    MediaSettings,
    RecordSettings,
    Route,
    Settings,
    SipSettings,
    TurnSettings,
)
from connector.errors import CallFailed, EngineUnreachable, MediaError
from connector.interfaces import Engine, EngineContext, EngineDescriptor, EngineKind, EngineOptions, HangUp
from connector.record import CallRecord, Disk
from tests.fakes.calls import FakeMonitor
from tests.fakes.engines import FakeLanguageModel, FakeSpeechToText, FakeTextToSpeech, FakeVad, ToneBook, tone
from tests.fakes.sip import running

RATE = 8000
GREETING = "Hello, this is the desk."
QUESTION = "what is the time"
ANSWER = "It is noon."


class FailingFirst(FakeVad):
    """Cannot be reached for its first `failures` starts."""

    failures = 1

    async def start(self) -> None:
        await super().start()
        if self.started <= self.failures:
            raise EngineUnreachable("fake-vad", "connection refused at 127.0.0.1:9")


def _made(engine: Engine, options: EngineOptions, context: EngineContext) -> Engine:
    return engine


class House:
    """What one test's connector is made of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.book = ToneBook()
        self.stt = FakeSpeechToText(self.book)
        self.llm = FakeLanguageModel({QUESTION: [ANSWER], "bye": ["Goodbye then.", HangUp("completed")]})
        self.tts = FakeTextToSpeech()
        self.vad = FakeVad()
        self.monitor = FakeMonitor()
        self.disk = Disk()
        self.max_calls = 5
        self.number = "1000"
        self.http = HttpSettings(listen="127.0.0.1:0")
        self.identity = IdentitySettings()
        self.flavors = {
            "echo": Flavor(name="echo", pipeline="echo"),
            "desk": Flavor(
                name="desk",
                greeting=GREETING,
                apology="Sorry.",
                vad=EngineChoice(engine="fake-vad", options=EngineOptions()),
                stt=EngineChoice(engine="fake-stt", options=EngineOptions()),
                llm=EngineChoice(engine="fake-llm", options=EngineOptions()),
                tts=EngineChoice(engine="fake-tts", options=EngineOptions()),
            ),
        }

    @property
    def settings(self) -> Settings:
        first = randrange(21_000, 32_000, 100)
        return Settings(
            file=self.folder / "voxtrunk.yml",
            sip=SipSettings(listen="127.0.0.1:0", max_calls=self.max_calls),
            media=MediaSettings(ports=f"{first}-{first + 99}"),
            records=RecordSettings(directory=self.folder / "records"),
            http=self.http,
            identity=self.identity,
            models=self.folder,
            flavors=self.flavors,
            routes=(
                Route(number=self.number, flavor=self.flavors["desk"]),
                Route(number="1001", flavor=self.flavors["echo"]),
            ),
        )

    @property
    def descriptors(self) -> Mapping[str, EngineDescriptor]:
        engines: dict[str, tuple[EngineKind, Engine]] = {
            "fake-vad": (EngineKind.VAD, self.vad),
            "fake-stt": (EngineKind.STT, self.stt),
            "fake-llm": (EngineKind.LLM, self.llm),
            "fake-tts": (EngineKind.TTS, self.tts),
        }
        return {
            name: EngineDescriptor(name, kind, EngineOptions, "fake", partial(_made, engine))
            for name, (kind, engine) in engines.items()
        }

    @asynccontextmanager
    async def open(self) -> AsyncIterator[App]:
        async with App(self.settings, monitors=[self.monitor], descriptors=self.descriptors) as app:
            yield app

    async def records(self, count: int = 1) -> list[CallRecord]:
        """The records of `count` ended calls."""
        await eventually(lambda: len(self.monitor.records) >= count)
        return self.monitor.records


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    await house.disk.aclose()


@asynccontextmanager
async def calling(app: App, number: str) -> AsyncIterator[Caller]:
    """Somebody who has dialled `number`."""
    clock = SystemClock()
    assert app.local is not None
    async with own_phone(clock) as phone:
        leg = await phone.dial(f"sip:{number}@127.0.0.1:{app.local[1]}", calling="alice")
        async with Caller(leg, clock) as caller:
            yield caller


async def eventually(condition: Callable[[], bool]) -> None:
    """Waits until `condition` holds; fails after 10 s."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is on the other side of a socket
            await asyncio.sleep(0.02)


def samples(path: Path) -> NDArray[np.float64]:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels()) == (RATE, 2)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2).astype(np.float64)


def strength(channel: NDArray[np.float64], hertz: float) -> float:
    """Amplitude of a tone in `channel`."""
    phase = np.exp(-2j * np.pi * hertz * np.arange(len(channel)) / RATE)
    return float(abs(np.sum(channel * phase)) / len(channel) * 2)


# ------------------------------------------------------------------ calls


async def test_an_echo_call_leaves_a_stereo_recording_of_both_sides(house: House) -> None:
    async with house.open() as app:
        async with calling(app, "1001") as caller:
            await caller.pause(0.2)
            said = await caller.say(tone(700, 1.0).samples)
            echoed = await caller.wait_for_speech(2, after=said.start)
            assert echoed is not None
            await caller.pause(1.2)
        (record,) = await house.records()
        assert record.disposition.value == "answered"
        assert record.ended_by.value == "caller"
        assert record.flavor == "echo"
        assert record.media is not None
        assert record.media.received > 50
        assert record.files.recording is not None
        audio = await house.disk.run(partial(samples, house.folder / "records" / record.files.recording))
    assert len(audio) / RATE == pytest.approx(record.duration_seconds, abs=0.2)
    loud = np.abs(audio) > 1000
    left, right = (np.flatnonzero(loud[:, channel]) for channel in (0, 1))
    assert len(left) / RATE == pytest.approx(1.0, abs=0.25)
    delay = (right[0] - left[0]) / RATE
    assert 0.02 < delay < 0.4
    assert np.array_equal(audio[left[0] + 800 : left[0] + 4000, 0], audio[right[0] + 800 : right[0] + 4000, 1])


async def test_the_facts_of_a_call_reach_route_flavor_model_and_record(house: House) -> None:
    """A national number finds its route; greeting and persona have the caller's name and account."""
    house.identity = IdentitySettings(region="DE", headers=("P-Charge-Info",))
    house.flavors["desk"] = house.flavors["desk"].model_copy(
        update={
            "greeting": "Hello {{calling_name|there}}, {{header:P-Charge-Info}}.",
            "persona": "{{calling_name}} ({{calling_number}}) called {{diverted_from}}.",
        }
    )
    house.number = "+4930123456"
    headers = {
        "P-Asserted-Identity": '"Ada" <sip:015112345678@trunk;user=phone>',
        "Diversion": "<sip:030987654@trunk>;reason=no-answer",
        "P-Charge-Info": "account 7",
    }
    async with house.open() as app, running() as caller:
        assert app.local is not None
        leg = await caller.endpoint.dial(f"sip:030123456@127.0.0.1:{app.local[1]}", headers=headers)
        async with Caller(leg, SystemClock()) as ear:
            await ear.wait_for_speech(3, after=0)
            await ear.wait_for_silence(0.5, 5)
            said = await ear.say(house.book.speak(QUESTION).samples)
            await ear.wait_for_speech(5, after=said.end)
        (record,) = await house.records()
    assert record.turns[0].reply == "Hello Ada, account 7."
    system = house.llm.histories[0][0].content
    assert system.startswith("<caller>Ada</caller> (+4915112345678) called +4930987654.\n")
    assert (record.route, record.called, record.called_number) == ("number +4930123456", "030123456", "+4930123456")
    assert (record.calling, record.calling_number, record.asserted) == ("voxtrunk", "+4915112345678", "+4915112345678")
    assert [(one.number, one.reason) for one in record.diversions] == [("+4930987654", "no-answer")]


async def test_a_question_is_heard_answered_recorded_and_timed(house: House) -> None:
    async with house.open() as app:
        async with calling(app, "1000") as caller:
            await caller.wait_for_speech(3, after=0)
            await caller.wait_for_silence(0.5, 5)
            said = await caller.say(house.book.speak(QUESTION).samples)
            await caller.wait_for_speech(5, after=said.end)
            await caller.wait_for_silence(0.5, 5)
            heard_silence = caller.answer_delay(said)
            await caller.say(house.book.speak("bye").samples)
            assert await caller.wait_for_end(8)
        (record,) = await house.records()
        records = house.folder / "records"
        assert record.files.recording is not None
        assert record.files.transcript is not None
        audio = await house.disk.run(partial(samples, records / record.files.recording))
        lines = await house.disk.run((records / record.files.transcript).read_text)
        written = await house.disk.run((records / record.files.cdr).read_text)
    assert (record.ended_by.value, record.reason) == ("agent", "completed")
    greeting, question, bye = record.turns
    assert (greeting.number, greeting.heard, greeting.spoken) == (0, "", GREETING)
    assert (question.number, question.heard, question.spoken) == (1, QUESTION, ANSWER)
    assert (bye.heard, bye.reply) == ("bye", "Goodbye then.")

    assert heard_silence is not None
    assert question.latency.silence_ms == pytest.approx(heard_silence * 1000, abs=60)
    assert question.latency.parts_ms.total == question.latency.silence_ms
    parts = question.latency.parts_ms
    assert parts.stt == pytest.approx(120, abs=60)
    assert parts.llm == pytest.approx(150, abs=60)
    assert question.latency.decided_ms == pytest.approx(1000 * TurnSettings().end_silence, abs=120)
    assert {(use.kind.value, use.engine) for use in question.services} >= {("llm", "fake-llm"), ("tts", "fake-tts")}

    assert question.caller_start is not None
    assert question.caller_end is not None
    assert question.agent_start is not None
    spoken = audio[round(question.caller_start * RATE) : round(question.caller_end * RATE)]
    answered = audio[round(question.agent_start * RATE) : round((question.agent_start + 0.5) * RATE)]
    assert strength(spoken[:, 0], 200) > 1000 > 10 * strength(spoken[:, 1], 440)
    assert strength(answered[:, 1], 440) > 5000 > 10 * strength(answered[:, 0], 440)

    transcript = [json.loads(line) for line in lines.splitlines()]
    assert [(line["who"], line["text"]) for line in transcript] == [
        ("agent", GREETING),
        ("caller", QUESTION),
        ("agent", ANSWER),
        ("caller", "bye"),
        ("agent", "Goodbye then."),
    ]
    assert transcript[1]["start"] == question.caller_start
    assert CallRecord.model_validate_json(written) == record


async def test_a_bug_in_one_call_leaves_its_neighbour_alone(house: House) -> None:
    house.llm = FakeLanguageModel(otherwise=lambda text: [text[99]])
    async with house.open() as app, calling(app, "1001") as neighbour:
        async with calling(app, "1000") as victim:
            await victim.wait_for_speech(3, after=0)
            await victim.wait_for_silence(0.5, 5)
            await victim.say(house.book.speak(QUESTION).samples)
            assert await victim.wait_for_end(5)
        (record,) = await house.records()
        assert (record.ended_by.value, record.reason) == ("system", "internal error")
        assert record.errors == ["IndexError: string index out of range"]
        assert record.files.recording is not None
        said = await neighbour.say(tone(700, 0.5).samples)
        assert await neighbour.wait_for_speech(2, after=said.start) is not None


async def test_refusals(house: House) -> None:
    house.max_calls = 1
    async with house.open() as app:
        with pytest.raises(CallFailed) as unknown:
            async with calling(app, "5555"):
                pass
        assert unknown.value.status == 404
        async with calling(app, "1001"):
            with pytest.raises(CallFailed) as busy:
                async with calling(app, "1001"):
                    pass
            assert busy.value.status == 503


async def test_stopping_hangs_up_and_writes_the_record(house: House) -> None:
    async with house.open() as app, calling(app, "1001") as caller:
        await caller.pause(0.3)
        await app.drain(0)
        assert await caller.wait_for_end(2)
        (record,) = await house.records()
    assert (record.ended_by.value, record.reason) == ("system", "shutting down")


# ------------------------------------------------------------------ faults


async def test_an_engine_that_fails_refuses_its_flavor_alone_and_is_retried(house: House) -> None:
    house.vad = FailingFirst()
    async with house.open() as app:
        assert app.readiness().flavors["echo"] == ""
        assert "connection refused at 127.0.0.1:9" in app.readiness().flavors["desk"]
        assert not app.readiness().ready
        with pytest.raises(CallFailed) as refused:
            async with calling(app, "1000"):
                pass
        assert refused.value.status == 503
        async with calling(app, "1001"):
            pass
        await eventually(lambda: app.readiness().ready)
        async with calling(app, "1000") as caller:
            assert await caller.wait_for_speech(3, after=0) is not None


async def test_a_recogniser_that_cannot_take_the_phrases_is_found_out_before_the_first_caller(house: House) -> None:
    house.stt.failing = True
    async with house.open() as app:
        assert house.stt.phrases == house.llm.phrases
        assert app.readiness().flavors == {"desk": "fake-stt: out of order", "echo": ""}
        assert 'voxtrunk_flavor_ready{flavor="desk"} 0.0' in app.metrics().decode()
        with pytest.raises(CallFailed) as refused:
            async with calling(app, "1000"):
                pass
        assert refused.value.status == 503
        house.stt.failing = False
        await eventually(lambda: app.readiness().ready)


async def test_a_call_over_the_cap_is_in_the_metrics_and_the_log(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.max_calls = 1
    async with house.open() as app, calling(app, "1001"):
        with pytest.raises(CallFailed) as refused:
            async with calling(app, "1001"):
                pass
        assert refused.value.status == 503
        assert 'voxtrunk_calls_refused_total{status="503"} 1.0' in app.metrics().decode()
    assert "call refused at the door" in caplog.messages


async def test_an_engine_that_fails_in_a_call_is_checked_before_the_next_one(house: House) -> None:
    async with house.open() as app:
        async with calling(app, "1000") as caller:
            await caller.wait_for_silence(0.5, 5)
            house.stt.failing = True
            said = await caller.say(house.book.speak(QUESTION).samples)
            assert await caller.wait_for_speech(5, after=said.end) is not None  # the apology
            await caller.wait_for_silence(0.5, 8)
        (record,) = await house.records()
        assert record.turns[-1].error is not None
        assert app.readiness().flavors["desk"] == "fake-stt: out of order"
        house.stt.failing = False
        await eventually(lambda: app.readiness().ready)


async def test_records_that_cannot_be_written_do_not_harm_the_call(house: House) -> None:
    await house.disk.run(partial((house.folder / "records").write_text, "a file where a folder is wanted"))
    async with house.open() as app:
        async with calling(app, "1001") as caller:
            said = await caller.say(tone(700, 1.0).samples)
            assert await caller.wait_for_speech(2, after=said.start) is not None
        (record,) = await house.records()
    assert record.disposition.value == "answered"
    assert record.files.recording is None
    assert len(record.errors) == 2
    assert all(error.startswith("RecordError: ") and str(house.folder) in error for error in record.errors)


async def test_a_port_that_is_taken_is_named(house: House) -> None:
    async with house.open() as app:
        assert app.http is not None
        house.http = HttpSettings(listen=f"127.0.0.1:{app.http[1]}")
        with pytest.raises(MediaError, match=f"cannot listen on TCP 127.0.0.1:{app.http[1]}"):
            async with house.open():
                pass


# ------------------------------------------------------------------ HTTP


async def test_the_api_tells_how_it_is(house: House) -> None:
    house.http = HttpSettings(listen="127.0.0.1:0", token=SecretStr("s3cret"))
    async with house.open() as app:
        assert app.http is not None
        base = f"http://127.0.0.1:{app.http[1]}"
        async with aiohttp.ClientSession(base) as http, calling(app, "1001") as caller:
            await caller.pause(0.3)
            for path in ("/healthz", "/readyz"):
                async with http.get(path) as answer:
                    assert answer.status == 200
            async with http.get("/readyz") as answer:
                told = {"ready": True, "draining": False, "endpoint": None, "problem": ""}
                assert await answer.json() == {**told, "flavors": {}, "parts": [], "engines": []}
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "Basic s3cret"},
                {"Authorization": "Bearer \udcff"},
            ):
                for path in ("/metrics", "/v1/calls", "/v1/openapi.json", "/nothing"):
                    async with http.get(path, headers=headers) as answer:
                        assert answer.status == 401
            token = {"Authorization": "Bearer s3cret"}
            async with http.get("/readyz", headers=token) as answer:
                assert (await answer.json())["flavors"] == {"desk": "", "echo": ""}
            async with http.get("/v1/calls", headers=token) as answer:
                (call,) = (await answer.json())["calls"]
            assert (call["called"], call["calling"], call["flavor"], call["state"]) == (
                "1001",
                "alice",
                "echo",
                "confirmed",
            )
            async with http.get("/metrics", headers=token) as answer:
                page = await answer.text()
            assert "voxtrunk_calls_active 1.0" in page
            assert 'voxtrunk_engine_ready{engine="fake-llm",kind="llm"} 1.0' in page
            async with http.get("/v1/openapi.json", headers=token) as answer:
                description = await answer.json()
        await house.records()
        assert 'voxtrunk_calls_total{disposition="answered",flavor="echo",status="200"} 1.0' in app.metrics().decode()
        assert "voxtrunk_rtp_received_packets_total" in app.metrics().decode()
    assert set(description["paths"]) == {
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/calls",
        "/v1/calls/{call_id}",
        "/v1/calls/{call_id}/recording/pause",
        "/v1/calls/{call_id}/recording/resume",
        "/v1/records",
        "/v1/openapi.json",
    }
    schema = {**description["components"]["schemas"]["CallList"], "components": description["components"]}
    Draft202012Validator(schema).validate({"calls": [call]})


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("127.0.0.1", 200), ("127.0.0.1:8080", 200), ("localhost:8080", 200), ("[::1]:8080", 200)),
        *(("pages.example", 403), ("pages.example:8080", 403), ("127.0.0.1.pages.example", 403), ("a:b:c", 403)),
    ],
)
async def test_without_a_token_no_web_page_can_read_calls_by_a_name_of_its_own(
    house: House, host: str, status: int
) -> None:
    """DNS rebinding: the page's name leads to 127.0.0.1, and the browser says so in Host."""
    async with house.open() as app:
        assert app.http is not None
        async with aiohttp.ClientSession(f"http://127.0.0.1:{app.http[1]}") as http:
            for path in ("/v1/calls", "/metrics"):
                async with http.get(path, headers={"Host": host}) as answer:
                    assert answer.status == status
            async with http.get("/readyz", headers={"Host": host}) as answer:
                assert answer.status == 200
                assert bool((await answer.json())["flavors"]) == (status == 200)
            async with http.get("/healthz", headers={"Host": host}) as answer:
                assert answer.status == 200
