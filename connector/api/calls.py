"""Calls in progress and records of those that are over, as HTTP tells of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from connector.call import Call, Registry
from connector.errors import RecordError
from connector.record import Archive, CallRecord, MediaStatistics, Pause, Step, Turn
from connector.record.cdr import Instant, Text, encodable

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FAR = datetime(3000, 1, 1, tzinfo=UTC)


class CallSummary(BaseModel):
    """One call in progress."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    call_id: Text
    called: Text
    calling: Text
    peer: Text
    flavor: str | None
    state: str
    setup: Instant
    mos: float | None = None
    """MOS of what we hear (ITU-T G.107), up to the latest ten seconds."""
    remote_mos: float | None = None
    """MOS of what the far end hears, by its reports."""


class CallList(BaseModel):
    """Answer of `/v1/calls`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    calls: list[CallSummary]


class RunningCall(CallSummary):
    """A call in progress, as far as it has come. The fields are those of its record."""

    route: str | None
    answered: Instant | None
    media: MediaStatistics | None
    turns: list[Turn]
    pauses: list[Pause]
    errors: list[Text]
    signalling: list[Step]


class RecordQuery(BaseModel):
    """Which records."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    """At most so many."""
    since: Annotated[AwareDatetime, Field(ge=EPOCH, lt=FAR)] | None = None
    """Of calls that came in then or later: ISO 8601 with a time zone, such as 2026-11-20T10:00:00Z."""


class BrokenRecord(BaseModel):
    """A record that cannot be read."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    path: Text
    """Below the records folder."""
    reason: str


class RecordList(BaseModel):
    """Answer of `/v1/records`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    records: list[CallRecord]
    """The newest first."""
    broken: list[BrokenRecord]
    """Files that were left out."""


class HangUp(Enum):
    """What became of the wish to hang up."""

    STARTED = auto()
    OVER = auto()
    UNKNOWN = auto()


class RecordingState(BaseModel):
    """Answer to a wish to pause or to resume a call's recording."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    call_id: Text
    paused: bool
    """Nothing of what is said or keyed is kept."""


class CallService:
    """The calls of `registry`, and what `archive` has of those that are over."""

    def __init__(self, registry: Registry, archive: Archive) -> None:
        self._registry = registry
        self._archive = archive

    def summaries(self) -> Iterator[CallSummary]:
        """The calls in progress, oldest first, each as it is when it is asked for."""
        for call in tuple(self._registry.calls):
            yield _summary(call)

    async def show(self, call_id: str) -> RunningCall | CallRecord | None:
        """The call, or its record, or None where there is neither."""
        call = self._running(call_id)
        if call is None:
            return await asyncio.to_thread(self._archive.named, call_id)
        record = call.recorder.so_far(call.media)
        shared = RunningCall.model_fields.keys() & CallRecord.model_fields.keys()
        told = _summary(call).model_dump() | {name: getattr(record, name) for name in shared}
        return RunningCall(**told)

    async def hang_up(self, call_id: str) -> HangUp:
        """Begins to hang up."""
        call = self._running(call_id)
        if call is not None and not call.over:
            self._registry.hang_up(call, "hung up by the operator")
            return HangUp.STARTED
        over = call is not None or await asyncio.to_thread(self._archive.named, call_id) is not None
        return HangUp.OVER if over else HangUp.UNKNOWN

    async def pause_recording(self, call_id: str, *, paused: bool) -> RecordingState | None:
        """Pauses the recording, or resumes it where `paused` is False; None where there is no such call.

        Raises `RecordError` where the call is over or not answered yet: there is no recording then.
        """
        call = self._running(call_id)
        if call is None and await asyncio.to_thread(self._archive.named, call_id) is None:
            return None
        if call is None or call.over:
            raise RecordError("the call is over")
        if paused:
            call.pause_recording()
        else:
            call.resume_recording()
        return RecordingState(call_id=call_id, paused=call.recorder.paused)

    async def records(self, query: RecordQuery) -> RecordList:
        """The newest records that `query` asks for."""
        found = await asyncio.to_thread(self._archive.newest, query.limit, query.since)
        broken = [BrokenRecord(path=one.path, reason=one.reason) for one in found.broken]
        return RecordList(records=list(found.records), broken=broken)

    def _running(self, call_id: str) -> Call | None:
        """The call in progress with this Call-ID, as records have it."""
        return next((call for call in self._registry.calls if encodable(call.info.call_id) == call_id), None)


def _summary(call: Call) -> CallSummary:
    mos, remote_mos = (None if one is None else round(one, 2) for one in call.opinions)
    return CallSummary(
        call_id=call.info.call_id,
        called=call.info.called,
        calling=call.recorder.calling,
        peer=call.info.peer,
        flavor=call.recorder.flavor,
        state=call.state.value,
        setup=call.recorder.began,
        mos=mos,
        remote_mos=remote_mos,
    )
