"""One call's records: recording, transcript and the call detail record, fed by taps and turns."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from connector.config.model import RecordSettings
from connector.errors import RecordError
from connector.interfaces import (
    AudioPort,
    CallInfo,
    Clock,
    Party,
    ServiceUse,
    SignallingStep,
    TimingSource,
    TurnRecord,
)
from connector.record.cdr import (
    CallRecord,
    CdrStore,
    Disposition,
    Files,
    Pause,
    Redirection,
    Service,
    Step,
    Summary,
    Turn,
    redact,
    redact_keys,
    redact_note,
)
from connector.record.disk import Disk
from connector.record.files import CallFiles, TranscriptFile
from connector.record.journal import Journals
from connector.record.latency import WireLatency, WireTurn, latency
from connector.record.media import MediaStatistics
from connector.record.recording import Recording

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended."""

    disposition: Disposition
    by: Party
    reason: str
    status: int | None = None


CUT_OFF = "cut off: the connector stopped before it wrote this record"
"""The reason in the record of a call whose connector was killed."""

PAUSED = "[recording paused]"
"""Stands for what was said while the recording was paused."""


class CallRecorder:
    """Collects what one call leaves behind; `finish` writes it, however the call went.

    `signalling`: the call's SIP messages so far. `journals`: where a restart finds what is known of
    the call, from now on until its record is written. Nothing here fails a call: what cannot be
    written is logged and listed in the record's `errors`.
    """

    def __init__(
        self,
        info: CallInfo,
        settings: RecordSettings,
        disk: Disk,
        store: CdrStore,
        clock: Clock,
        *,
        signalling: Callable[[], Sequence[SignallingStep]] = tuple,
        journals: Journals | None = None,
    ) -> None:
        self._info = info
        self._settings = settings
        self._disk = disk
        self._store = store
        self._clock = clock
        self._signalling = signalling
        # The INVITE came when the leg says so: opening its media took a while.
        self._began = next((step.at for step in signalling()), clock.now())
        self._epoch = clock.wall() - clock.now()
        self._answered: float | None = None
        self._media: Callable[[], MediaStatistics | None] = lambda: None
        self._files = CallFiles.of(self._epoch + self._began, info.call_id, settings.format)
        self._recording: Recording | None = None
        self._transcript: TranscriptFile | None = None
        self._wire = WireLatency()
        self._timing = TimingSource.WIRE
        self._turns: list[Turn] = []
        self._told = -math.inf
        """When the last turn was over."""
        self._pauses: list[tuple[float, float]] = []
        """Clock times of begin and end, which is infinite while it lasts."""
        self._errors: list[str] = []
        self.flavor: str | None = None
        self.route: str | None = None
        self._journal = None if journals is None else journals.journal(self._files.cdr)
        self._note_down()

    @property
    def calling(self) -> str:
        """The calling number as records and logs may show it."""
        return self._redacted(self._info.calling)

    @property
    def calling_number(self) -> str:
        """The same in E.164, as records and logs may show it; "" where it is none."""
        return self._redacted(self._info.calling_number)

    @property
    def answered(self) -> bool:
        """Whether `start` was called."""
        return self._answered is not None

    @property
    def began(self) -> datetime:
        """When the call came in."""
        return self._instant(self._began)

    def start(self, port: AudioPort, media: Callable[[], MediaStatistics | None] = lambda: None) -> None:
        """The call is answered: records what passes `port` from now on. `media`: tells what it has gone through."""
        self._media = media
        self._answered = self._clock.now()
        self._timing = port.timing
        port.tap(self._wire)
        if self._settings.audio:
            path = self._settings.directory / self._files.recording
            self._recording = Recording(
                path,
                start=self._answered,
                disk=self._disk,
                on_error=self.error,
                rate=self._settings.rate,
                sync=self._settings.sync,
            )
            port.tap(self._recording)
        if self._settings.transcript:
            path = self._settings.directory / self._files.transcript
            self._transcript = TranscriptFile(path, self._disk, self.error)
        self._note_down()

    @property
    def paused(self) -> bool:
        """Whether nothing of what is said or keyed is kept."""
        return bool(self._pauses) and self._pauses[-1][1] == math.inf

    def pause(self) -> bool:
        """Keeps nothing of what is said or keyed from now on; False where that is so already.

        Raises `RecordError` before the answer: there is nothing to pause.
        """
        if self._answered is None:
            raise RecordError("the call is not answered: nothing is recorded yet")
        if self.paused:
            return False
        self._pauses.append((self._clock.now(), math.inf))
        if self._recording is not None:
            self._recording.pause()
        self._note_down()
        return True

    def resume(self) -> bool:
        """Records again from now on; False where that is so already. Raises `RecordError` as `pause` does."""
        if self._answered is None:
            raise RecordError("the call is not answered: nothing is recorded yet")
        if not self.paused:
            return False
        now = self._clock.now()
        self._pauses[-1] = (self._pauses[-1][0], now)
        if self._recording is not None:
            self._recording.resume(now)
        self._note_down()
        return True

    def turn(self, record: TurnRecord) -> Turn:
        """Measures and keeps a turn that is over."""
        wire = self._wire.turn(record.timing)
        record = self._without_secrets(record, wire)
        turn = Turn(
            number=len(self._turns) + (0 if self._greeted(record) else 1),
            heard=record.heard,
            reply=record.reply,
            spoken=record.spoken,
            interrupted=record.interrupted,
            intent=record.intent,
            caller_start=self._media_time(wire.caller_start),
            caller_end=self._media_time(wire.caller_end),
            agent_start=self._media_time(wire.agent_start),
            agent_end=self._media_time(wire.agent_end),
            latency=latency(record.timing, wire),
            error=record.error,
            services=[self._service(use) for use in record.services],
            speculations=record.speculations,
            wasted=record.wasted,
        )
        self._turns.append(turn)
        if record.error is not None:
            self._errors.append(record.error)
            log.error("turn failed", extra={"call_id": self._info.call_id, "turn": turn.number, "error": record.error})
        for service in turn.failovers:
            self._errors.append(
                f"turn {turn.number}: {service.kind.value} {service.rung}, {service.engine}: {service.error}"
            )
        if self._transcript is not None:
            self._transcript.add(*transcript_lines(turn))
        self._note_down()
        return turn

    def _without_secrets(self, record: TurnRecord, wire: WireTurn) -> TurnRecord:
        """`record` without the text of what was said, or keyed, while the recording was paused."""
        now = self._clock.now()
        decided = now if record.timing.decided is None else record.timing.decided
        before = self._told if wire.caller_start is None else min(self._told, wire.caller_start)
        self._told = now
        if record.heard and self._was_paused(before, decided):
            record = replace(record, heard=PAUSED)
        if self._was_paused(decided, now if wire.agent_end is None else wire.agent_end):
            record = replace(record, reply=record.reply and PAUSED, spoken=record.spoken and PAUSED)
        return record

    def _was_paused(self, start: float, end: float) -> bool:
        """Whether the recording was paused at any time from clock time `start` to `end`."""
        return any(begin <= end and start <= over for begin, over in self._pauses)

    def so_far(self, media: MediaStatistics | None = None) -> CallRecord:
        """The record as it would be if the connector were killed now."""
        disposition = Disposition.ANSWERED if self.answered else Disposition.FAILED
        ending = Ending(disposition, Party.SYSTEM, CUT_OFF)
        return self._record(ending, self._clock.now(), media)

    def error(self, error: Exception) -> None:
        """Keeps an error for the record, and logs it."""
        self._errors.append(f"{type(error).__name__}: {error}")
        log.error("call error", extra={"call_id": self._info.call_id, "error": str(error)})

    async def finish(self, ending: Ending, media: MediaStatistics | None) -> CallRecord:
        """Closes the files, writes the call detail record and returns it."""
        ended = self._clock.now()
        if self._recording is not None:
            await self._recording.close()
        if self._transcript is not None:
            await self._transcript.close()
        record = self._record(ending, ended, media, closed=True)
        recorded = True
        try:
            await self._store.write(record)
        except RecordError as error:
            recorded = False
            self.error(error)
            record = self._record(ending, ended, media, closed=True)
        if self._journal is not None:
            self._journal.close(recorded=recorded)
        return record

    def _note_down(self) -> None:
        if self._journal is not None:
            self._journal.update(self.so_far(self._media()))

    def _record(
        self, ending: Ending, ended: float, media: MediaStatistics | None, *, closed: bool = False
    ) -> CallRecord:
        """Once its files are `closed` those are named that there are, before that those there may be."""
        recorded = self._recording is not None and (self._recording.exists or not closed)
        transcribed = self._transcript is not None and (self._transcript.exists or not closed)
        answered = self._answered
        info = self._info
        return CallRecord(
            call_id=info.call_id,
            called=info.called,
            calling=self.calling,
            called_number=info.called_number,
            calling_number=self.calling_number,
            asserted=self._redacted(info.asserted),
            private=info.private,
            diversions=[Redirection(number=self._redacted(one.number), reason=one.reason) for one in info.diversions],
            peer=info.peer,
            flavor=self.flavor,
            route=self.route,
            disposition=ending.disposition,
            ended_by=ending.by,
            reason=ending.reason,
            status=ending.status,
            setup=self._instant(self._began),
            answered=None if answered is None else self._instant(answered),
            ended=self._instant(ended),
            setup_seconds=round((ended if answered is None else answered) - self._began, 3),
            duration_seconds=0.0 if answered is None else round(ended - answered, 3),
            timing=self._timing,
            media=media,
            turns=list(self._turns),
            summary=Summary.of(self._turns),
            pauses=[]
            if answered is None
            else [
                Pause(start=round(begin - answered, 3), end=None if over == math.inf else round(over - answered, 3))
                for begin, over in self._pauses
            ],
            errors=list(self._errors),
            signalling=[self._step(step) for step in self._signalling()],
            files=Files(
                recording=self._files.recording if recorded else None,
                transcript=self._files.transcript if transcribed else None,
                cdr=self._files.cdr,
            ),
        )

    def _service(self, use: ServiceUse) -> Service:
        return Service(
            kind=use.kind,
            engine=use.engine,
            generation=use.generation,
            outcome=use.outcome,
            at=self._media_time(use.started),
            first_ms=None if use.first is None else round((use.first - use.started) * 1000),
            total_ms=round((use.ended - use.started) * 1000),
            characters_in=use.characters_in,
            characters_out=use.characters_out,
            tokens_in=use.tokens_in,
            tokens_out=use.tokens_out,
            audio_in=round(use.audio_in, 3),
            audio_out=round(use.audio_out, 3),
            rung=use.rung,
            error=use.error,
        )

    def _step(self, step: SignallingStep) -> Step:
        note = redact_keys(step.note) if self._was_paused(step.at, step.at) else step.note
        note = redact_note(note) if self._settings.redact_numbers else note
        return Step(at=round(step.at - self._began, 3), sent=step.sent, message=step.message, note=note)

    def _redacted(self, number: str) -> str:
        return redact(number) if number and self._settings.redact_numbers else number

    def _greeted(self, record: TurnRecord) -> bool:
        """Whether turn 0 is a greeting: nobody had spoken before it."""
        return self._turns[0].number == 0 if self._turns else not record.heard

    def _instant(self, at: float) -> datetime:
        """Clock time as the record shows it: whole milliseconds."""
        return datetime.fromtimestamp(round(self._epoch + at, 3), UTC)

    def _media_time(self, at: float | None) -> float | None:
        return None if at is None or self._answered is None else round(at - self._answered, 3)


def transcript_lines(turn: Turn) -> list[dict[str, Any]]:
    """What caller and agent said in `turn`, as entries of the transcript.

    `who`: caller or agent. `start`, `end`: seconds from the beginning of the recording. `text`: as
    recognised, or as the model wrote it; `spoken`: the part that the caller heard.
    """
    lines: list[dict[str, Any]] = []
    if turn.heard:
        lines.append(
            {
                "turn": turn.number,
                "who": Party.CALLER.value,
                "start": turn.caller_start,
                "end": turn.caller_end,
                "text": turn.heard,
            }
        )
    if turn.reply:
        lines.append(
            {
                "turn": turn.number,
                "who": Party.AGENT.value,
                "start": turn.agent_start,
                "end": turn.agent_end,
                "text": turn.reply,
                "spoken": turn.spoken,
                "interrupted": turn.interrupted,
                "intent": turn.intent,
            }
        )
    return lines
