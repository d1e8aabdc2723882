"""A checkpoint that the real faster-whisper loads, and the service on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from fakes import whisper

from serving import HEARD, Service, StartService
from whisper_service.app import Server
from whisper_service.settings import Settings


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recognises `HEARD` in everything that is audible, in the language asked for, or in German."""
    return whisper.build(tmp_path_factory.mktemp("models") / "micro", HEARD, multilingual=True, language="de")


@pytest.fixture
async def start(model: Path) -> AsyncIterator[StartService]:
    """Starts a service with the settings given, its model loaded unless `load` is false."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(ClientSession())

        async def started(*, load: bool = True, **settings: Any) -> Service:
            given = {"port": 0, "model": str(model), "device": "cpu", "cpu_threads": 1, "drain": 1.0, **settings}
            server = Server(Settings.model_validate(given))
            stack.push_async_callback(server.aclose)
            await server.start()
            if load:
                await server.load()
            return Service(server, session)

        yield started


@pytest.fixture
async def service(start: StartService) -> Service:
    return await start()
