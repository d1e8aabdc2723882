"""One outgoing call from the first INVITE to what it was like: what `voxtrunk dial` does, once per call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from connector.audio import Samples
from connector.cli.phone import Phone
from connector.cli.phone.caller import Caller, CallOver, who_ended
from connector.cli.phone.microphone import Headset
from connector.cli.phone.statistics import LineStatistics, line_statistics
from connector.cli.phone.wav import recorded
from connector.errors import CallFailed
from connector.interfaces import Clock, Digit, Leg, LegEvent

Result = TypeVar("Result")

QUIET_SECONDS = 1.0
"""The far end has finished when it has been quiet for this long."""

PATIENCE_SECONDS = 30.0
"""How long the caller lets the far end talk."""

ANSWER_SECONDS = 5.0
"""How long the caller waits for an answer to what he said."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Whom to call, and as whom. `password` is never shown."""

    uri: str
    calling: str = "voxtrunk"
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Script:
    """What a caller does.

    `speech`: what is said (a label, and samples at 8 kHz), each when the far end is quiet. `digits`:
    keys pressed after that. `seconds`: the call's length at most; None lasts until all was answered,
    or where nothing is to be said or pressed, until the far end hangs up. `headset`: talk and listen live.
    """

    speech: Sequence[tuple[str, Samples]] = ()
    digits: str = ""
    seconds: float | None = None
    headset: bool = False

    @property
    def is_open_ended(self) -> bool:
        return self.headset or not (self.speech or self.digits)


@dataclass
class Utterance:
    """One thing said. `answered_ms`: voice to voice, None without an answer."""

    said: str
    seconds: float
    answered_ms: int | None = None


@dataclass
class Report:
    """How a call went. `status`, `reason`: the final answer to INVITE. `setup_ms`: from INVITE to that answer."""

    status: int
    reason: str
    setup_ms: int
    call_id: str = ""
    seconds: float = 0.0
    ended_by: str = ""
    heard_seconds: float = 0.0
    digits: str = ""
    said: list[Utterance] = field(default_factory=list)
    line: LineStatistics | None = None

    @property
    def ok(self) -> bool:
        """Whether the call was answered."""
        return 200 <= self.status < 300


class Stopped(Exception):
    """The user does not want to go on."""


async def call(
    phone: Phone,
    destination: Destination,
    script: Script,
    clock: Clock,
    *,
    stop: asyncio.Event,
    record: Path | None = None,
    narrate: Callable[[str], None] = lambda line: None,
) -> Report:
    """Makes the call and follows the script, until `stop` is set at most.

    Raises `RecordError`, `MediaError`, `PackageMissing`; a call that is not answered is no error but a report.
    """
    async with AsyncExitStack() as stack:
        headset = await stack.enter_async_context(Headset()) if script.headset else None
        began = clock.now()
        dialling = phone.dial(
            destination.uri,
            calling=destination.calling,
            username=destination.username,
            password=destination.password,
        )
        try:
            leg = await _unless(stop, dialling)
        except CallFailed as failure:
            return Report(failure.status, failure.reason, _milliseconds(clock.now() - began))
        except Stopped:
            return Report(487, "Request Terminated", _milliseconds(clock.now() - began))
        answered = clock.now()
        report = Report(200, "OK", _milliseconds(answered - began), call_id=leg.info.call_id)
        narrate(f"answered after {report.setup_ms} ms")
        if record is not None:
            await stack.enter_async_context(recorded(leg.audio, record, clock))
        async with Caller(leg, clock, lambda event: _note(event, report, narrate)) as caller:
            if headset is not None:
                headset.connect(leg.audio, caller)
            try:
                async with asyncio.timeout(script.seconds):
                    await _unless(stop, _follow(caller, leg, script, report, narrate))
            except TimeoutError:
                narrate("time is up")
            except CallOver as over:
                narrate(str(over))
            except Stopped:
                narrate("hanging up")
            report.heard_seconds = round(sum(spurt.seconds for spurt in caller.heard.spurts), 1)
            report.line = line_statistics(leg.audio)
            report.seconds = round(clock.now() - answered, 1)
        if caller.ended is not None:
            report.ended_by = who_ended(caller.ended)
    return report


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` returns or raises; once `stop` is set, it is cancelled and `Stopped` raised."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Stopped
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait({working, stopping})


async def _follow(caller: Caller, leg: Leg, script: Script, report: Report, narrate: Callable[[str], None]) -> None:
    for label, speech in script.speech:
        await caller.wait_for_silence(QUIET_SECONDS, PATIENCE_SECONDS)
        spoken = await caller.say(speech)
        utterance = Utterance(label, round(spoken.seconds, 2))
        report.said.append(utterance)
        narrate(f"said: {label}")
        if await caller.wait_for_speech(ANSWER_SECONDS, after=spoken.start):
            delay = caller.answer_delay(spoken)
            if delay is None:
                narrate("the far end spoke meanwhile")
            else:
                utterance.answered_ms = _milliseconds(delay)
                narrate(f"answered {utterance.answered_ms} ms later")
    if script.digits:
        await caller.wait_for_silence(QUIET_SECONDS, PATIENCE_SECONDS)
        await leg.send_dtmf(script.digits)
        narrate(f"pressed: {script.digits}")
        await caller.wait_for_speech(ANSWER_SECONDS)
    if script.is_open_ended or script.seconds is not None:
        await caller.wait_for_end()
    else:
        await caller.wait_for_silence(QUIET_SECONDS, PATIENCE_SECONDS)


def _note(event: LegEvent, report: Report, narrate: Callable[[str], None]) -> None:
    if isinstance(event, Digit):
        report.digits += event.digit
        narrate(f"key received: {event.digit}")


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
