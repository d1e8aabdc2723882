"""The engine behind the interface: whether it is there, and how many may ask it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connector.host import LocalEngineHost
from connector.interfaces import EngineContext
from flavors.engines.faster_whisper import FasterWhisper, FasterWhisperOptions, Question, Recognition
from whisper_service.metrics import Load, Metrics

LOADING = "the model is being loaded"
STOPPING = "the service is being stopped"
LOADING_RETRY_SECONDS = 5
LONGEST_RETRY_SECONDS = 30


class NotReady(Exception):
    """The service recognises nothing now; the message says why."""

    retry_after = LOADING_RETRY_SECONDS


class Overloaded(Exception):
    """There are more requests than it takes. `retry_after`: seconds after which these are likely to be done."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"all places are taken; try again in {retry_after} s")
        self.retry_after = retry_after


class Recogniser:
    """One engine for all clients. `queue`: requests in progress, at most."""

    def __init__(self, options: FasterWhisperOptions, models: Path, queue: int) -> None:
        self._host = LocalEngineHost()
        self._engine = FasterWhisper(options, EngineContext(self._host, models))
        self._queue = queue
        self._active = 0
        self.language = options.language
        """Of requests that name none; None to detect it."""
        self.problem = LOADING
        """Why nothing is recognised now, "" where it is."""
        self.metrics = Metrics(self._load)

    async def start(self) -> None:
        """Loads the model and warms it up; raises `EngineError`."""
        await self._engine.start()
        self.problem = ""

    def stop(self) -> None:
        """Takes no more requests."""
        self.problem = STOPPING

    async def aclose(self) -> None:
        """Frees the model. Idempotent."""
        self.stop()
        await self._engine.aclose()
        await self._host.aclose()

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places, for as long as the context lasts; raises `NotReady` and `Overloaded`."""
        if self.problem:
            raise NotReady(self.problem)
        if self._active >= self._queue:
            batches = self._engine.batches
            seconds = math.ceil(self._active / batches.most) * batches.seconds
            raise Overloaded(min(max(1, math.ceil(seconds)), LONGEST_RETRY_SECONDS))
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    async def recognise(self, question: Question) -> Recognition:
        """Raises `EngineError`. Cancelling it leaves the engine's queue."""
        return await self._engine.recognise(question)

    def _load(self) -> Load:
        batches = self._engine.batches
        return Load(self._active, batches.waiting, batches.batches, batches.questions)
