"""One call: a leg, a pipeline and their records, in one task group."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from connector.call.containment import outcome
from connector.call.monitor import CallMonitor
from connector.call.state import CallState, Event, State
from connector.config.model import Flavor
from connector.errors import ProtocolError, VoxtrunkError
from connector.interfaces import (
    Action,
    CallInfo,
    Clock,
    Digit,
    Established,
    HangUp,
    Held,
    Leg,
    LegEvent,
    MediaTimeout,
    Party,
    PauseRecording,
    Pipeline,
    PipelineFactory,
    Resumed,
    ResumeRecording,
    SendDtmf,
    Terminated,
    Transfer,
    TurnRecord,
)
from connector.record import CallRecord, CallRecorder, Disposition, Ending, MediaStatistics

log = logging.getLogger(__name__)

FAREWELL_SECONDS = 8.0
"""A call that is at its end is hung up after this long, whether its farewell was heard or not."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call gets. `route`: why, in words."""

    flavor: Flavor
    route: str
    pipeline: PipelineFactory


Dialplan = Callable[[CallInfo], Plan]
"""Decides what answers a call; raises the `VoxtrunkError` that refuses it."""

Admission = Callable[["Call"], AbstractContextManager[None]]
"""Takes a place for a call and frees it; entering raises `Overloaded` where there is none."""


@runtime_checkable
class CountsMedia(Protocol):
    """An `AudioPort` that knows what its media went through."""

    @property
    def statistics(self) -> MediaStatistics:
        """As of now."""

    @property
    def counters(self) -> Mapping[str, int]:
        """Those of `statistics` by their names, at a fraction of its cost."""

    @property
    def opinions(self) -> tuple[float | None, float | None]:
        """MOS of what we hear and of what the far end hears, as of late."""


