"""The running service: an HTTP server that is there at once, and a model that comes when it is warm."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from aiohttp import web

from whisper_service.api import application
from whisper_service.recogniser import Recogniser
from whisper_service.settings import Settings

log = logging.getLogger(__name__)


class Server:
    """The HTTP server of one model. `start` binds the port, `load` makes the service ready."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.recogniser = Recogniser(settings.engine, settings.models, settings.queue)
        routes = application(
            self.recogniser,
            model=Path(settings.model).name,
            max_seconds=settings.max_seconds,
            upload_seconds=settings.upload_seconds,
            token=settings.token,
            open_to_all=settings.open,
        )
        # Cancelled when their client goes, handlers leave the queue at once.
        self._runner = web.AppRunner(
            routes, access_log=None, handler_cancellation=True, shutdown_timeout=settings.drain
        )

    @property
    def address(self) -> tuple[str, int]:
        """Address and port that it listens on."""
        host, port, *_ = self._runner.addresses[0]
        return host, port

    async def start(self) -> None:
        """Binds the port; raises OSError."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._settings.host, self._settings.port).start()

    async def load(self) -> None:
        """Loads the model; raises `EngineError`."""
        await self.recogniser.start()

    async def aclose(self) -> None:
        """Takes no more requests, lets those in progress end for as long as the settings say, and frees the model."""
        self.recogniser.stop()
        await self._runner.cleanup()
        await self.recogniser.aclose()


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; raises OSError where the port is taken, `EngineError` where the model fails."""
    server = Server(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await server.start()
        log.info("listening host=%s port=%d", *server.address)
        loading = asyncio.create_task(server.load())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            await loading
            log.info("ready model=%s", settings.model)
            await stopping
        log.info("stopping")
        stopping.cancel()
        loading.cancel()
        await asyncio.gather(stopping, loading, return_exceptions=True)
    finally:
        await server.aclose()
