"""The engines that calls share, kept ready: started together, retried alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product, starmap
from threading import Event
from typing import Any, cast

import numpy as np

from connector.audio import Audio
from connector.call.containment import outcome
from connector.call.downloads import fetch_missing
from connector.config.model import SPARED, SUCCEEDED, EngineChoice, Flavor
from connector.errors import EngineBusy, Overloaded, VoxtrunkError
from connector.interfaces import (
    Clock,
    Engine,
    EngineContext,
    EngineDescriptor,
    EngineKind,
    EngineOptions,
    LanguageModel,
    ServiceUse,
    SpeechToText,
)
from connector.pipeline.circuit import Circuit, CircuitState
from connector.pipeline.meter import Meter
from connector.pipeline.streams import patiently

log = logging.getLogger(__name__)

FIRST_RETRY = 1.0
LONGEST_RETRY = 60.0
"""Seconds between two attempts to start or check an engine that failed, doubled from the first to the longest."""

SILENCE = Audio(np.zeros(4000, np.int16), 8000)
"""What a recogniser hears in a rehearsal."""

Load = Callable[[EngineDescriptor, EngineOptions, EngineContext], Awaitable[Engine]]
"""Makes an engine that is not started."""


async def load_in_thread(descriptor: EngineDescriptor, options: EngineOptions, context: EngineContext) -> Engine:
    """Makes the engine away from the event loop: its packages may take seconds to import, its model hours to come.

    In a thread of its own: those that the loop has are few, and for what is over soon, such as looking up a name.
    """
    stop = Event()

    def load() -> Engine:
        fetch_missing(descriptor, options, context.models, stop)
        return descriptor.load(options, context)

    threads = ThreadPoolExecutor(1, f"load {descriptor.name}")
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, load)
    finally:
        stop.set()
        threads.shutdown(wait=False)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine. `error`: why it is not ready, "" while it starts or is. `in_flight`: requests of calls that run."""

    engine: str
    kind: EngineKind
    ready: bool
    error: str
    failures: int
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class RungStatus:
    """One engine of a flavor, in its place among those that succeed one another.

    `number`: from 1 on. `problem`: why it is not asked, "" where it is.
    """

    flavor: str
    kind: EngineKind
    number: int
    engine: str
    circuit: CircuitState
    problem: str


