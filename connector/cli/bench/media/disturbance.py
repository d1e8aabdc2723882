"""What goes on in a connector beside its calls: recognition without pause, garbage collections, big JSON."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np

from connector import config
from connector.audio import Audio
from connector.call.engines import load_in_thread
from connector.cli.bench.media.figures import Spread
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext, EngineHost, Placement, SpeechToText, Worker

PERIOD_SECONDS = 0.1
"""From one garbage collection, or document, to the next."""

OBJECTS = 5_000
"""Of each round of garbage: what a few requests to an API leave behind."""

CHUNKS = 500
"""Of a streamed reply in each JSON document, which makes it 90 KB."""

UTTERANCE_SECONDS = 5.0
WHISPER = "faster-whisper"


class Disturbance(ABC):
    """Does something again and again, from entering to leaving it as a context."""

    def __init__(self, models: Path, core: int | None, whisper: str | None) -> None:
        """`models`: folder of models. `core`: where what has threads of its own runs. `whisper`: that model."""
        self._models = models
        self._core = core
        self._whisper = whisper
        self._took: list[float] = []
        self._stack = AsyncExitStack()
        self._ending = False

    async def __aenter__(self) -> Self:
        await self._prepare(self._stack)
        working = asyncio.create_task(self._work(), name="disturbance")

        async def stop() -> None:
            self._ending = True  # after the round: a thread that computes cannot be stopped
            await working

        self._stack.push_async_callback(stop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def figures(self) -> dict[str, Any]:
        """How often it was done so far, and how many milliseconds each time took."""
        spread = Spread.of([1000 * seconds for seconds in self._took])
        return {"rounds": len(self._took), "ms": {"p50": spread.p50, "max": spread.max}}

    async def _prepare(self, stack: AsyncExitStack) -> None:  # noqa: B027 - most need nothing
        """Loads what it needs."""

    @abstractmethod
    async def _round(self) -> None:
        """Does it once."""

    async def _work(self) -> None:
        while not self._ending:
            began = time.monotonic()
            await self._round()
            self._took.append(time.monotonic() - began)
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(PERIOD_SECONDS)


class GarbageCollection(Disturbance):
    """A full collection on the event loop, of cyclic garbage."""

    async def _round(self) -> None:
        for _ in range(OBJECTS):
            cycle: list[object] = []
            cycle.append(cycle)
        gc.collect()


class BigJson(Disturbance):
    """A document parsed and built on the event loop: as large as a list of calls, or a reply told in detail."""

    async def _round(self) -> None:
        json.dumps(json.loads(self._document))

    async def _prepare(self, stack: AsyncExitStack) -> None:
        choice = {"index": 0, "delta": {"role": "assistant", "content": " words"}, "finish_reason": None}
        chunk = {"id": "chatcmpl-0123456789", "object": "chat.completion.chunk", "created": 0, "choices": [choice]}
        self._document = json.dumps([chunk] * CHUNKS)


class Whisper(Disturbance):
    """faster-whisper transcribes without pause, where its engine places it: a thread or a process, on `core`."""

    async def _round(self) -> None:
        await self._engine.transcribe(self._utterance)

    async def _pause(self) -> None:
        """There is none."""

    async def _prepare(self, stack: AsyncExitStack) -> None:
        descriptor = config.engine_descriptors()[WHISPER]
        host = LocalEngineHost()
        stack.push_async_callback(host.aclose)
        # One thread: it has one core.
        options = descriptor.options.model_validate({"model": self._whisper, "cpu_threads": 1, "device": "cpu"})
        context = EngineContext(_PinnedHost(host, self._core), self._models)
        engine = await load_in_thread(descriptor, options, context)
        self._engine = cast(SpeechToText, engine)
        stack.push_async_callback(self._engine.aclose)
        await self._engine.start()
        noise = np.random.default_rng(1).normal(0, 2000, round(UTTERANCE_SECONDS * 8000))
        self._utterance = Audio(noise.astype(np.int16), 8000)


@dataclass(frozen=True, slots=True)
class _PinnedHost:
    """An `EngineHost` whose workers run on one core, at the usual priority."""

    host: EngineHost
    core: int | None

    async def start(self, factory: Callable[[], Callable[..., Any]], placement: Placement, name: str) -> Worker:
        return await self.host.start(partial(_pinned, factory, self.core), placement, name)


def _pinned(factory: Callable[[], Callable[..., Any]], core: int | None) -> Callable[..., Any]:
    """Runs in the worker, before it loads: what it starts inherits both."""
    thread = threading.get_native_id()
    if core is not None:
        os.sched_setaffinity(thread, {core})
    os.setpriority(os.PRIO_PROCESS, thread, max(0, os.getpriority(os.PRIO_PROCESS, thread)))
    return factory()


DISTURBANCES: Mapping[str, type[Disturbance]] = {"whisper": Whisper, "gc": GarbageCollection, "json": BigJson}
"""By the names of `--disturb`."""
