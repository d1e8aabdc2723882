"""Engines that answer in time or fail: a successor, where there is one, is asked while the caller still waits.

The first text or audio is owed within the deadline. From then on the caller has something to listen to: the next is
owed once that is over, and no sooner than the deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Generic, TypeVar

from connector.audio import Audio
from connector.errors import EngineLate
from connector.interfaces import (
    Clock,
    Engine,
    LanguageModel,
    Message,
    ReplyEvent,
    SpeechToText,
    TextDelta,
    TextToSpeech,
    Transcript,
)
from connector.pipeline.script import CHARACTERS_PER_SECOND
from connector.pipeline.sentences import SentenceSplitter
from connector.pipeline.streams import closing

USUAL_UTTERANCE = 5.0
"""Seconds of audio that a recogniser's deadline is for; a longer utterance gives it more time in proportion."""

E = TypeVar("E", bound=Engine)
T = TypeVar("T")


class _Timely(Generic[E]):
    """An engine with a deadline in seconds; its life is that of the engine within. `name`: its registered name."""

    def __init__(self, engine: E, name: str, deadline: float, clock: Clock) -> None:
        self._engine = engine
        self._name = name
        self._deadline = deadline
        self._clock = clock

    async def start(self) -> None:
        await self._engine.start()

    async def check(self) -> None:
        await self._engine.check()

    async def aclose(self) -> None:
        await self._engine.aclose()

    async def _owed(self, awaitable: Awaitable[T], seconds: float, wanted: str) -> T:
        """Awaits what the engine owes; raises `EngineLate` where it takes longer than `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                return await awaitable
        except TimeoutError as error:
            raise EngineLate(self._name, f"no {wanted} within {seconds:.1f} s") from error


class TimelySpeechToText(_Timely[SpeechToText]):
    """Implements `SpeechToText`; raises `EngineLate`."""

    async def transcribe(self, utterance: Audio, phrases: Sequence[str] = ()) -> Transcript:
        seconds = self._deadline * max(1.0, utterance.seconds / USUAL_UTTERANCE)
        return await self._owed(self._engine.transcribe(utterance, phrases), seconds, "text")


class TimelyLanguageModel(_Timely[LanguageModel]):
    """Implements `LanguageModel`; raises `EngineLate`."""

    @property
    def phrases(self) -> Sequence[str]:
        return self._engine.phrases

    async def reply(self, history: Sequence[Message]) -> AsyncGenerator[ReplyEvent, None]:
        audience, sentences = _Audience(self._clock), SentenceSplitter()
        wanted = "text"
        async with closing(self._engine.reply(history)) as events:
            while True:
                try:
                    event = await self._owed(anext(events), max(self._deadline, audience.listens), wanted)
                except StopAsyncIteration:
                    return
                if isinstance(event, TextDelta) and event.text:
                    wanted = "more text"
                    for piece in sentences.push(event.text):  # nothing else is said yet
                        audience.give(len(piece) / CHARACTERS_PER_SECOND)
                yield event


class TimelyTextToSpeech(_Timely[TextToSpeech]):
    """Implements `TextToSpeech`; raises `EngineLate`."""

    async def synthesize(self, text: str) -> AsyncGenerator[Audio, None]:
        audience = _Audience(self._clock)
        wanted = "audio"
        async with closing(self._engine.synthesize(text)) as chunks:
            while True:
                try:
                    audio = await self._owed(anext(chunks), max(self._deadline, audience.listens), wanted)
                except StopAsyncIteration:
                    return
                if len(audio.samples):
                    wanted = "more audio"
                    audience.give(audio.seconds)
                yield audio


class _Audience:
    """Whoever listens to what a stream has brought so far."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = clock.now()

    def give(self, seconds: float) -> None:
        """There is so much more to listen to."""
        self._until = max(self._until, self._clock.now()) + seconds

    @property
    def listens(self) -> float:
        """Seconds until it has heard everything; negative after that."""
        return self._until - self._clock.now()
