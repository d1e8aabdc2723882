"""The composition root: the real clock, sockets, engines and calls of one process."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

from connector.api import CallService, EngineReadiness, HttpApi, Metrics, PartReadiness, Readiness
from connector.call import Call, CallMonitor, Monitors, Plan, Pressure, Refusals, Registry
from connector.call.engines import Engines, RungStatus, SharedEngine
from connector.call.ladders import Ladders
from connector.call.voices import Voices
from connector.config import engine_descriptors
from connector.config.model import Flavor, Settings
from connector.errors import Overloaded
from connector.host import BatchedAudioService, BatchedVadService, LocalEngineHost
from connector.host.priority import put_thread_first
from connector.interfaces import (
    Action,
    AudioPort,
    AudioProcessor,
    CallInfo,
    Clock,
    EngineContext,
    EngineDescriptor,
    EngineKind,
    Leg,
    Pipeline,
    PipelineFactory,
    PipelineObserver,
    TurnDetector,
    TurnRecord,
    Vad,
)
from connector.leg.embedded import EmbeddedEndpoint
from connector.leg.endpoint import Endpoint
from connector.leg.opensips import OpenSipsEndpoint, edge_uri
from connector.pipeline import spoken
from connector.pipeline.cascade import Cascade, CascadeEngines
from connector.pipeline.echo import Echo
from connector.pipeline.facts import personal
from connector.pipeline.last_resort import LastResort
from connector.pipeline.processed import processed
from connector.record import Archive, CallRecorder, Disk, FileCdrStore, Journals, load_format
from connector.routing import Router
from connector.sip.message import hostport
from connector.udp.ports import PortPool
from connector.udp.ticker import Ticker
from connector.udp.timer import Timer

log = logging.getLogger(__name__)

PROBE_SECONDS = 30.0
"""Between two probes of every engine that no call asks."""


class SystemClock:
    """The machine's time; `now` is what asyncio's event loop reads too. `sleep_until` is for one loop only."""

    def __init__(self) -> None:
        self._timers: list[Timer] = []
        """Those that nobody waits for at present."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def sleep_until(self, at: float) -> None:
        timer = self._timers.pop() if self._timers else Timer()
        try:
            await timer.until(at)
        except BaseException:
            timer.close()
            raise
        self._timers.append(timer)


def settle() -> None:
    """Has packets go before all else. For a process that serves calls and nothing else, once everything is started.

    The garbage collector leaves alone what is loaded by now: a look through all of it takes up to 100 ms, in which no
    packet leaves. The calling thread, which is the event loop's, goes before others where that is permitted.
    """
    gc.collect()
    gc.freeze()
    if not put_thread_first():
        log.info("packets wait for whatever else wants their core: a nice value of -11 is not permitted (RLIMIT_NICE)")


