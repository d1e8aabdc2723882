"""`/readyz` and `voxtrunk ready`: true where every flavor that answers has a working engine for each of its parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr
from typer.testing import CliRunner

from connector.app import App, SystemClock
from connector.cli import app as voxtrunk
from connector.config.model import (
    EngineChoice,
    Flavor,
    HttpSettings,
    MediaSettings,
    RecordSettings,
    Settings,
    SipSettings,
)
from connector.interfaces import Engine, EngineContext, EngineDescriptor, EngineKind, EngineOptions
from tests.fakes.engines import FakeLanguageModel, FakeSpeechToText, FakeTextToSpeech, FakeVad, ToneBook


class Hurried(SystemClock):
    """A hundred seconds pass in one: what is tried again, or looked at now and then, is soon."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 100)


class SlowModel(FakeLanguageModel):
    """Not there before `loaded` is set."""

    def __init__(self) -> None:
        super().__init__({})
        self.loaded = asyncio.Event()

    async def start(self) -> None:
        await self.loaded.wait()
        await super().start()


@dataclass
class Box:
    """A connector on loopback: a default flavor whose language model has a successor where there is a `spare`."""

    folder: Path
    llm: FakeLanguageModel = field(default_factory=lambda: FakeLanguageModel({}))
    spare: FakeLanguageModel | None = None
    token: SecretStr | None = None

    @property
    def settings(self) -> Settings:
        successors = () if self.spare is None else (choice("spare"),)
        flavor = Flavor(
            name="desk",
            vad=choice("vad"),
            stt=choice("stt"),
            llm=choice("llm").model_copy(update={"successors": successors}),
            tts=choice("tts"),
        )
        return Settings(
            file=self.folder / "voxtrunk.yml",
            sip=SipSettings(listen="127.0.0.1:0"),
            media=MediaSettings(ports="20000-20001"),
            records=RecordSettings(directory=self.folder / "records"),
            http=HttpSettings(listen="127.0.0.1:0", token=self.token),
            models=self.folder,
            flavors={"desk": flavor},
            default=flavor,
        )

    @property
    def app(self) -> App:
        engines: dict[str, tuple[EngineKind, Engine]] = {
            "vad": (EngineKind.VAD, FakeVad()),
            "stt": (EngineKind.STT, FakeSpeechToText(ToneBook())),
            "llm": (EngineKind.LLM, self.llm),
            "tts": (EngineKind.TTS, FakeTextToSpeech()),
        }
        if self.spare is not None:
            engines["spare"] = (EngineKind.LLM, self.spare)
        descriptors = {
            name: EngineDescriptor(name, kind, EngineOptions, "fake", partial(made, engine))
            for name, (kind, engine) in engines.items()
        }
        return App(self.settings, Hurried(), descriptors=descriptors)


def choice(name: str) -> EngineChoice:
    return EngineChoice(engine=name, options=EngineOptions())


def made(engine: Engine, options: EngineOptions, context: EngineContext) -> Engine:
    return engine


async def asked(app: App, token: str = "") -> tuple[int, dict[str, Any]]:
    """Status and body of `/readyz`."""
    assert app.http is not None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"http://127.0.0.1:{app.http[1]}/readyz"
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        return answer.status, await answer.json()


async def eventually(app: App, status: int) -> dict[str, Any]:
    """The body once `/readyz` has this status; fails after 10 s."""
    async with asyncio.timeout(10):
        while True:
            told, body = await asked(app)
            if told == status:
                return body
            await asyncio.sleep(0.02)


def parts(body: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Engine and problem by part."""
    return {one["part"]: (one["engine"], one["problem"]) for one in body["parts"]}


async def test_every_part_has_a_working_engine(tmp_path: Path) -> None:
    async with Box(tmp_path).app as app:
        status, body = await asked(app)
    assert status == 200
    assert body["flavors"] == {"desk": ""}
    assert parts(body) == {part: (part, "") for part in ("vad", "stt", "llm", "tts")}


async def test_not_before_all_engines_are_warm(tmp_path: Path) -> None:
    model = SlowModel()
    app = Box(tmp_path, llm=model).app
    starting = asyncio.create_task(app.start())
    try:
        await eventually_true(lambda: app.http is not None)
        body = await eventually(app, 503)
        assert parts(body)["llm"] == ("", "llm: starting")
        model.loaded.set()
        await eventually(app, 200)
    finally:
        await starting
        await app.aclose()


async def eventually_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the server of another task
            await asyncio.sleep(0.01)


async def test_an_engine_that_dies_while_nobody_calls_is_noticed_and_so_is_its_return(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with box.app as app:
        assert (await asked(app))[0] == 200
        box.llm.failing = True
        body = await eventually(app, 503)
        assert body["ready"] is False
        assert body["flavors"] == {"desk": "fake-llm: out of order"}
        assert parts(body)["llm"] == ("", "fake-llm: out of order")
        assert parts(body)["tts"] == ("tts", ""), "the others are not blamed"
        box.llm.failing = False
        assert parts(await eventually(app, 200))["llm"] == ("llm", "")


async def test_a_successor_that_works_keeps_it_ready(tmp_path: Path) -> None:
    box = Box(tmp_path, spare=FakeLanguageModel({}))
    assert box.spare is not None
    async with box.app as app:
        box.llm.failing = True
        await eventually_true(lambda: app.readiness().parts[2].engine == "spare")
        status, body = await asked(app)
        assert (status, parts(body)["llm"]) == (200, ("spare", ""))
        box.spare.failing = True
        body = await eventually(app, 503)
        assert parts(body)["llm"] == ("", "fake-llm: out of order; fake-llm: out of order")
        box.llm.failing = False
        await eventually(app, 200)


async def test_without_the_token_it_is_yes_or_no(tmp_path: Path) -> None:
    async with Box(tmp_path, token=SecretStr("s3cret")).app as app:
        assert (await asked(app))[1]["parts"] == []
        assert len((await asked(app, "s3cret"))[1]["parts"]) == 4


async def test_voxtrunk_ready_agrees(tmp_path: Path) -> None:
    box = Box(tmp_path)
    async with serving(box) as (app, ready):
        assert await ready() == (0, "ready\n")
        box.llm.failing = True
        await eventually(app, 503)
        assert await ready() == (1, "not ready; desk: fake-llm: out of order\n")


@asynccontextmanager
async def serving(box: Box) -> AsyncIterator[tuple[App, Callable[[], Any]]]:
    """The connector, and `voxtrunk ready` about it: exit status and output."""
    async with box.app as app:
        assert app.http is not None
        file = box.folder / "voxtrunk.yml"
        listen = f"127.0.0.1:{app.http[1]}"
        file.write_text(f"http: {{listen: '{listen}'}}\nflavors: {{e: {{pipeline: echo}}}}\ndefault: e\n")

        async def ready() -> tuple[int, str]:
            result = await asyncio.to_thread(CliRunner().invoke, voxtrunk, ["ready", "-c", str(file)])
            return result.exit_code, result.output

        yield app, ready