class Upkeep:
    """Keeps one thing ready: tries until it succeeds, and again when it is suspected.

    `attempt` makes it ready, or proves that it still is; it raises where it cannot. It is the probe of the `circuit`.
    """

    def __init__(self, name: str, attempt: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.name = name
        self.circuit = Circuit(name, self._doubt)
        self.ready = asyncio.Event()
        """Set while the circuit is closed."""
        self.tried = asyncio.Event()
        """Set once the first attempt is over."""
        self.failures = 0
        self._attempt = attempt
        self._suspected = asyncio.Event()

    @property
    def error(self) -> str:
        """Why it is not ready; empty while it starts or is."""
        return "" if self.circuit.closed else self.circuit.cause

    @property
    def problem(self) -> str:
        """Why it cannot be used now; empty where it can."""
        return self.circuit.problem

    def suspect(self) -> None:
        """A call saw it fail: it is tried now."""
        self._suspected.set()

    async def keep(self, clock: Clock) -> None:
        """Keeps it ready until cancelled."""
        delay = FIRST_RETRY
        while True:
            self.circuit.probe_began()
            failure = await outcome(self._attempt())
            # No place for a probe is no news of an engine that serves; it is not enough of one that has failed.
            if failure is None or (isinstance(failure, EngineBusy) and self.circuit.closed):
                self._succeeded()
                delay = FIRST_RETRY
                await self._suspected.wait()
                self._suspected.clear()
                await self._rest(self.circuit.rest, clock)
            else:
                self._failed(failure)
                await self._rest(delay, clock)
                delay = min(delay * 2, LONGEST_RETRY)

    async def _rest(self, seconds: float, clock: Clock) -> None:
        """Waits `seconds`; less where a call fails meanwhile, which had nobody else to ask."""
        waiting = [asyncio.create_task(clock.sleep(seconds)), asyncio.create_task(self._suspected.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
        self._suspected.clear()

    def _doubt(self) -> None:
        """A request failed, or would have been made."""
        if self.ready.is_set() and not self.circuit.closed:
            self.ready.clear()
            log.warning("engine given up", extra={"engine": self.name, "error": self.circuit.cause})
        self.suspect()

    def _succeeded(self) -> None:
        self.circuit.probe_passed()
        if self.circuit.closed:
            if not self.ready.is_set():
                log.info("engine ready", extra={"engine": self.name})
            self.ready.set()
        self.tried.set()

    def _failed(self, failure: BaseException) -> None:
        documented = isinstance(failure, VoxtrunkError)
        known = self.error
        self.failures += 1
        self.circuit.probe_failed(str(failure) if documented else f"{self.name}: internal error ({failure!r})")
        self.ready.clear()
        self.tried.set()
        # A successor may do without it for weeks.
        log.log(
            logging.DEBUG if self.error == known else logging.ERROR,
            "engine not ready",
            exc_info=None if documented else failure,
            extra={"engine": self.name, "error": self.error},
        )


class SharedEngine:
    """One engine with one set of options, for all flavors that name both.

    `report` is told of every request of a call to it.
    """

    def __init__(
        self,
        descriptor: EngineDescriptor,
        choice: EngineChoice,
        load: Callable[[], Awaitable[Engine]],
        report: Callable[[ServiceUse], None] | None = None,
    ) -> None:
        self.choice = choice
        self.meter = Meter(descriptor.kind, descriptor.name, report)
        self.upkeep = Upkeep(descriptor.name, self._attempt)
        self._descriptor = descriptor
        self._load = load
        self._engine: Engine | None = None
        self._asked = 0

    @property
    def status(self) -> EngineStatus:
        upkeep = self.upkeep
        return EngineStatus(
            self._descriptor.name,
            self._descriptor.kind,
            upkeep.ready.is_set(),
            upkeep.error,
            upkeep.failures,
            self.meter.in_flight,
        )

    @property
    def engine(self) -> Engine:
        """The engine, ready for a call; raises `Overloaded` where it is not: another try may find it."""
        if self._engine is None or self.upkeep.problem:
            raise Overloaded(self.upkeep.problem)
        return self._engine

    def was_asked(self) -> bool:
        """Whether calls have asked it since this was called last."""
        before, self._asked = self._asked, self.meter.begun
        return self._asked > before

    async def aclose(self) -> None:
        self.upkeep.ready.clear()
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
            await patiently(self._engine.check(), self.choice.engine)


class Rehearsal:
    """A recogniser with the phrases of a language model, for all flavors that have both.

    What would fail only at the first caller's first words, such as a word that cannot be pronounced,
    or take long, such as compiling the phrases, comes to light before a call is taken.
    """

    def __init__(self, recogniser: SharedEngine, model: SharedEngine) -> None:
        self.recogniser = recogniser
        self.model = model
        self.upkeep = Upkeep(f"{recogniser.choice.engine} with {model.choice.engine}", self._attempt)

    @property
    def can_begin(self) -> bool:
        """Whether both engines are ready."""
        return not (self.recogniser.upkeep.problem or self.model.upkeep.problem)

    async def _attempt(self) -> None:
        await self.recogniser.upkeep.ready.wait()
        await self.model.upkeep.ready.wait()
        # The configuration has checked that each engine is of the kind that its key names.
        model = cast(LanguageModel, self.model.engine)
        await rehearse(cast(SpeechToText, self.recogniser.engine), model.phrases)


async def rehearse(recogniser: SpeechToText, phrases: Sequence[str]) -> None:
    """Has `recogniser` do all that an utterance takes; raises what it raises."""
    await recogniser.transcribe(SILENCE, phrases)


class Engines:
    """All engines of a configuration generation.

    An engine that fails to start stops neither the others nor the process: flavors that need it
    refuse their calls until a later attempt succeeds. Engines that work together rehearse first.

    `report` is told of every request of a call to any of them.
    """

    def __init__(
        self,
        descriptors: Mapping[str, EngineDescriptor],
        context: EngineContext,
        clock: Clock,
        load: Load = load_in_thread,
        *,
        report: Callable[[ServiceUse], None] | None = None,
    ) -> None:
        self._report = report
        self._descriptors = descriptors
        self._load = load
        self._context = context
        self._clock = clock
        self._shared: list[SharedEngine] = []
        self._rehearsals: list[Rehearsal] = []
        self._keepers: list[asyncio.Task[None]] = []

    @property
    def statuses(self) -> Sequence[EngineStatus]:
        """Every engine in use, in order of first use."""
        return [shared.status for shared in self._shared]

    async def start(self, flavors: Iterable[Flavor]) -> None:
        """Starts the engines of `flavors` at the same time; returns when each was tried once, and rehearsed."""
        for flavor in flavors:
            for _, choice in flavor.rungs:
                if self._find(choice) is None:
                    self._add(choice)
            self._add_rehearsals(flavor)
        for shared in self._shared:
            await shared.upkeep.tried.wait()
        for rehearsal in self._rehearsals:
            if rehearsal.can_begin:
                await rehearsal.upkeep.tried.wait()

    def shared(self, choice: EngineChoice) -> SharedEngine:
        """The engine for `choice`, which belongs to a flavor that was started."""
        found = self._find(choice)
        if found is None:
            raise KeyError(choice.engine)
        return found

    def meters(self, flavor: Flavor) -> Mapping[EngineKind, Meter]:
        """Those of the engines of `flavor`, which was started: all its calls, and those of others, count there."""
        return {kind: self.shared(choice).meter for kind, choice in flavor.engines.items()}

    def problem(self, flavor: Flavor) -> str:
        """Why `flavor` cannot answer now, though it may have a last resort; "" where it can.

        It can where for each part that it cannot do without one engine is ready, be it the last of those that succeed
        one another.
        """
        needed = ((kind, choice) for kind, choice in flavor.engines.items() if kind not in SPARED)
        return "; ".join(filter(None, starmap(self._unplayed, needed))) or self._unrehearsed(flavor)

    def parts(self, flavor: Flavor) -> Mapping[EngineKind, Sequence[tuple[str, str]]]:
        """The engines for each part, in the order they are asked, and why each is not ready, "" where it is."""
        return {
            kind: [(choice.engine, self._problem(choice)) for choice in first.rungs]
            for kind, first in flavor.engines.items()
        }

    def refusal(self, flavor: Flavor) -> str:
        """Why a call of `flavor` cannot even be answered for its last resort; "" where it can be answered."""
        if flavor.last_resort is None:
            return self.problem(flavor)
        needed = ((kind, choice) for kind, choice in flavor.engines.items() if kind not in (*SUCCEEDED, *SPARED))
        return "; ".join(filter(None, starmap(self._unplayed, needed)))

    def ready(self, choice: EngineChoice) -> Engine | None:
        """The engine of `choice`, where it can be used now."""
        return self.shared(choice).engine if not self._problem(choice) else None

    def rungs(self, flavor: Flavor) -> Sequence[RungStatus]:
        """The engines of `flavor` that answer requests, by part, in the order they are asked; none before `start`."""
        return [
            RungStatus(flavor.name, kind, number, choice.engine, circuit.state, circuit.problem)
            for kind, first in flavor.engines.items()
            if kind in SUCCEEDED
            for number, choice in enumerate(first.rungs, 1)
            if (shared := self._find(choice)) is not None
            for circuit in (shared.upkeep.circuit,)
        ]

    def suspect(self, flavor: Flavor) -> None:
        """A call of `flavor` saw an engine fail: its engines are checked now."""
        for _, choice in flavor.rungs:
            self.shared(choice).upkeep.suspect()
        for rehearsal in self._rehearsals_of(flavor):
            rehearsal.upkeep.suspect()

    def probe(self, *, in_calls: bool) -> None:
        """Has engines checked of which no call has found out lately whether they are well.

        `in_calls`: there are calls. Those that they ask prove themselves, and those given up have probes of their own;
        left are successors that nobody has needed yet.
        """
        for shared in self._shared:
            asked = shared.was_asked()
            unneeded = shared.meter.kind in SUCCEEDED and shared.upkeep.circuit.closed and not asked
            if unneeded or not in_calls:
                shared.upkeep.suspect()
        if not in_calls:
            for rehearsal in self._rehearsals:
                rehearsal.upkeep.suspect()

    async def aclose(self) -> None:
        """Stops all engines. Idempotent."""
        keepers, self._keepers = self._keepers, []
        for keeper in keepers:
            keeper.cancel()
        if keepers:
            await asyncio.wait(keepers)
        shared, self._shared, self._rehearsals = self._shared, [], []
        for failure in await asyncio.gather(*(outcome(engine.aclose()) for engine in shared)):
            if failure is not None:
                log.error("engine did not stop cleanly", exc_info=failure)

    def _unplayed(self, kind: EngineKind, first: EngineChoice) -> str:
        """Why nobody plays the part of `kind`; "" where somebody does."""
        problems = [self._problem(choice) for choice in first.rungs]
        if not all(problems):
            return ""
        return problems[0] if len(problems) == 1 else f"{kind.value}: {'; '.join(problems)}"

    def _problem(self, choice: EngineChoice) -> str:
        shared = self._find(choice)
        return f"{choice.engine}: starting" if shared is None else shared.upkeep.problem

    def _unrehearsed(self, flavor: Flavor) -> str:
        """Why no recogniser and language model that are ready work together; "" where they do."""
        problems = [one.upkeep.problem for one in self._rehearsals_of(flavor) if one.can_begin]
        return "; ".join(problems) if all(problems) else ""

    def _find(self, choice: EngineChoice) -> SharedEngine | None:
        # Compared, not hashed: options may hold lists and mappings.
        return next((shared for shared in self._shared if shared.choice.is_same_engine(choice)), None)

    def _add(self, choice: EngineChoice) -> None:
        descriptor = self._descriptors[choice.engine]
        load = partial(self._load, descriptor, choice.options, self._context)
        shared = SharedEngine(descriptor, choice, load, self._report)
        self._shared.append(shared)
        self._keep(shared.upkeep)

    def _pairs(self, flavor: Flavor) -> Iterator[tuple[SharedEngine, SharedEngine]]:
        """Every recogniser of the flavor with every language model."""
        recogniser, model = flavor.engines.get(EngineKind.STT), flavor.engines.get(EngineKind.LLM)
        if recogniser is not None and model is not None:
            for one, other in product(recogniser.rungs, model.rungs):
                yield self.shared(one), self.shared(other)

    def _rehearsals_of(self, flavor: Flavor) -> Sequence[Rehearsal]:
        pairs = list(self._pairs(flavor)) if self._shared else []
        return [one for one in self._rehearsals if (one.recogniser, one.model) in pairs]

    def _add_rehearsals(self, flavor: Flavor) -> None:
        known = [(one.recogniser, one.model) for one in self._rehearsals]
        for recogniser, model in self._pairs(flavor):
            if (recogniser, model) not in known:
                rehearsal = Rehearsal(recogniser, model)
                self._rehearsals.append(rehearsal)
                self._keep(rehearsal.upkeep)

    def _keep(self, upkeep: Upkeep) -> None:
        self._keepers.append(asyncio.create_task(upkeep.keep(self._clock), name=f"engine {upkeep.name}"))