class App:
    """One connector: takes calls from `start` until `aclose`.

    `monitors` are told of every call. `descriptors`: the engines that flavors may name, by default
    the installed ones.
    """

    ticker: Ticker
    """Drives the media of all legs, from `start` on."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        *,
        monitors: Sequence[CallMonitor] = (),
        descriptors: Mapping[str, EngineDescriptor] | None = None,
    ) -> None:
        self.settings = settings
        self._clock = clock or SystemClock()
        self._host = LocalEngineHost()
        self._engines = Engines(
            engine_descriptors() if descriptors is None else descriptors,
            EngineContext(self._host, settings.models),
            self._clock,
            report=lambda use: self._metrics.service(use),
        )
        self._voices = Voices(self.flavors, self._engines, self._clock)
        self._ladders = Ladders(self._engines, self._voices, self._clock)
        self._vads: dict[SharedEngine, BatchedVadService] = {}
        self._processing: dict[SharedEngine, BatchedAudioService] = {}
        self._router = Router(settings)
        self._pressure = Pressure()
        self._registry = Registry(settings.sip.max_calls, settings.sip.retry_after, self._pressure)
        self._metrics = Metrics(
            lambda: self._engines.statuses,
            lambda: self.readiness().flavors,
            lambda: [call.counters for call in self._registry.calls],
            lambda: self.ticker.skipped,
            self.rungs,
            self._failed_batches,
        )
        self._monitor = Monitors(self._metrics, *monitors)
        self._disk = Disk()
        self._store = FileCdrStore(settings.records.directory, self._disk)
        self._journals = Journals(settings.records.directory, self._disk, self._clock)
        self._http = HttpApi(settings.http, self, CallService(self._registry, Archive(settings.records.directory)))
        self._endpoint: Endpoint | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def local(self) -> tuple[str, int] | None:
        """Address and port where SIP is listened to; None before and after."""
        return None if self._endpoint is None else self._endpoint.local

    @property
    def http(self) -> tuple[str, int] | None:
        """Address and port of the HTTP server; None before and after."""
        return self._http.local

    @property
    def flavors(self) -> Sequence[Flavor]:
        """The flavors that a number leads to, each once."""
        named = [route.flavor for route in self.settings.routes]
        if self.settings.default is not None:
            named.append(self.settings.default)
        return [flavor for index, flavor in enumerate(named) if flavor not in named[:index]]

    async def start(self) -> None:
        """Listens, then starts the engines; returns when each was tried once.

        Raises `MediaError` where a port cannot be had. Calls that come while their engines start
        are told to try again (503).
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._disk.aclose)
            await self._disk.run(partial(load_format, self.settings.records.format))
            self._journals.recover()
            stack.push_async_callback(self._journals.aclose)
            _beside(stack, self._journals.run(), "journals")
            stack.push_async_callback(self._host.aclose)
            stack.push_async_callback(self._close_engines)
            self.ticker = Ticker(self._clock)
            for flavor in self.flavors:
                spoken.prepare(flavor.language)
            self._tick(stack)
            endpoint = self._make_endpoint()
            await endpoint.start()
            stack.push_async_callback(self._close_endpoint, endpoint)
            stack.push_async_callback(self._registry.stop)
            await self._http.start()
            stack.push_async_callback(self._http.aclose)
            self._endpoint = endpoint
            log.info("listening", extra={"sip": _address(endpoint.local), "http": _address(self.http)})
            await self._engines.start(self.flavors)
            _beside(stack, self._voices.prepare(), "voices")
            _beside(stack, self._probe_idle(), "probes")
            self._stack = stack.pop_all()

    async def drain(self, seconds: float) -> None:
        """Takes no more calls; returns when those in progress are over. What lasts longer than `seconds` is ended."""
        log.info("draining", extra={"calls": len(self._registry.calls), "seconds": seconds})
        await self._registry.drain(seconds)

    async def failure(self) -> None:
        """Waits until the process is of no more use; raises what broke it."""
        if self._ticking is not None:
            await asyncio.wait({self._ticking})
            self._ticking.result()

    async def aclose(self) -> None:
        """Ends calls, frees engines, ports and threads. Idempotent."""
        await self._stack.aclose()

    def problem(self, flavor: Flavor) -> str:
        """Why `flavor`, with the overrides of its route, cannot answer now; "" where it can."""
        return self._engines.problem(flavor)

    def rungs(self) -> Sequence[RungStatus]:
        """The engines of every flavor that answer requests, in the order they are asked; each once."""
        found = {
            (one.flavor, one.kind, one.number, one.engine): one
            for flavor in self.flavors
            for one in self._engines.rungs(flavor)
        }
        return list(found.values())

    # ------------------------------------------------------------------ what the API tells

    def readiness(self) -> Readiness:
        flavors: dict[str, str] = {}
        for flavor in self.flavors:
            problem = self.problem(flavor)
            flavors[flavor.name] = "; ".join(filter(None, (flavors.get(flavor.name), problem)))
        problem = "" if self._endpoint is None else self._endpoint.problem
        return Readiness(
            ready=self.local is not None and not self._registry.draining and not problem and not any(flavors.values()),
            problem=problem,
            draining=self._registry.draining,
            endpoint=_address(self.local),
            flavors=flavors,
            parts=self._parts(),
            engines=[
                EngineReadiness(engine=status.engine, kind=status.kind.value, ready=status.ready, error=status.error)
                for status in self._engines.statuses
            ],
        )

    def _parts(self) -> list[PartReadiness]:
        found = [
            PartReadiness(
                flavor=flavor.name,
                part=kind.value,
                engine=next((engine for engine, problem in rungs if not problem), ""),
                problem="; ".join(problem for _, problem in rungs) if all(problem for _, problem in rungs) else "",
            )
            for flavor in self.flavors
            for kind, rungs in self._engines.parts(flavor).items()
        ]
        return [part for index, part in enumerate(found) if part not in found[:index]]

    def metrics(self) -> bytes:
        return self._metrics.page()

    # ------------------------------------------------------------------ calls

    def take(self, leg: Leg) -> None:
        """Serves an incoming `leg` from now on; the endpoint's calls come here, and legs opened by others may."""
        recorder = CallRecorder(
            leg.info,
            self.settings.records,
            self._disk,
            self._store,
            self._clock,
            signalling=lambda: leg.signalling,
            journals=self._journals,
        )
        call = Call(
            leg,
            dialplan=self._plan,
            admission=self._registry.admit,
            recorder=recorder,
            clock=self._clock,
            monitor=self._monitor,
        )
        self._registry.take(call)

    def _plan(self, info: CallInfo) -> Plan:
        decision = self._router.resolve(info.called, info.called_number)
        problem = self._engines.refusal(decision.flavor)
        if problem:
            raise Overloaded(f"flavor {decision.flavor.name}: {problem}", self.settings.sip.retry_after)
        flavor = personal(decision.flavor, info)
        return Plan(flavor, decision.reason, self._pipelines(flavor))

    def _pipelines(self, flavor: Flavor) -> PipelineFactory:
        async def echo(port: AudioPort, observer: PipelineObserver) -> Pipeline:
            return Echo(port, observer)

        async def cascade(port: AudioPort, observer: PipelineObserver) -> Pipeline:
            watched = _Watched(observer, lambda: self._engines.suspect(flavor))

            def make(flavor: Flavor, observer: PipelineObserver) -> Pipeline:
                return Cascade(flavor, self._cascade_engines(flavor), port, observer, self._clock)

            if flavor.last_resort is None:
                return make(flavor, watched)
            return LastResort(make, flavor, flavor.last_resort, watched, lambda: self.problem(flavor))

        make = echo if flavor.pipeline == "echo" else cascade
        choice = flavor.engines.get(EngineKind.AUDIO)
        if choice is None:
            return make
        shared = self._engines.shared(choice)

        async def heard(port: AudioPort, observer: PipelineObserver) -> Pipeline:
            return await processed(make, self._audio(shared), port, observer)

        return heard

    def _cascade_engines(self, flavor: Flavor) -> CascadeEngines:
        detector = flavor.engines.get(EngineKind.TURN_DETECTOR)
        return CascadeEngines(
            vad=self._vad(self._engines.shared(flavor.engines[EngineKind.VAD])),
            stt=self._ladders.stt(flavor),
            llm=self._ladders.llm(flavor),
            tts=self._ladders.tts(flavor),
            # The configuration has checked that each engine is of the kind that its key names.
            turn_detector=cast("TurnDetector | None", detector and self._engines.ready(detector)),
            meters=self._engines.meters(flavor),
        )

    def _vad(self, shared: SharedEngine) -> BatchedVadService:
        """The one service of this engine: all calls in one batch."""
        if shared not in self._vads:
            self._vads[shared] = BatchedVadService(cast(Vad, shared.engine))
        return self._vads[shared]

    def _audio(self, shared: SharedEngine) -> BatchedAudioService:
        """The one service of this engine: all calls in one batch."""
        if shared not in self._processing:
            self._processing[shared] = BatchedAudioService(cast(AudioProcessor, shared.engine), self._clock)
        return self._processing[shared]

    def _failed_batches(self) -> Mapping[tuple[str, EngineKind], int]:
        failed: Counter[tuple[str, EngineKind]] = Counter()
        services: Mapping[SharedEngine, BatchedVadService | BatchedAudioService] = {**self._vads, **self._processing}
        for shared, service in services.items():
            failed[shared.status.engine, shared.status.kind] += service.failures
        return failed

    async def _probe_idle(self) -> None:
        """Has engines prove themselves where no call would find out that they are dead: `/readyz` tells what is so."""
        while True:
            await self._clock.sleep(PROBE_SECONDS)
            self._engines.probe(in_calls=bool(self._registry.calls))

    # ------------------------------------------------------------------ parts

    def _tick(self, stack: AsyncExitStack) -> None:
        def ticked(due: float) -> None:
            late = self._clock.now() - due
            self._metrics.ticked(late)
            self._pressure.ticked(late)

        self.ticker.add(ticked)
        self._ticking = _beside(stack, self.ticker.run(), "ticker")

    def _make_endpoint(self) -> Endpoint:
        """OpenSIPS where that is configured, the embedded one otherwise."""
        settings, ports = self.settings, PortPool.from_range(self.settings.media.ports)
        refusals = Refusals(self._metrics.refused, self._clock)
        if settings.opensips is not None and settings.pair is not None:
            return OpenSipsEndpoint(
                settings.pair,
                settings.media,
                max_calls=settings.sip.max_calls,
                retry_after=settings.sip.retry_after,
                clock=self._clock,
                ticker=self.ticker,
                ports=ports,
                on_call=self.take,
                on_refused=refusals,
                identity=settings.identity,
                edge=edge_uri(settings.opensips.edge),
            )
        return EmbeddedEndpoint(
            settings.sip,
            settings.media,
            clock=self._clock,
            ticker=self.ticker,
            ports=ports,
            on_call=self.take,
            on_refused=refusals,
            identity=settings.identity,
        )

    async def _close_endpoint(self, endpoint: Endpoint) -> None:
        self._endpoint = None
        await endpoint.aclose()

    async def _close_engines(self) -> None:
        for vad in self._vads.values():
            await vad.aclose()
        for processing in self._processing.values():
            await processing.aclose()
        self._vads.clear()
        self._processing.clear()
        await self._engines.aclose()


def _beside(stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Runs `work` until `stack` is closed."""
    task = asyncio.create_task(work, name=name)

    async def stop() -> None:
        task.cancel()
        await asyncio.wait({task})

    stack.push_async_callback(stop)
    return task


def _address(address: tuple[str, int] | None) -> str | None:
    return None if address is None else hostport(address)


@dataclass(frozen=True, slots=True)
class _Watched:
    """Passes on what a pipeline tells, and has the engines checked when a turn failed."""

    observer: PipelineObserver
    suspect: Callable[[], None]

    def turn(self, record: TurnRecord) -> None:
        if record.error is not None:
            self.suspect()
        self.observer.turn(record)

    def act(self, action: Action) -> None:
        self.observer.act(action)
