"""The configuration's types: what `voxtrunk.yml` and `flavors/*.yml` may say.

Values are immutable: one `Settings` is one configuration generation, and a call keeps the one it
began with. Durations are seconds unless the name says otherwise.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from connector.config.language import language_tag
from connector.config.passages import paired
from connector.config.placeholders import checked
from connector.errors import Problem
from connector.interfaces import EngineKind, EngineOptions


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values do not change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        try:
            right = f"did you mean {ipaddress.ip_network(value, strict=False)}?"
        except ValueError:
            right = "an address or a network such as 192.0.2.0/24 is wanted"
        raise ValueError(f"is no network ({right})") from error


def split_address(text: str) -> tuple[str, int]:
    """IP address and port of `ADDRESS:PORT`, an IPv6 address in brackets; port 0 lets the system choose.

    Raises ValueError that says what would be right.
    """
    address, separator, port = text.rpartition(":")
    if not separator or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError("should be ADDRESS:PORT, such as 127.0.0.1:5060")
    if int(port) > 65535:
        raise ValueError(f"port {port} is above 65535, the highest there is")
    bracketed = address.startswith("[") and address.endswith("]")
    try:
        ip = ipaddress.ip_address(address[1:-1] if bracketed else address)
    except ValueError as error:
        raise ValueError("should name this machine by IP address, such as 127.0.0.1 or 0.0.0.0 for all") from error
    if bracketed != (ip.version == 6):
        raise ValueError("should have an IPv6 address in brackets, and no other, such as [::1]:5060")
    return str(ip), int(port)


def _listen(text: str) -> str:
    split_address(text)
    return text


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ValueError("should be an IP address, such as 192.0.2.1") from error


Listen = Annotated[str, AfterValidator(_listen)]
"""`ADDRESS:PORT`; `split_address` takes it apart."""


def split_range(text: str) -> tuple[int, int]:
    """First and last port of `FIRST-LAST`; the range holds at least one even port with the next one.

    Raises ValueError that says what would be right.
    """
    match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text)
    if match is None:
        raise ValueError("should be FIRST-LAST, such as 20000-20999")
    first, last = int(match[1]), int(match[2])
    if not 1 <= first <= last <= 65535:
        raise ValueError("should rise, within 1-65535, such as 20000-20999")
    if first + first % 2 + 1 > last:
        raise ValueError("should hold an even port and the next one (RTP and RTCP), such as 20000-20001")
    return first, last


def _port_range(text: str) -> str:
    split_range(text)
    return text


Codec = Literal["opus", "G722", "PCMU", "PCMA"]


def _once(codecs: tuple[Codec, ...]) -> tuple[Codec, ...]:
    twice = next((codec for codec in codecs if codecs.count(codec) > 1), None)
    if twice is not None:
        raise ValueError(f"names {twice} twice")
    return codecs


class DigestUser(Section):
    """A user who may call with digest credentials (RFC 3261 section 22, RFC 8760)."""

    name: Annotated[str, Field(min_length=1)]
    """As the phone gives it."""
    password: Annotated[SecretStr, Field(min_length=1)]
    """By reference only: `${NAME}` or `${file:/path}`."""


class SipSettings(Section):
    """The embedded endpoint."""

    listen: Listen = "127.0.0.1:5060"
    """ADDRESS:PORT of the UDP socket."""
    advertise: Annotated[str, AfterValidator(_address)] | None = None
    """Address that peers see, where it is not the listening one."""
    allow: tuple[Annotated[Network, BeforeValidator(_network)], ...] = ()
    """Networks that may call without credentials; loopback may too where it is listened on and there are no `users`."""
    realm: str = "voxtrunk"
    """What phones are told that the credentials are for."""
    users: tuple[DigestUser, ...] = ()
    """Who may call with digest credentials (SHA-256 or MD5) from anywhere else."""
    max_calls: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Calls at once; one more is answered 503."""
    retry_after: Annotated[int, Field(ge=1, le=3600)] = 5
    """Retry-After of that 503, seconds."""

    @property
    def address(self) -> tuple[str, int]:
        """IP address and port of `listen`."""
        return split_address(self.listen)


