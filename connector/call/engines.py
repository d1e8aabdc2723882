"""The engines that calls share, kept ready: started together, retried alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from connector.call.containment import outcome
from connector.config.model import EngineChoice, Flavor
from connector.errors import Overloaded, VoxtrunkError
from connector.interfaces import Clock, Engine, EngineContext, EngineDescriptor, EngineKind, EngineOptions

log = logging.getLogger(__name__)

FIRST_RETRY = 1.0
LONGEST_RETRY = 60.0
"""Seconds between two attempts to start or check an engine that failed, doubled from the first to the longest."""


Load = Callable[[EngineDescriptor, EngineOptions, EngineContext], Awaitable[Engine]]
"""Makes an engine that is not started."""


async def load_in_thread(descriptor: EngineDescriptor, options: EngineOptions, context: EngineContext) -> Engine:
    """Makes the engine away from the event loop: its packages may take seconds to import."""
    return await asyncio.to_thread(descriptor.load, options, context)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine. `error`: why it is not ready, "" while it starts or is."""

    engine: str
    kind: EngineKind
    ready: bool
    error: str
    failures: int


class SharedEngine:
    """One engine with one set of options, for all flavors that name both."""

    def __init__(
        self, descriptor: EngineDescriptor, choice: EngineChoice, load: Callable[[], Awaitable[Engine]]
    ) -> None:
        self.choice = choice
        self._descriptor = descriptor
        self._load = load
        self._engine: Engine | None = None
        self._ready = False
        self._error = ""
        self._failures = 0
        self._suspected = asyncio.Event()
        self.tried = asyncio.Event()
        """Set once the first attempt to start it is over."""

    @property
    def status(self) -> EngineStatus:
        return EngineStatus(self._descriptor.name, self._descriptor.kind, self._ready, self._error, self._failures)

    @property
    def engine(self) -> Engine:
        """The engine, ready for a call; raises `Overloaded` where it is not: another try may find it."""
        if self._engine is None or not self._ready:
            raise Overloaded(self._error or f"{self._descriptor.name}: starting")
        return self._engine

    def suspect(self) -> None:
        """A call saw it fail: it is checked now."""
        self._suspected.set()

    async def keep(self, clock: Clock) -> None:
        """Keeps it ready until cancelled."""
        delay = FIRST_RETRY
        while True:
            failure = await outcome(self._attempt())
            self.tried.set()
            if failure is None:
                delay = FIRST_RETRY
                await self._suspected.wait()
                self._suspected.clear()
            else:
                self._failed(failure)
                await clock.sleep(delay)
                delay = min(delay * 2, LONGEST_RETRY)

    async def aclose(self) -> None:
        self._ready = False
        if self._engine is not None:
            await self._engine.aclose()

    async def _attempt(self) -> None:
        if self._engine is None:
            engine = await self._load()
            try:
                await engine.start()
            except BaseException:
                await engine.aclose()
                raise
            self._engine = engine
        else:
            await self._engine.check()
        if not self._ready:
            log.info("engine ready", extra={"engine": self._descriptor.name})
        self._ready, self._error = True, ""

    def _failed(self, failure: BaseException) -> None:
        documented = isinstance(failure, VoxtrunkError)
        self._ready = False
        self._failures += 1
        self._error = str(failure) if documented else f"{self._descriptor.name}: internal error ({failure!r})"
        log.error(
            "engine not ready",
            exc_info=None if documented else failure,
            extra={"engine": self._descriptor.name, "error": self._error},
        )


class Engines:
    """All engines of a configuration generation.

    An engine that fails to start stops neither the others nor the process: flavors that need it
    refuse their calls until a later attempt succeeds.
    """

    def __init__(
        self,
        descriptors: Mapping[str, EngineDescriptor],
        context: EngineContext,
        clock: Clock,
        load: Load = load_in_thread,
    ) -> None:
        self._descriptors = descriptors
        self._load = load
        self._context = context
        self._clock = clock
        self._shared: list[SharedEngine] = []
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def statuses(self) -> Sequence[EngineStatus]:
        """Every engine in use, in order of first use."""
        return [shared.status for shared in self._shared]

    async def start(self, flavors: Iterable[Flavor]) -> None:
        """Starts the engines of `flavors` at the same time; returns when each was tried once."""
        for flavor in flavors:
            for choice in choices(flavor).values():
                if self._find(choice) is None:
                    self._add(choice)
        for shared in self._shared:
            await shared.tried.wait()

    def shared(self, choice: EngineChoice) -> SharedEngine:
        """The engine for `choice`, which belongs to a flavor that was started."""
        found = self._find(choice)
        if found is None:
            raise KeyError(choice.engine)
        return found

    def problem(self, flavor: Flavor) -> str:
        """Why `flavor` cannot answer now; "" where it can."""
        return "; ".join(filter(None, map(self._problem, choices(flavor).values())))

    def suspect(self, flavor: Flavor) -> None:
        """A call of `flavor` saw an engine fail: its engines are checked now."""
        for choice in choices(flavor).values():
            self.shared(choice).suspect()

    async def aclose(self) -> None:
        """Stops all engines. Idempotent."""
        keepers, self._keepers = self._keepers, []
        for keeper in keepers:
            keeper.cancel()
        if keepers:
            await asyncio.wait(keepers)
        shared, self._shared = self._shared, []
        for failure in await asyncio.gather(*(outcome(engine.aclose()) for engine in shared)):
            if failure is not None:
                log.error("engine did not stop cleanly", exc_info=failure)

    def _problem(self, choice: EngineChoice) -> str:
        shared = self._find(choice)
        if shared is not None and shared.status.ready:
            return ""
        return (shared.status.error if shared is not None else "") or f"{choice.engine}: starting"

    def _find(self, choice: EngineChoice) -> SharedEngine | None:
        # Compared, not hashed: options may hold lists and mappings.
        return next((shared for shared in self._shared if shared.choice == choice), None)

    def _add(self, choice: EngineChoice) -> None:
        descriptor = self._descriptors[choice.engine]
        shared = SharedEngine(descriptor, choice, partial(self._load, descriptor, choice.options, self._context))
        self._shared.append(shared)
        self._keepers.append(asyncio.create_task(shared.keep(self._clock), name=f"engine {choice.engine}"))


def choices(flavor: Flavor) -> Mapping[EngineKind, EngineChoice]:
    """The engines that `flavor` names, by the part each plays."""
    named = {
        EngineKind.VAD: flavor.vad,
        EngineKind.STT: flavor.stt,
        EngineKind.LLM: flavor.llm,
        EngineKind.TTS: flavor.tts,
    }
    return {kind: choice for kind, choice in named.items() if choice is not None}
