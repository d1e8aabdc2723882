"""The running service: an HTTP server that is there at once, and an engine that comes when it is warm."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable

from aiohttp import web

from chatterbox_service.api import application
from chatterbox_service.engine import Engine
from chatterbox_service.service import Service
from chatterbox_service.settings import Settings
from chatterbox_service.voices import VoiceStore

log = logging.getLogger(__name__)

STOPPING = "the service is being stopped"


class EngineLost(Exception):
    """The engine can never speak again; a new process may."""


OpenEngine = Callable[[], Awaitable[Engine]]
"""Makes an engine that is warm and knows its capacity."""


class Server:
    """The HTTP server of one engine. `start` binds the port, `load` makes the service ready."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.service = Service(VoiceStore(settings.voices), queue=settings.queue, patience=settings.wait)
        routes = application(
            self.service,
            token=settings.token,
            open_to_all=settings.open,
            stall=settings.stall,
            log_text=settings.log_text,
        )
        # Cancelled when their client goes, handlers close the engine's stream at once.
        self._runner = web.AppRunner(
            routes, access_log=None, handler_cancellation=True, shutdown_timeout=settings.drain
        )
        self._engine: Engine | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Address and port that it listens on."""
        host, port, *_ = self._runner.addresses[0]
        return host, port

    async def start(self) -> None:
        """Binds the port; raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._settings.host, self._settings.port).start()

    async def load(self, open_engine: OpenEngine) -> None:
        """Raises what `open_engine` raises."""
        self._engine = await open_engine()
        await self.service.attach(self._engine)

    async def aclose(self) -> None:
        """Takes no more requests, lets those in progress end for as long as the settings say, and ends the engine."""
        self.service.detach(STOPPING)
        await self._runner.cleanup()
        if self._engine is not None:
            await self._engine.aclose()
            self._engine = None


async def serve(settings: Settings, open_engine: OpenEngine) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises OSError where the port is taken, what `open_engine` raises, and `EngineLost`.
    """
    server = Server(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await server.start()
        log.info("listening host=%s port=%d", *server.address)
        loading = asyncio.create_task(server.load(open_engine))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await loading
            engine = server.service.engine
            log.info("ready model=%s device=%s capacity=%d", engine.model, engine.device, server.service.capacity)
            losing = asyncio.create_task(engine.lost())
            await asyncio.wait({losing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                raise EngineLost(losing.result())
        log.info("stopping")
        stopping.cancel()
        loading.cancel()
        await asyncio.gather(stopping, loading, return_exceptions=True)
    finally:
        await server.aclose()