USUAL_HEADERS = ("User-Agent", "Subject", "P-Asserted-Identity", "Diversion", "History-Info")
"""Headers of an INVITE that flavors and records get in any case, besides all that begin with X-."""


def _region(code: str) -> str:
    # Its numbering plans take a while to load, and most configurations name no region.
    from phonenumbers import SUPPORTED_REGIONS

    if code not in SUPPORTED_REGIONS:
        raise ValueError('is no country (its ISO 3166 code is wanted, such as "DE")')
    return code


class IdentitySettings(Section):
    """Who calls whom: how numbers are read, and what is believed and kept of an INVITE."""

    region: Annotated[str, AfterValidator(_region)] | None = None
    """ISO 3166 code of the country that national numbers belong to; without it only `+49…` and `0049…` are numbers."""
    trust_asserted: bool = True
    """Believe P-Asserted-Identity and Remote-Party-ID of the peers that may call; otherwise From alone counts."""
    headers: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.!%*_+`'~-]+$")], ...] = ()
    """SIP headers that flavors get, besides those that begin with X- and the usual ones."""

    def keeps(self, header: str) -> bool:
        """True where flavors get `header`."""
        name = header.lower()
        return name.startswith("x-") or name in {kept.lower() for kept in (*USUAL_HEADERS, *self.headers)}


class MediaSettings(Section):
    """RTP."""

    ports: Annotated[str, AfterValidator(_port_range)] = "20000-20999"
    """Range of UDP ports; each call takes an even one and the next (RTP and RTCP)."""
    timeout: Annotated[float, Field(gt=0)] = 20.0
    """A call that is not on hold ends after this long without RTP."""
    codecs: Annotated[tuple[Codec, ...], Field(min_length=1), AfterValidator(_once)] | None = None
    """What calls may speak, the best first: `opus`, `G722`, `PCMU`, `PCMA`. Without it all of them, and of what a peer
    offers the first that carries more than telephony's 4 kHz (`opus`, `G722`), else the first. `opus` needs libopus
    (Debian: libopus0) or the extra `opus`; where neither is there, it is left out."""
    nat: bool = False
    """Phones of the embedded endpoint may be behind a NAT: media may come from another port than their SDP says, or
    from the address that they call from. Otherwise nothing but the address and port of the SDP is heard or sent to."""

    @property
    def port_range(self) -> tuple[int, int]:
        """First and last port of `ports`."""
        return split_range(self.ports)


class RecordSettings(Section):
    """What a call leaves behind."""

    directory: Path = Path("records")
    """Where; a relative path begins beside voxtrunk.yml."""
    audio: bool = True
    """A stereo recording: caller left, agent right."""
    format: Literal["wav", "flac", "opus"] = "wav"
    """Of recordings. An hour of two who talk in turn, at 8 kHz: `wav` 115 MB; `flac` about 40 MB, without loss; `opus`
    about 11 MB, for listening. `flac` and `opus` need the extra `recording`."""
    rate: Literal["auto", 8000, 16000] = "auto"
    """Sample rate of recordings, Hz, the same from begin to end; `auto`: 16000 where a voice is wideband (G.722, Opus)
    when the call is answered, else 8000."""
    sync: bool = False
    """Have the disk take in every write of a recording (fdatasync, 2.5 times a second for each call), so that a power
    cut costs a second, as a crash does. Without it the operating system writes when it sees fit, some 30 s later."""
    transcript: bool = True
    """What was said, a line of JSON for each."""
    redact_numbers: bool = False
    """Keep only the last two digits of calling numbers in CDR, transcript and log."""
    min_free_mb: Annotated[int, Field(ge=0)] = 500
    """`voxtrunk doctor` fails below this much free space in `directory`; an hour of stereo WAV takes 115 MB."""

    @field_validator("format")
    @classmethod
    def _can_be_encoded(cls, value: str) -> str:
        if value != "wav" and find_spec("av") is None:
            raise ValueError("needs the package av: run `pip install 'voxtrunk[recording]'`, or use wav")
        return value


class HttpSettings(Section):
    """Health, readiness and metrics."""

    listen: Listen = "127.0.0.1:8080"
    """ADDRESS:PORT of the TCP socket."""
    token: SecretStr | None = None
    """Bearer token for all but /healthz and /readyz; required off loopback."""

    @field_validator("token", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        """`${VOXTRUNK_TOKEN:-}` stands for a token that may be absent."""
        return None if value == "" else value

    @property
    def address(self) -> tuple[str, int]:
        """IP address and port of `listen`."""
        return split_address(self.listen)


SUCCEEDED = (EngineKind.STT, EngineKind.LLM, EngineKind.TTS)
"""Engines that may have successors."""

SPARED = (EngineKind.TURN_DETECTOR,)
"""Engines that a call can do without: silence and words tell that the caller has finished, too."""


def _seconds(value: Any) -> Any:
    """Says what would be right where a duration has a unit, or is in milliseconds."""
    unit = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s)", value) if isinstance(value, str) else None
    if unit is not None:
        seconds = float(unit[1]) / (1000 if unit[2] == "ms" else 1)
        raise ValueError(f"has a unit: seconds are wanted as a plain number ({seconds:g})")
    if isinstance(value, int | float) and value >= 100:
        raise ValueError(f"is too long for seconds, which are wanted ({value / 1000:g}, if those were milliseconds)")
    return value


class RungSettings(Section):
    """What a flavor may say of an engine that answers requests, beside the engine's own options."""

    deadline: Annotated[float, Field(ge=0.1, le=20), BeforeValidator(_seconds)] | None = None
    """Seconds in which the first text or audio is owed, before the next engine is asked. Without it, while there is
    one to ask, 0.6 for `stt`, 0.7 for `llm` and 0.6 for `tts`; 8 where there is none."""


class EngineChoice(RungSettings):
    """An engine and its options, checked by the engine's own options type.

    `successors`: who is asked next where it fails or is late, in that order; they have none themselves.
    """

    engine: str
    options: EngineOptions
    successors: tuple[EngineChoice, ...] = ()

    @property
    def rungs(self) -> Sequence[EngineChoice]:
        """It and its successors."""
        return (self, *self.successors)

    def is_same_engine(self, other: EngineChoice) -> bool:
        """Whether one engine serves both, however long each waits for it and whatever comes after it."""
        return (self.engine, self.options) == (other.engine, other.options)


def _menu(keys: dict[str, str]) -> dict[str, str]:
    wrong = next((key for key in keys if not re.fullmatch(r"[0-9*#]", key)), None)
    if wrong is not None:
        raise ValueError(f"has {wrong!r}, and a key is one of 0-9, * and #")
    return keys


class TurnSettings(Section):
    """Turn-taking; all durations count audio."""

    speech_probability: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """A window at or above it is speech."""
    start_seconds: Annotated[float, Field(gt=0, le=1)] = 0.09
    """Speech that begins a turn."""
    end_silence: Annotated[float, Field(ge=0.1, le=5)] = 0.5
    """Silence that ends a turn whose words are complete."""
    long_silence: Annotated[float, Field(ge=0.1, le=10)] = 2.0
    """The longest silence in a turn whose words are unfinished ("I would like to"); never less than `end_silence`."""
    expect: Literal["anything", "yes_no", "number", "name", "email", "date"] = "anything"
    """What callers are mostly asked for: it tells when an answer is complete."""
    hint_silence: Annotated[float, Field(ge=0.02, le=1)] = 0.06
    """Silence after which an answer is begun, unheard, that is dropped where the caller goes on."""
    speculate: bool = True
    """Begin answers at `hint_silence`; otherwise at the end of the turn, with less work for the engines."""
    max_speculations: Annotated[int, Field(ge=1, le=100)] = 4
    """No more answers than this are begun for one turn."""
    barge_in: bool = True
    """Whether the caller may interrupt by speaking; a key always interrupts."""
    barge_in_seconds: Annotated[float, Field(gt=0, le=2)] = 0.16
    """Speech over the agent's voice that stops it, where no words have to confirm it (`confirm_words: false`)."""
    confirm_words: bool = True
    """Speech only pauses the agent's voice until real words show that the caller interrupts; after a cough, an "uh-huh"
    or the agent's own echo the voice goes on. Speech of 0.9 s needs no words."""
    resume_after: Annotated[float, Field(ge=0.1, le=2)] = 0.3
    """Silence after such a sound until a paused voice goes on."""
    max_seconds: Annotated[float, Field(ge=2, le=120)] = 30.0
    """A turn is taken after this much speech, even without silence."""
    preroll: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Audio kept from before the detected start."""


Target = Annotated[str, Field(min_length=1)]
"""SIP or tel URI, or a bare number."""

CallText = Annotated[str, AfterValidator(checked)]
"""Text that may name facts of the call, as `connector.config.placeholders` has it."""

SpokenText = Annotated[CallText, AfterValidator(paired)]
"""`CallText` that is said, with passages marked that may not be interrupted: see `connector.config.passages`."""

LanguageTag = Annotated[str, AfterValidator(language_tag)]
"""BCP 47: a language, and where it matters a script and a region, such as `de`, `pt-BR`, `zh-Hans-CN`."""


class LastResortSettings(Section):
    """What a call comes to whose engines have failed, all that there are for one of its parts.

    It is transferred, or offered a menu, or ended.
    """

    say: SpokenText = ""
    """Said before that, in the speech that was kept when a voice worked."""
    transfer: Target | None = None
    """SIP or tel URI, or number, that the caller is transferred to."""
    keys: Annotated[dict[str, Target], AfterValidator(_menu)] = {}
    """Keys that the caller may press instead, and the target of each; `say` names them."""

    @model_validator(mode="after")
    def _one_way_out(self) -> Self:
        if self.transfer is not None and self.keys:
            raise ValueError("has transfer and keys: one of them is wanted, or none, which ends the call")
        if self.keys and not self.say:
            raise ValueError("has keys that nobody tells the caller of: add say")
        return self


class FlavorEntry(Section):
    """A flavor as YAML has it: `Flavor` without its name, which is the file's or the key's."""

    description: str = ""
    """For people who read it."""
    pipeline: Literal["cascade", "echo"] = "cascade"
    """`cascade` listens, thinks and speaks with an engine each; `echo` returns the caller's own voice."""
    language: LanguageTag = "en"
    """What is spoken, a BCP 47 tag such as `en` or `de-CH`: tells how numbers are said and when a sentence is complete.
    Engines have options of their own."""
    greeting: SpokenText = ""
    """Said when the call is answered; empty: the caller speaks first."""
    persona: CallText = ""
    """System message of the language model."""
    apology: SpokenText = "Sorry, something went wrong on our side. Please try again."
    """Said when an engine fails in mid-call."""
    transfer_refused: SpokenText = "Sorry, I could not transfer your call."
    """Said when the far end refuses a transfer, or cannot do one; empty for nothing."""
    reprompt: SpokenText = ""
    """Said after `reprompt_seconds` of silence from the caller; empty for never."""
    reprompt_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Seconds of silence before `reprompt`, each time anew."""
    reprompts: Annotated[int, Field(ge=0, le=10)] = 3
    """After so many `reprompt`s in a row without an answer the call is ended, with `farewell`; 0 for never."""
    farewell: SpokenText = ""
    """Said before a call is ended for silence or after `max_seconds`; empty for nothing."""
    fillers: tuple[Annotated[SpokenText, Field(min_length=1)], ...] = ("One moment, please.",)
    """Said in turn where an answer is late, and again while it is; an empty list for silence."""
    filler_after: Annotated[float, Field(ge=0.5, le=30)] = 1.4
    """Seconds after the caller's last word from which on an answer is late."""
    audio: EngineChoice | None = None
    """Suppresses noise and cancels echo in what the pipeline hears; without it, the pipeline hears the line itself."""
    vad: EngineChoice | None = None
    """Tells speech from silence."""
    turn_detector: EngineChoice | None = None
    """Tells by its sound whether what the caller said is finished; without it, silence and words alone tell."""
    stt: EngineChoice | None = None
    """Turns speech into text; a list names successors."""
    llm: EngineChoice | None = None
    """Finds the reply; a list names successors."""
    tts: EngineChoice | None = None
    """Turns the reply into speech; a list names successors."""
    last_resort: LastResortSettings | None = None
    """What a call comes to when no engine is left for one of its parts; without it, each turn is an `apology`."""
    turn: TurnSettings = TurnSettings()
    """When a turn begins and ends."""
    max_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """A call is ended after this long, with `farewell`."""

    @property
    def spoken(self) -> Sequence[tuple[str, str]]:
        """The texts that are said as they are, those that cannot wait first: (key, text), none of them empty."""
        keys = ("greeting", "apology", "reprompt", "farewell", "transfer_refused")
        last = "" if self.last_resort is None else self.last_resort.say
        texts = [(key, getattr(self, key)) for key in keys]
        texts += [("last_resort", last), *(("fillers", text) for text in self.fillers)]
        return [(key, text) for key, text in texts if text]


class Flavor(FlavorEntry):
    """What answers a call."""

    name: str

    @property
    def engines(self) -> Mapping[EngineKind, EngineChoice]:
        """The engines that its pipeline uses, those of first choice."""
        kinds = [EngineKind.AUDIO] if self.pipeline == "echo" else list(EngineKind)
        choices = {kind: getattr(self, kind.value) for kind in kinds}
        return {kind: choice for kind, choice in choices.items() if choice is not None}

    @property
    def rungs(self) -> Sequence[tuple[EngineKind, EngineChoice]]:
        """The same, each followed by its successors."""
        return [(kind, rung) for kind, choice in self.engines.items() for rung in choice.rungs]


class Route(Section):
    """From called number to flavor: exactly one of `number`, `prefix` and `regex`."""

    number: str | None = None
    prefix: str | None = None
    regex: re.Pattern[str] | None = None
    flavor: Flavor
    """With this route's own overrides (`with:`) applied."""
    overrides: dict[str, str] = {}
    """Those overrides, dotted key to value as the file has it (a secret stays the name of its variable)."""
    line: int = 0
    """Line in the file, for `routes explain`."""
    file: str = ""

    @property
    def matcher(self) -> tuple[str, str]:
        """How it matches, and what: ("prefix", "49")."""
        if self.number is not None:
            return "number", self.number
        if self.prefix is not None:
            return "prefix", self.prefix
        return "regex", self.regex.pattern if self.regex else ""

    def __str__(self) -> str:
        return " ".join(self.matcher)


def _one_address(listen: str) -> str:
    if ipaddress.ip_address(split_address(listen)[0]).is_unspecified:
        raise ValueError("stands for every address, and a SIP message must name one")
    return listen


def _sip_socket(text: str) -> str:
    transport, separator, address = text.partition(":")
    if not separator or transport not in ("udp", "tcp"):
        raise ValueError("should be udp:ADDRESS:PORT or tcp:ADDRESS:PORT, such as udp:192.0.2.10:5060")
    _one_address(address)
    return text


SipSocketAddress = Annotated[str, AfterValidator(_sip_socket)]
"""`udp:ADDRESS:PORT` or `tcp:ADDRESS:PORT`, as OpenSIPS writes its sockets."""


_T = TypeVar("_T")


def _some(items: tuple[_T, ...]) -> tuple[_T, ...]:
    # Unlike a bound on the length this does not count wrong items, each a problem of its own, as missing.
    if not items:
        raise ValueError("is empty: one at least is needed")
    return items


class EdgeSettings(Section):
    """The edge OpenSIPS: what PBXs and trunks see."""

    listen: Annotated[tuple[SipSocketAddress, ...], AfterValidator(_some)] = (
        "udp:127.0.0.1:5060",
        "tcp:127.0.0.1:5060",
    )
    """Its SIP sockets, as `udp:ADDRESS:PORT` or `tcp:ADDRESS:PORT`."""
    advertise: Annotated[str, AfterValidator(_address)] | None = None
    """Public address that PBXs and trunks see, where it is not the listening one (NAT)."""
    allow: tuple[Annotated[Network, BeforeValidator(_network)], ...] = ()
    """PBXs and trunks that may call, by address; loopback may too where only loopback is listened on."""
    calls_per_second: Annotated[int, Field(ge=1, le=10_000)] = 50
    """New calls above this rate are answered 503 with Retry-After."""
    mi: Listen = "127.0.0.1:8060"
    """ADDRESS:PORT of its management interface (UDP): for this machine or a closed network, it has no password."""
    hep: SipSocketAddress | None = None
    """Homer's HEP socket, such as udp:192.0.2.20:9060, for a copy of every SIP message; none is sent without it."""


def _ipv4(listen: str) -> str:
    if ":" in split_address(listen)[0]:
        raise ValueError("is IPv6, and OpenSIPS sends events over IPv4 alone, such as to 127.0.0.1:9070")
    return listen


def _pair_name(text: str) -> str:
    if not re.fullmatch("[a-z0-9][a-z0-9-]{0,31}", text):
        raise ValueError("should be small letters, digits and hyphens, such as a or berlin-2")
    return text


class PairSettings(Section):
    """A pair of UA OpenSIPS and connector: the unit of scale and of failure."""

    name: Annotated[str, AfterValidator(_pair_name)] = "a"
    """Names it in logs and in `voxtrunk serve --pair`."""
    listen: Annotated[Listen, AfterValidator(_one_address)] = "127.0.0.1:5070"
    """ADDRESS:PORT of the UA's SIP socket (UDP), which the edge sends calls to."""
    mi: Listen = "127.0.0.1:8070"
    """ADDRESS:PORT of the UA's management interface (UDP), which the connector drives it by."""
    events: Annotated[Listen, AfterValidator(_ipv4)] = "127.0.0.1:9070"
    """ADDRESS:PORT where the connector takes the UA's events (UDP)."""
    media: Annotated[str, AfterValidator(_address)] = "127.0.0.1"
    """Address of the connector's RTP; rtpengine must be able to reach it."""
    ports: Annotated[str, AfterValidator(_port_range)] | None = None
    """This connector's `media.ports`, where several share a machine."""
    http: Listen | None = None
    """This connector's `http.listen`, where several share a machine."""


class RtpengineSettings(Section):
    """rtpengine: media between PBXs or trunks and connectors."""

    control: Listen = "127.0.0.1:22222"
    """ADDRESS:PORT of its NG control protocol (UDP)."""
    external: Annotated[str, AfterValidator(_address)] = "127.0.0.1"
    """Local address of the media towards PBXs and trunks."""
    advertise: Annotated[str, AfterValidator(_address)] | None = None
    """Public address of that media, where it is not the local one (NAT)."""
    internal: Annotated[str, AfterValidator(_address)] = "127.0.0.1"
    """Local address of the media towards connectors."""
    ports: Annotated[str, AfterValidator(_port_range)] = "30000-39999"
    """Range of UDP ports; each call takes four to eight."""


def _named_once(pairs: tuple[PairSettings, ...]) -> tuple[PairSettings, ...]:
    names = [pair.name for pair in _some(pairs)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"has two pairs named {twice}: give each a name, listen, mi and events of its own")
    return pairs


class OpenSipsSettings(Section):
    """Calls come through OpenSIPS and rtpengine instead of the embedded endpoint (`sip`)."""

    edge: EdgeSettings = EdgeSettings()
    """What PBXs and trunks see."""
    rtpengine: RtpengineSettings = RtpengineSettings()
    """Media between them and the connectors."""
    pairs: Annotated[tuple[PairSettings, ...], AfterValidator(_named_once)] = (PairSettings(),)
    """UAs and connectors, one pair or several; calls go round among those that are well."""
    run: Path = Path("run")
    """Folder of what is generated for OpenSIPS and rtpengine; a relative path begins beside voxtrunk.yml."""


class Settings(Section):
    """One generation of the whole configuration."""

    file: Path
    sip: SipSettings = SipSettings()
    identity: IdentitySettings = IdentitySettings()
    media: MediaSettings = MediaSettings()
    records: RecordSettings = RecordSettings()
    http: HttpSettings = HttpSettings()
    opensips: OpenSipsSettings | None = None
    """None: calls come to the embedded endpoint."""
    pair: PairSettings | None = None
    """Which of `opensips.pairs` this connector belongs to."""
    models: Path
    """Folder of fetched models."""
    flavors: dict[str, Flavor]
    routes: tuple[Route, ...] = ()
    default: Flavor | None = None
    """Answers numbers that no route names; None refuses them with 404."""
    warnings: tuple[Problem, ...] = ()
    """What is allowed, yet probably not meant."""

    @property
    def answering(self) -> list[tuple[str, Flavor]]:
        """Every flavor that can answer a call, overrides applied, with the route (or "default") that leads to it."""
        routed = [(str(route), route.flavor) for route in self.routes]
        return [*routed, ("default", self.default)] if self.default is not None else routed
