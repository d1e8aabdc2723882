"""The call detail record: what a call was, as JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Literal, Protocol, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer

from connector.interfaces import EngineKind, Party, ServiceOutcome, TimingSource
from connector.record.latency import Latency, percentiles
from connector.record.media import MediaStatistics


class Disposition(Enum):
    """How a call went."""

    ANSWERED = "answered"
    """We answered (200 OK)."""
    REJECTED = "rejected"
    """We refused it; `status` says with what."""
    CANCELLED = "cancelled"
    """The caller gave up before the answer."""
    FAILED = "failed"
    """It could not be answered, for an error of ours or of the network."""


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Instant = Annotated[datetime, PlainSerializer(_iso, when_used="json")]
"""UTC, ISO 8601 with milliseconds and `Z`."""


def encodable(text: str) -> str:
    """`text` with what was no UTF-8 on the wire (surrogates, PEP 383) shown as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


Text = Annotated[str, AfterValidator(encodable)]
"""Text from outside: bytes that were no UTF-8 on the wire are shown as escapes."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Service(_Part):
    """One request to an engine."""

    kind: EngineKind
    """What was asked, by its key in the flavor."""
    engine: str
    """Its registered name."""
    generation: int | None
    """Number of the reply that it was for; None for what listens to the caller."""
    outcome: ServiceOutcome
    """What became of it: heard, answered in vain, broken off before it was heard, failed."""
    at: float | None
    """When it was asked, in seconds from the beginning of the recording."""
    first_ms: int | None
    """Until the first text or audio came; None where nothing did."""
    total_ms: int
    """Until it was answered, or given up."""
    characters_in: int = 0
    """Of text that it was given."""
    characters_out: int = 0
    """Of text that came."""
    tokens_in: int = 0
    """Of the request, by the engine's own count; 0 where it does not tell."""
    tokens_out: int = 0
    """Of the reply, by the engine's own count; the pieces that it came in where it does not tell."""
    audio_in: float = 0.0
    """Seconds of audio that it was given."""
    audio_out: float = 0.0
    """Seconds of audio that came."""
    rung: int | None = None
    """Its place among the engines that succeed one another, 1 for the first choice; None where it is the only one."""
    error: Text = ""
    """Why it failed; empty where it did not."""


class Turn(_Part):
    """One exchange. Times are seconds from the beginning of the recording; None where nothing was audible."""

    number: int
    """1 is the first turn; the greeting is turn 0."""
    heard: Text
    """The caller's words as recognised, or keys; empty where the agent spoke unasked."""
    reply: Text
    """What the agent had to say."""
    spoken: Text
    """The part of `reply` that the caller heard."""
    interrupted: bool
    """The caller spoke, or pressed a key, before the end of it."""
    intent: str | None
    """Which intent answered; empty for "I did not understand", None where the engine knows no intents."""
    caller_start: float | None
    """The caller's first sound."""
    caller_end: float | None
    """The caller's last sound."""
    agent_start: float | None
    """The agent's first sound."""
    agent_end: float | None
    """The agent's last sound."""
    latency: Latency
    """How long the caller waited, and for what."""
    error: Text | None = None
    """The engine's failure that cost the turn."""
    services: list[Service] = []
    """What was asked of engines since the turn before, in order."""
    speculations: int = 0
    """Answers that were begun before the end of the turn was decided."""
    wasted: int = 0
    """Requests whose result nobody heard."""

    @property
    def failovers(self) -> Sequence[Service]:
        """Requests that failed to engines that succeed one another."""
        return [one for one in self.services if one.rung is not None and one.outcome is ServiceOutcome.FAILED]


class Summary(_Part):
    """The conversation in figures."""

    turns: int = 0
    """Turns in which the caller had said or keyed something."""
    interruptions: int = 0
    """Turns whose end the caller did not wait for."""
    silence_p50_ms: int | None = None
    """Median of the silence before an answer, on the wire; None where there was none."""
    silence_p95_ms: int | None = None
    """Its 95th percentile."""
    requests: int = 0
    """Requests to engines."""
    speculations: int = 0
    """Answers that were begun before the end of a turn was decided."""
    wasted: int = 0
    """Requests whose result nobody heard."""
    failovers: int = 0
    """Requests that failed to engines that succeed one another; the turn's services tell which one took over."""

    @classmethod
    def of(cls, turns: Sequence[Turn]) -> Self:
        """The figures of `turns`."""
        p50, p95 = percentiles([turn.latency.silence_ms for turn in turns])
        return cls(
            turns=sum(bool(turn.heard) for turn in turns),
            interruptions=sum(turn.interrupted for turn in turns),
            silence_p50_ms=p50,
            silence_p95_ms=p95,
            requests=sum(len(turn.services) for turn in turns),
            speculations=sum(turn.speculations for turn in turns),
            wasted=sum(turn.wasted for turn in turns),
            failovers=sum(len(turn.failovers) for turn in turns),
        )


