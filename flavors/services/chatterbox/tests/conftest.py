"""A service over real HTTP, on a free port of loopback, with an engine that speaks in tones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio
from openai import AsyncOpenAI

from chatterbox_service.app import Server
from chatterbox_service.settings import Settings
from tests.fakes.engine import PATIENCE, ToneEngine


@dataclass(frozen=True, slots=True)
class Running:
    """A service, its engine, and clients of it."""

    server: Server
    engine: ToneEngine
    url: str
    http: aiohttp.ClientSession
    openai: AsyncOpenAI

    async def metric(self, name: str) -> float:
        """The value of a sample of `/metrics`, such as `chatterbox_requests_total{outcome="spoken"}`."""
        async with self.http.get("/metrics") as response:
            page = await response.text()
        return next(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{name} "))

    async def until(self, name: str, value: float) -> None:
        """Returns once that sample has that value."""
        async with asyncio.timeout(PATIENCE):
            while await self.metric(name) != value:
                pass

    async def speak(self, text: str = "Hello there.", **fields: Any) -> bytes:
        """The body of the answer to a request for raw PCM."""
        async with self.request(text, **fields) as response:
            pcm: bytes = await response.read()
            return pcm

    def request(self, text: str = "Hello there.", **fields: Any) -> Any:
        """A request for raw PCM, as a context manager."""
        return self.http.post("/v1/audio/speech", json={"input": text, "response_format": "pcm", **fields})


Serve = Callable[..., Coroutine[Any, Any, Running]]


@pytest_asyncio.fixture
async def serve(tmp_path: Path) -> AsyncGenerator[Serve, None]:
    """Starts services: `await serve(engine, token=..., ...)`, the latter as in `Settings`.

    A service ends its engine when it is stopped, unless that is `lent`.
    """
    async with AsyncExitStack() as stack:

        async def start(engine: ToneEngine | None = None, *, lent: bool = False, **settings: Any) -> Running:
            made = engine or ToneEngine()
            given = {"port": 0, "voices": tmp_path / "voices", "drain": 0.1} | settings
            server = Server(Settings.model_validate(given))
            stack.push_async_callback(server.aclose)
            await server.start()

            async def opened() -> ToneEngine:
                return made

            if lent:
                await server.service.attach(made)
            else:
                await server.load(opened)
            host, port = server.address
            url = f"http://{host}:{port}"
            token = settings.get("token")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            http = await stack.enter_async_context(aiohttp.ClientSession(url, headers=headers))
            client = AsyncOpenAI(base_url=f"{url}/v1", api_key=token or "none", max_retries=0)
            stack.push_async_callback(client.close)
            return Running(server, made, url, http, client)

        yield start


@pytest_asyncio.fixture
async def running(serve: Serve) -> Running:
    """A service as it is by default."""
    return await serve()