class Call:
    """Takes one leg from its first ring to its record.

    Whatever goes wrong in it, a bug included, ends this call alone: the caller gets a final answer
    or a BYE, the record says what happened.
    """

    def __init__(
        self,
        leg: Leg,
        *,
        dialplan: Dialplan,
        admission: Admission,
        recorder: CallRecorder,
        clock: Clock,
        monitor: CallMonitor,
    ) -> None:
        self.info = leg.info
        self.recorder = recorder
        self._leg = leg
        self._dialplan = dialplan
        self._admission = admission
        self._clock = clock
        self._monitor = monitor
        self._state = CallState()
        self._pipeline: Pipeline | None = None
        self._actions: asyncio.Queue[Action] = asyncio.Queue()
        self._established = asyncio.Event()
        self._over = asyncio.Event()
        self._ending: Ending | None = None

    @property
    def state(self) -> State:
        """Where the call is."""
        return self._state.state

    @property
    def over(self) -> bool:
        """Whether it has ended, or is about to."""
        return self._ending is not None or self._over.is_set()

    async def run(self) -> CallRecord:
        """Serves the call to its end and returns its record. Cancelling it ends the call at once."""
        self._monitor.began(self.info)
        log.info(
            "call began",
            extra=self._fields(
                called=self.info.called,
                called_number=self.info.called_number,
                calling=self.recorder.calling,
                calling_number=self.recorder.calling_number,
            ),
        )
        try:
            failure = await outcome(self._live())
            if failure is not None:
                await self._give_up(failure)
        finally:
            ending = self._ending or Ending(self._disposition(Party.SYSTEM), Party.SYSTEM, "stopped")
            record = await self.recorder.finish(ending, self.media)
            log.info("call ended", extra=self._fields(disposition=ending.disposition.value, reason=ending.reason))
            self._monitor.ended(self.info, record)
        return record

    async def end(self, by: Party, reason: str) -> None:
        """Ends the call politely: BYE, or a final refusal before the answer."""
        if self.state in (State.NEW, State.EARLY):
            await self._refuse(Disposition.REJECTED, 503, "Service Unavailable", reason, None)
        elif self.state in (State.ANSWERED, State.CONFIRMED, State.HELD):
            self._ending = self._ending or Ending(self._disposition(by), by, reason)
            await self._leg.hang_up(reason)

    def pause_recording(self) -> None:
        """Keeps nothing of what is said or keyed from now on, whatever becomes of the call. Idempotent.

        Raises `RecordError` before the answer.
        """
        if self.recorder.pause():
            log.info("recording paused", extra=self._fields())

    def resume_recording(self) -> None:
        """Records again. Idempotent. Raises `RecordError` before the answer."""
        if self.recorder.resume():
            log.info("recording resumed", extra=self._fields())

    # ------------------------------------------------------------------ what the pipeline tells

    def turn(self, record: TurnRecord) -> None:
        turn = self.recorder.turn(record)
        log.info("turn", extra=self._fields(turn=turn.number, silence_ms=turn.latency.silence_ms))
        self._monitor.turn(self.info, turn)

    def act(self, action: Action) -> None:
        match action:  # what concerns the recording waits for nothing
            case PauseRecording():
                self.pause_recording()
            case ResumeRecording():
                self.resume_recording()
            case _:
                self._actions.put_nowait(action)

    # ------------------------------------------------------------------ the life of the call

    async def _live(self) -> None:
        """Follows the leg from the start (a CANCEL may come at any time) and talks beside it."""
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._follow(), name="call leg")
            talking = tasks.create_task(self._contained(self._admitted()), name="call talk")
            await self._over.wait()
            following.cancel()
            talking.cancel()

    async def _admitted(self) -> None:
        with self._admission(self):
            plan = self._dialplan(self.info)
            self.recorder.flavor, self.recorder.route = plan.flavor.name, plan.route
            await self._talk(plan)

    async def _talk(self, plan: Plan) -> None:
        self._state.apply(Event.RING)
        await self._leg.ring()
        self._pipeline = await plan.pipeline(self._leg.audio, self)
        self._state.apply(Event.ANSWER)
        await self._leg.answer()
        self._answered()
        if not self._established.is_set():
            # What the caller says is heard from here on, and the greeting made ready. It waits for the ACK: a phone
            # that has not processed the 200 yet would miss its first words.
            self._leg.audio.pause()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._limit(self._pipeline, plan.flavor), name="call limit")
            tasks.create_task(self._execute(plan.flavor), name="call actions")
            await self._pipeline.run()

    async def _limit(self, pipeline: Pipeline, flavor: Flavor) -> None:
        await self._clock.sleep(flavor.max_seconds)
        reason = "maximum duration"
        if flavor.farewell:
            pipeline.say(flavor.farewell, HangUp(reason, Party.SYSTEM))
            await self._clock.sleep(FAREWELL_SECONDS)
        await self.end(Party.SYSTEM, reason)

    async def _follow(self) -> None:
        async for event in self._leg.events():
            try:
                await self._on_event(event)
            except ProtocolError as error:
                self.recorder.error(error)
        self._over.set()

    async def _on_event(self, event: LegEvent) -> None:
        match event:
            case Established():
                self._state.apply(Event.ESTABLISH)
                self._answered()  # a leg may learn of the ACK, and of a BYE, before `answer` returns
                self._established.set()
                self._leg.audio.resume()
            case Digit():
                if self._pipeline is not None:
                    self._pipeline.digit(event)
            case Held():
                self._state.apply(Event.HOLD)
                self._hold(True)
            case Resumed():
                self._state.apply(Event.RESUME)
                self._hold(False)
            case MediaTimeout(seconds):
                await self.end(Party.SYSTEM, f"no RTP for {seconds:g} s")
            case Terminated(by, reason, status):
                ending = Ending(self._disposition(by), by, reason, None if self.recorder.answered else status)
                self._state.apply(Event.TERMINATE)
                self._ending = self._ending or ending
                self._over.set()

    def _answered(self) -> None:
        """Notes that the call was answered, once."""
        if not self.recorder.answered:
            self.recorder.start(self._leg.audio, lambda: self.media)
            self._monitor.answered(self.info, self.recorder.flavor or "")
            log.info("call answered", extra=self._fields(flavor=self.recorder.flavor))

    def _hold(self, held: bool) -> None:
        log.info("call held" if held else "call resumed", extra=self._fields())
        if self._pipeline is not None:
            self._pipeline.hold(held)

    # ------------------------------------------------------------------ actions

    async def _execute(self, flavor: Flavor) -> None:
        while True:
            action = await self._actions.get()
            log.info("action", extra=self._fields(action=type(action).__name__))
            match action:
                case HangUp(reason, by):
                    await self.end(by, reason)
                case SendDtmf(digits):
                    await self._send_dtmf(digits)
                case Transfer(target):
                    await self._transfer(target, flavor)

    async def _send_dtmf(self, digits: str) -> None:
        try:
            await self._leg.send_dtmf(digits)
        except VoxtrunkError as error:
            self.recorder.error(error)

    async def _transfer(self, target: str, flavor: Flavor) -> None:
        try:
            await self._leg.transfer(target)
        except VoxtrunkError as error:
            self.recorder.error(error)
            if self._pipeline is not None and flavor.transfer_refused:
                self._pipeline.say(flavor.transfer_refused)
        else:
            await self.end(Party.AGENT, "transferred")

    # ------------------------------------------------------------------ errors

    async def _contained(self, work: Coroutine[Any, Any, object]) -> None:
        failure = await outcome(work)
        if failure is not None and not self._over.is_set():
            await self._give_up(failure)

    async def _give_up(self, failure: BaseException) -> None:
        """Ends the call for an error: with its own SIP status before the answer, with BYE after it."""
        error = _root(failure)
        unanswered = self.state in (State.NEW, State.EARLY)
        if unanswered and isinstance(error, VoxtrunkError):
            log.warning("call refused", extra=self._fields(status=error.sip_status, reason=str(error)))
            await self._refuse(Disposition.REJECTED, error.sip_status, error.sip_reason, str(error), error.retry_after)
            return
        self.recorder.error(error)
        documented = isinstance(error, VoxtrunkError)
        if not documented:
            log.error("bug in a call", exc_info=failure, extra=self._fields())
        reason = str(error) if documented else "internal error"
        if unanswered:
            await self._refuse(
                Disposition.FAILED, VoxtrunkError.sip_status, VoxtrunkError.sip_reason, reason, retry_after=None
            )
        else:
            await self.end(Party.SYSTEM, reason)

    async def _refuse(
        self, disposition: Disposition, status: int, phrase: str, reason: str, retry_after: int | None
    ) -> None:
        self._state.apply(Event.REJECT)
        self._ending = self._ending or Ending(disposition, Party.SYSTEM, reason, status)
        await self._leg.reject(status, phrase, retry_after)
        self._over.set()

    # ------------------------------------------------------------------ the record

    def _disposition(self, by: Party) -> Disposition:
        if self.recorder.answered:
            return Disposition.ANSWERED
        return Disposition.CANCELLED if by is Party.CALLER else Disposition.FAILED

    @property
    def media(self) -> MediaStatistics | None:
        """What the media went through so far, where the port counts it."""
        port = self._counting
        return None if port is None else port.statistics

    @property
    def counters(self) -> Mapping[str, int]:
        """Of the media so far, where the port has any: those of `media`, quickly."""
        port = self._counting
        return {} if port is None else port.counters

    @property
    def opinions(self) -> tuple[float | None, float | None]:
        """MOS of what we hear and of what the far end hears, as of late; None while unknown."""
        port = self._counting
        return (None, None) if port is None else port.opinions

    @cached_property
    def _counting(self) -> CountsMedia | None:
        port: object = self._leg.audio  # asked once: to look for properties is to compute them
        return port if isinstance(port, CountsMedia) else None

    def _fields(self, **fields: object) -> dict[str, object]:
        return {"call_id": self.info.call_id, **fields}


def _root(failure: BaseException) -> Exception:
    """The first error inside task groups' exception groups."""
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure if isinstance(failure, Exception) else RuntimeError(repr(failure))