class Redirection(_Part):
    """One redirection on the call's way here (Diversion, History-Info)."""

    number: Text
    """Who was called before: in E.164 where it is a number."""
    reason: Text
    """Such as `user-busy` or `no-answer`; empty where unknown."""


class Step(_Part):
    """One SIP message of the call, as a line of its ladder. Retransmissions are not repeated."""

    at: float
    """Seconds from the setup."""
    sent: bool
    """By us; else by the peer."""
    message: Text
    """Method or status line."""
    note: Text
    """What matters in it: codecs, direction and address of its SDP, a key, a transfer's target, a reason."""


class Pause(_Part):
    """What was said and keyed in it was not recorded. Times are seconds from the beginning of the recording."""

    start: float
    """From then on."""
    end: float | None
    """Until then; None for the end of the call."""


class Files(_Part):
    """What the call left, relative to the records folder; None where it was not wanted or could not be written."""

    recording: str | None = None
    """The stereo recording."""
    transcript: str | None = None
    """The JSON lines."""
    cdr: str
    """This record."""


class CallRecord(_Part):
    """One call. `version` changes when a field changes its meaning or goes."""

    version: Literal[1] = 1
    """Of this form."""
    call_id: Text
    """SIP Call-ID."""
    called: Text
    """The number called: user part of the request URI."""
    calling: Text
    """The caller's number: user part of From."""
    called_number: Text = ""
    """The number called in E.164; empty for what is none, such as an extension."""
    calling_number: Text = ""
    """The caller's number in E.164, of those that the network vouches for the first."""
    asserted: Text = ""
    """Who the network vouches that the caller is (P-Asserted-Identity); empty where it vouches for nobody."""
    private: bool = False
    """The caller asked that its identity be kept."""
    diversions: list[Redirection] = []
    """Who was called before, the last one first."""
    peer: Text
    """ADDRESS:PORT of the signalling peer."""
    flavor: str | None
    """None where no route led to one."""
    route: str | None
    """Why this flavor."""
    disposition: Disposition
    """How the call went."""
    ended_by: Party
    """Who ended it."""
    reason: Text
    """Why it ended, in words."""
    status: int | None
    """Final SIP status of a call that was not answered."""
    setup: Instant
    """When the call came in."""
    answered: Instant | None
    """When it was answered."""
    ended: Instant
    """When it was over."""
    setup_seconds: float
    """From the INVITE to the answer, or to the end."""
    duration_seconds: float
    """From the answer to the end; 0 without an answer."""
    timing: TimingSource
    """What the times of turns rest on."""
    media: MediaStatistics | None
    """What the media went through, where the port counts it."""
    turns: list[Turn]
    """Every exchange, in order."""
    summary: Summary = Summary()
    """The conversation in figures."""
    pauses: list[Pause] = []
    """When the recording was paused, in order."""
    errors: list[Text]
    """Everything that went wrong, in words."""
    signalling: list[Step] = []
    """The SIP messages until the record was written, in order."""
    files: Files
    """What the call left."""

    def json_line(self) -> str:
        """The record as one line of JSON."""
        return self.model_dump_json()


class CdrStore(Protocol):
    """Where call detail records go."""

    async def write(self, record: CallRecord) -> None:
        """Keeps `record`; raises `RecordError`."""


_KEY = re.compile(r"(?<=Signal=).")
_NUMBER = re.compile(r"(?:(?<=sip:)|(?<=sips:))[^@;>\s]+(?=@)|(?<=tel:)[^;>\s]+")


def redact_keys(note: str) -> str:
    """Hides the key in `Signal=5`."""
    return _KEY.sub("*", note)


def redact_note(note: str) -> str:
    """Hides the key in `Signal=5`, and numbers in SIP and tel URIs as `redact` does."""
    return _NUMBER.sub(lambda number: redact(number[0]), redact_keys(note))


def redact(number: str) -> str:
    """Keeps the last two digits of a number: `+4930123456` becomes `***56`. A name goes altogether."""
    tail = number[-2:]
    return f"***{tail}" if len(number) > len(tail) and tail.isdigit() else "***"
