"""What a conversation asks of its engines: noted request by request, and judged by what the caller heard of it.

The engines that a `Metering` hands out are wrappers around those it is given, and used like them.

    metering = Metering(clock, meters)
    await metering.stt(stt).transcribe(utterance)
    metering.llm(llm, generation).reply(history)
    metering.tts(tts, generation).synthesize(piece)
    observer.turn(metering.settle(record, heard_seconds))
    metering.close()
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from connector.audio import Audio
from connector.errors import EngineError
from connector.interfaces import (
    Clock,
    Engine,
    EngineKind,
    LanguageModel,
    Message,
    ReplyEvent,
    ServiceOutcome,
    ServiceUse,
    SpeechToText,
    TextDelta,
    TextToSpeech,
    TokenUsage,
    Transcript,
    TurnDetector,
    TurnRecord,
)
from connector.pipeline.cached_speech import CachedSpeech
from connector.pipeline.ladder import LanguageModelLadder, Rung, SpeechToTextLadder, TextToSpeechLadder
from connector.pipeline.meter import Meter
from connector.pipeline.streams import PATIENCE, closing

ASKED_IN_TURNS = (EngineKind.STT, EngineKind.TURN_DETECTOR, EngineKind.LLM, EngineKind.TTS)
"""Engines that answer requests; the others run all the time."""

KEPT = 200
"""Requests that wait for a turn to belong to; of more, as in an hour of noise, the oldest belong to none."""

E = TypeVar("E", bound=Engine)


@dataclass(slots=True, eq=False)
class _Request:
    """One request in the making."""

    meter: Meter
    clock: Clock
    ticket: int
    generation: int | None
    started: float
    asked: float
    """When the engine was asked for what it owes now."""
    rung: int | None = None
    first: float | None = None
    ended: float = math.inf
    complete: bool = False
    failed: bool = False
    error: str = ""
    used: bool = False
    characters_in: int = 0
    characters_out: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    audio_in: float = 0.0
    audio_out: float = 0.0

    def came(self) -> None:
        """Something came of it."""
        if self.first is None:
            self.first = self.clock.now()
            self.meter.answered(self.ticket, self.first)

    def go_on(self) -> None:
        """The engine is asked for more."""
        self.asked = self.clock.now()

    def end(self) -> None:
        """It is over, however it went."""
        self.ended = self.clock.now()
        self.meter.end(self.ticket)
        # Whoever waits gives an engine up that says nothing for so long, and began to wait a moment before.
        if not (self.failed or self.complete) and self.ended - self.asked > 0.99 * PATIENCE:
            self.fail(f"nothing came for {PATIENCE:.0f} s")

    def fail(self, cause: str) -> None:
        """The engine failed."""
        self.failed = True
        self.error = cause

    @property
    def outcome(self) -> ServiceOutcome:
        if self.failed:
            return ServiceOutcome.FAILED
        if self.used:
            return ServiceOutcome.USED
        return ServiceOutcome.WASTED if self.complete else ServiceOutcome.CANCELLED

    def settled(self) -> ServiceUse:
        """As it is now; one that still runs is being given up."""
        return ServiceUse(
            kind=self.meter.kind,
            engine=self.meter.engine,
            generation=self.generation,
            outcome=self.outcome,
            started=self.started,
            first=self.first,
            ended=min(self.ended, self.clock.now()),
            characters_in=self.characters_in,
            characters_out=self.characters_out,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            audio_in=self.audio_in,
            audio_out=self.audio_out,
            rung=self.rung,
            error=self.error,
        )


Begin = Callable[[], AbstractContextManager[_Request]]


class Metering:
    """The requests of one conversation. `meters`: those that all calls share; engines without one get their own."""

    def __init__(self, clock: Clock, meters: Mapping[EngineKind, Meter] = MappingProxyType({})) -> None:
        self._clock = clock
        self._meters = {kind: meters.get(kind) or Meter(kind, kind.value) for kind in ASKED_IN_TURNS}
        self._requests: list[_Request] = []

    def loaded(self) -> bool:
        """Whether the engines that make answers are loaded now: an answer that may be dropped costs others time.

        How long a recogniser takes tells little of its load: the longer the utterance, the longer it takes.
        """
        now = self._clock.now()
        return any(self._meters[kind].loaded(now) for kind in (EngineKind.LLM, EngineKind.TTS))

    def stt(self, engine: SpeechToText) -> SpeechToText:
        """`engine`, noted."""
        if isinstance(engine, SpeechToTextLadder):
            return engine.around(lambda rung: MeteredSpeechToText(rung.engine(), self._for_rung(rung, None)))
        return MeteredSpeechToText(engine, self._for(EngineKind.STT, None))

    def turn_detector(self, engine: TurnDetector) -> MeteredTurnDetector:
        """`engine`, noted."""
        return MeteredTurnDetector(engine, self._for(EngineKind.TURN_DETECTOR, None))

    def llm(self, engine: LanguageModel, generation: int) -> LanguageModel:
        """`engine`, noted, at work for the reply `generation`."""
        if isinstance(engine, LanguageModelLadder):
            self._meters[EngineKind.LLM] = engine.meter
            return engine.around(lambda rung: MeteredLanguageModel(rung.engine(), self._for_rung(rung, generation)))
        return MeteredLanguageModel(engine, self._for(EngineKind.LLM, generation))

    def tts(self, engine: TextToSpeech, generation: int) -> TextToSpeech:
        """`engine`, noted, at work for the reply `generation`. What is said from a cache is asked of nobody."""
        if isinstance(engine, CachedSpeech):
            return engine.around(partial(self.tts, generation=generation))
        if isinstance(engine, TextToSpeechLadder):
            self._meters[EngineKind.TTS] = engine.meter
            return engine.around(lambda rung: _metered_voice(rung.engine(), self._for_rung(rung, generation)))
        return MeteredTextToSpeech(engine, self._for(EngineKind.TTS, generation))

    def settle(self, record: TurnRecord, heard: float = math.inf) -> TurnRecord:
        """Judges what was asked for the turn of `record`, which is over; returns the record with it.

        `heard`: seconds of the reply that the caller heard. It takes all that was for this generation or an
        earlier one, and all that listened to the caller until the turn was taken: the rest is the next turn's.
        Of the recognitions the last one counts that was complete when the words were `transcribed`. The times of
        `recognition` and `first_sentence` are filled in where the record lacks them.
        """
        timing = record.timing
        taken = (at for at in (timing.decided, timing.transcribed) if at is not None)
        listened = max(taken, default=self._clock.now())

        def due(request: _Request) -> bool:
            if request.generation is None:
                return request.started <= listened
            return request.generation <= record.generation

        settled = [request for request in self._requests if due(request)]
        self._requests = [request for request in self._requests if not due(request)]
        serving = [request for request in settled if request.generation == record.generation]
        _judge(serving, heard)
        recognition = _recognition(settled, timing.transcribed)
        if recognition is not None:
            recognition.used = True
        services = self._tell(settled)
        if recognition is not None and timing.recognition is None:
            timing = replace(timing, recognition=recognition.started)
        voiced = next((request.started for request in serving if request.meter.kind is EngineKind.TTS), None)
        if timing.first_sentence is None:
            timing = replace(timing, first_sentence=voiced)
        return replace(
            record,
            timing=timing,
            services=services,
            speculations=_speculations(services, timing.decided),
            wasted=sum(use.outcome in (ServiceOutcome.WASTED, ServiceOutcome.CANCELLED) for use in services),
        )

    def close(self) -> None:
        """The conversation is over: what belongs to no turn was in vain. Idempotent."""
        requests, self._requests = self._requests, []
        self._tell(requests)

    def _tell(self, requests: Iterable[_Request]) -> tuple[ServiceUse, ...]:
        """Tells the meters what became of `requests`."""
        services = []
        for request in requests:
            use = request.settled()
            request.meter.report(use)
            services.append(use)
        return tuple(services)

    def _for(self, kind: EngineKind, generation: int | None) -> Begin:
        return partial(self._request, self._meters[kind], generation)

    def _for_rung(self, rung: Rung[Any], generation: int | None) -> Begin:
        return partial(self._request, rung.meter, generation, rung.number)

    @contextmanager
    def _request(self, meter: Meter, generation: int | None, rung: int | None = None) -> Iterator[_Request]:
        """A request from its beginning to its end, whichever that is."""
        if len(self._requests) >= KEPT:
            self._tell([self._requests.pop(0)])
        now = self._clock.now()
        request = _Request(meter, self._clock, meter.begin(now), generation, now, now, rung)
        self._requests.append(request)
        try:
            yield request
            request.complete = True
        except EngineError as error:
            request.fail(error.message)
            raise
        finally:
            request.end()


def _judge(serving: Iterable[_Request], heard: float) -> None:
    """Notes which requests of one reply, in order, came into the `heard` seconds of it."""
    position = 0.0
    for request in serving:
        if request.meter.kind is EngineKind.TTS:
            request.used = request.audio_out > 0 and position < heard
            position += request.audio_out
        else:
            request.used = heard > 0


def _recognition(requests: Iterable[_Request], transcribed: float | None) -> _Request | None:
    """The one that the words came from, which were known at clock time `transcribed`."""
    if transcribed is None:
        return None
    recognitions = (request for request in requests if request.meter.kind is EngineKind.STT and request.complete)
    known = (request for request in recognitions if request.ended <= transcribed)
    return max(known, key=lambda request: request.ended, default=None)


def _speculations(services: Iterable[ServiceUse], decided: float | None) -> int:
    """How many replies the language model was asked for before the turn was taken."""
    if decided is None:
        return 0
    return len({use.generation for use in services if use.kind is EngineKind.LLM and use.started < decided})


class _Metered(Generic[E]):
    """An engine whose requests are noted; its life is that of the engine within."""

    def __init__(self, engine: E, request: Begin) -> None:
        self._engine = engine
        self._request = request

    async def start(self) -> None:
        await self._engine.start()

    async def check(self) -> None:
        await self._engine.check()

    async def aclose(self) -> None:
        await self._engine.aclose()


class MeteredSpeechToText(_Metered[SpeechToText]):
    """Implements `SpeechToText`."""

    async def transcribe(self, utterance: Audio, phrases: Sequence[str] = ()) -> Transcript:
        with self._request() as request:
            request.audio_in = utterance.seconds
            transcript = await self._engine.transcribe(utterance, phrases)
            request.came()
            request.characters_out = len(transcript.text)
            return transcript


class MeteredTurnDetector(_Metered[TurnDetector]):
    """Implements `TurnDetector`: whatever it says has been weighed, and so used."""

    async def probability(self, utterance: Audio) -> float:
        with self._request() as request:
            request.audio_in = utterance.seconds
            probability = await self._engine.probability(utterance)
            request.came()
            request.used = True
            return probability


class MeteredLanguageModel(_Metered[LanguageModel]):
    """Implements `LanguageModel`. The engine's count of tokens goes into the notes and no further."""

    @property
    def phrases(self) -> Sequence[str]:
        return self._engine.phrases

    async def reply(self, history: Sequence[Message]) -> AsyncGenerator[ReplyEvent, None]:
        with self._request() as request:
            request.characters_in = sum(len(message.content) for message in history)
            async with closing(self._engine.reply(history)) as events:
                async for event in events:
                    if isinstance(event, TokenUsage):
                        request.tokens_in, request.tokens_out = event.prompt, event.completion
                        continue
                    request.came()
                    if isinstance(event, TextDelta):
                        request.characters_out += len(event.text)
                        request.tokens_out += 1
                    yield event
                    request.go_on()


def _metered_voice(engine: TextToSpeech, request: Begin) -> TextToSpeech:
    """`engine`, noted: what comes from its cache is asked of nobody."""
    if isinstance(engine, CachedSpeech):
        return engine.around(lambda voice: MeteredTextToSpeech(voice, request))
    return MeteredTextToSpeech(engine, request)


class MeteredTextToSpeech(_Metered[TextToSpeech]):
    """Implements `TextToSpeech`."""

    async def synthesize(self, text: str) -> AsyncGenerator[Audio, None]:
        with self._request() as request:
            request.characters_in = len(text)
            async with closing(self._engine.synthesize(text)) as chunks:
                async for audio in chunks:
                    if len(audio.samples):
                        request.came()
                    request.audio_out += audio.seconds
                    yield audio
                    request.go_on()
