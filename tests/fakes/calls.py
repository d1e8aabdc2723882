"""A stage for calls in virtual time: real calls, recorder and registry on a fake leg, port and pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from connector.call import Call, Plan, Registry
from connector.config.model import Flavor, RecordSettings
from connector.errors import VoxtrunkError
from connector.interfaces import Action, AudioPort, CallInfo, Digit, Pipeline, PipelineObserver
from connector.record import CallRecord, CallRecorder, Disk, Turn
from tests.fakes.audio_port import FakeAudioPort
from tests.fakes.cdr_store import FakeCdrStore
from tests.fakes.clock import LoopClock
from tests.fakes.leg import FakeLeg

NO_FILES = RecordSettings(directory=Path("nowhere"), audio=False, transcript=False)


class FakePipeline:
    """Runs until cancelled, or until it `fails`; notes what it is told."""

    def __init__(self, observer: PipelineObserver, fails: BaseException | None = None) -> None:
        self.observer = observer
        self.fails = fails
        self.running = False
        self.told: list[str] = []
        self.then: list[Action] = []
        """What is due once what it was to say has been heard."""

    async def run(self) -> None:
        self.running = True
        try:
            if self.fails is not None:
                await asyncio.sleep(1)
                raise self.fails
            await asyncio.get_running_loop().create_future()
        finally:
            self.running = False

    def digit(self, digit: Digit) -> None:
        self.told.append(f"digit {digit.digit}")

    def hold(self, held: bool) -> None:
        self.told.append("held" if held else "resumed")

    def say(self, text: str, then: Action | None = None) -> None:
        self.told.append(f"say {text}")
        if then is not None:
            self.then.append(then)


class FakeMonitor:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.turns: list[Turn] = []
        self.records: list[CallRecord] = []

    def began(self, info: CallInfo) -> None:
        self.told.append("began")

    def answered(self, info: CallInfo, flavor: str) -> None:
        self.told.append(f"answered by {flavor}")

    def turn(self, info: CallInfo, turn: Turn) -> None:
        self.turns.append(turn)

    def ended(self, info: CallInfo, record: CallRecord) -> None:
        self.told.append("ended")
        self.records.append(record)


@dataclass
class Stage:
    """What the calls of one test share."""

    clock: LoopClock = field(default_factory=LoopClock)
    registry: Registry = field(default_factory=lambda: Registry(cap=2, retry_after=7))
    store: FakeCdrStore = field(default_factory=FakeCdrStore)
    monitor: FakeMonitor = field(default_factory=FakeMonitor)
    flavor: Flavor = field(default_factory=lambda: Flavor(name="desk", pipeline="echo"))
    records: RecordSettings = NO_FILES
    pipelines: list[FakePipeline] = field(default_factory=list)

    def call(
        self,
        leg: FakeLeg,
        *,
        fails: BaseException | None = None,
        refuses: VoxtrunkError | None = None,
        pipeline: Callable[[AudioPort, PipelineObserver], Pipeline] | None = None,
        kind: type[Call] = Call,
    ) -> Call:
        """A call on `leg`. `fails`: its pipeline raises that after a second. `refuses`: its dialplan does."""

        async def make(port: AudioPort, observer: PipelineObserver) -> Pipeline:
            if pipeline is not None:
                return pipeline(port, observer)
            made = FakePipeline(observer, fails)
            self.pipelines.append(made)
            return made

        def dialplan(info: CallInfo) -> Plan:
            if refuses is not None:
                raise refuses
            return Plan(self.flavor, "number 1000", make)

        return kind(
            leg,
            dialplan=dialplan,
            admission=self.registry.admit,
            recorder=CallRecorder(leg.info, self.records, Disk(), self.store, self.clock),
            clock=self.clock,
            monitor=self.monitor,
        )

    def take(
        self,
        leg: FakeLeg,
        *,
        fails: BaseException | None = None,
        refuses: VoxtrunkError | None = None,
        kind: type[Call] = Call,
    ) -> Call:
        """Like `call`, and runs it."""
        call = self.call(leg, fails=fails, refuses=refuses, kind=kind)
        self.registry.take(call)
        return call


@asynccontextmanager
async def a_leg(clock: LoopClock, **options: object) -> AsyncIterator[FakeLeg]:
    """A leg whose port ticks."""
    async with FakeAudioPort(clock) as port:
        yield FakeLeg(port, **options)  # type: ignore[arg-type]


async def over(stage: Stage, calls: int = 1, seconds: float = 10_000) -> list[CallRecord]:
    """Waits until `calls` calls are over; returns their records."""
    async with asyncio.timeout(seconds):
        while len(stage.monitor.records) < calls:
            await stage.clock.sleep(0.1)
    return stage.monitor.records
