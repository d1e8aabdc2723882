"""The configuration's types: what `voxtrunk.yml` and `flavors/*.yml` may say.

Values are immutable: one `Settings` is one configuration generation, and a call keeps the one it
began with. Durations are seconds unless the name says otherwise.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from connector.interfaces import EngineOptions


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class DigestUser(Section):
    """A user who may call with digest credentials (RFC 3261 section 22, RFC 8760)."""

    name: Annotated[str, Field(min_length=1)]
    password: SecretStr


class SipSettings(Section):
    """The embedded endpoint."""

    listen: str = "127.0.0.1:5060"
    """ADDRESS:PORT of the UDP socket."""
    advertise: str | None = None
    """Address that peers see, where it is not the listening one."""
    allow: tuple[Network, ...] = ()
    """Networks that may call without credentials. Loopback always may when the endpoint listens on loopback."""
    realm: str = "voxtrunk"
    users: tuple[DigestUser, ...] = ()
    max_calls: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Calls at once; one more is answered 503."""
    retry_after: Annotated[int, Field(ge=1, le=3600)] = 5
    """Retry-After of that 503, seconds."""


class MediaSettings(Section):
    """RTP."""

    ports: Annotated[str, Field(pattern=r"^\d+-\d+$")] = "40000-40999"
    """Range of UDP ports; each call takes an even one and the next (RTP and RTCP)."""
    timeout: Annotated[float, Field(gt=0)] = 20.0
    """A call that is not on hold ends after this long without RTP."""


class RecordSettings(Section):
    """What a call leaves behind."""

    directory: Path = Path("records")
    audio: bool = True
    """Stereo WAV: caller left, agent right."""
    transcript: bool = True
    redact_numbers: bool = False
    """Keep only the last two digits of calling numbers in CDR, transcript and log."""


class HttpSettings(Section):
    """Health, readiness and metrics."""

    listen: str = "127.0.0.1:8080"
    token: SecretStr | None = None
    """Bearer token for all but /healthz and /readyz; required off loopback."""


class EngineChoice(Section):
    """An engine and its options, checked by the engine's own options type."""

    engine: str
    options: EngineOptions


class TurnSettings(Section):
    """Turn-taking; all durations count audio."""

    speech_probability: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """A window at or above it is speech."""
    start_seconds: Annotated[float, Field(gt=0, le=1)] = 0.09
    """Speech that begins a turn."""
    end_silence: Annotated[float, Field(ge=0.1, le=5)] = 0.6
    """Silence that ends a turn."""
    barge_in: bool = True
    barge_in_seconds: Annotated[float, Field(gt=0, le=2)] = 0.16
    """Speech over the agent's voice that stops it."""
    max_seconds: Annotated[float, Field(ge=2, le=120)] = 30.0
    """A turn is taken after this much speech, even without silence."""
    preroll: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Audio kept from before the detected start."""


class Flavor(Section):
    """What answers a call."""

    name: str
    description: str = ""
    pipeline: Literal["cascade", "echo"] = "cascade"
    language: str = "en"
    greeting: str = ""
    persona: str = ""
    """System message of the language model."""
    apology: str = "Sorry, something went wrong on our side. Please try again."
    """Said when an engine fails in mid-call."""
    reprompt: str = ""
    """Said after `reprompt_seconds` of silence from the caller; empty for never."""
    reprompt_seconds: Annotated[float, Field(gt=0)] = 10.0
    vad: EngineChoice | None = None
    stt: EngineChoice | None = None
    llm: EngineChoice | None = None
    tts: EngineChoice | None = None
    turn: TurnSettings = TurnSettings()
    max_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """A call is ended after this long."""


class Route(Section):
    """From called number to flavor: exactly one of `number`, `prefix` and `regex`."""

    number: str | None = None
    prefix: str | None = None
    regex: re.Pattern[str] | None = None
    flavor: Flavor
    """With this route's own overrides (`with:`) applied."""
    line: int = 0
    """Line in the file, for `routes explain`."""
    file: str = ""


class Settings(Section):
    """One generation of the whole configuration."""

    file: Path
    sip: SipSettings = SipSettings()
    media: MediaSettings = MediaSettings()
    records: RecordSettings = RecordSettings()
    http: HttpSettings = HttpSettings()
    models: Path
    """Folder of fetched models."""
    flavors: dict[str, Flavor]
    routes: tuple[Route, ...] = ()
    default: Flavor | None = None
    """Answers numbers that no route names; None refuses them with 404."""
