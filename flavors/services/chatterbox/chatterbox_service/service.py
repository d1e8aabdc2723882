"""Speech for the requests of many clients, by one engine, and the voices that it has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from time import monotonic

from chatterbox_service.admission import Admission, Overloaded
from chatterbox_service.audio import Converter
from chatterbox_service.engine import (
    Busy,
    Engine,
    NothingToSay,
    Request,
    Samples,
    SpeechError,
    UnknownLanguage,
    UnknownVoice,
    Voice,
)
from chatterbox_service.metrics import Metrics, Outcome
from chatterbox_service.voices import Recording, VoiceStore

log = logging.getLogger(__name__)

LOADING = "the model is being loaded"
LOADING_RETRY_SECONDS = 5
FAILURES = 5
"""Requests in a row that failed, after which whoever supervises the service had better restart it."""
BUSY_PATIENCE = 2.0
"""Seconds for which an engine may still be busy with streams that have ended for us."""
BUSY_PAUSE = 0.02


class NotReady(Exception):
    """The service does not speak now; the message says why."""


class VoiceExists(Exception):
    """A voice has that name already."""


@dataclass(frozen=True, slots=True)
class Order:
    """A text in pieces, spoken one after the other, and how. `template` holds the rest; its text is not used.

    `rate`: Hz of the audio wanted; `speed`: 0.25 to 4. `client` tells apart those who share the engine.
    """

    pieces: tuple[str, ...]
    template: Request
    rate: int
    speed: float
    client: str


class Service:
    """What the HTTP API does. It speaks from `attach` on, until `detach`."""

    def __init__(
        self,
        store: VoiceStore,
        *,
        queue: int = 16,
        patience: float = 1.0,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """`queue`, `patience` and `now`: see `Admission`."""
        self._store = store
        self._queue = queue
        self._patience = patience
        self._now = now
        self._engine: Engine | None = None
        self._admission = self._admission_of(0)
        self._changing_voices = asyncio.Lock()
        self._failures = 0
        self.problem = LOADING
        """Why it takes no requests; empty while it does."""
        self.metrics = Metrics(
            active=lambda: self._admission.active,
            waiting=lambda: self._admission.waiting,
            capacity=lambda: self.capacity,
        )

    @property
    def engine(self) -> Engine:
        """Raises `NotReady`."""
        if self.problem or self._engine is None:
            raise NotReady(self.problem)
        return self._engine

    @property
    def capacity(self) -> int:
        """Streams at once; 0 while there is no engine."""
        return self._engine.capacity if self._engine else 0

    @property
    def ailment(self) -> str:
        """Why it is not ready: its problem, or that what it takes fails, again and again; empty where it is ready."""
        failing = f"the last {self._failures} requests failed" if self._failures >= FAILURES else ""
        return self.problem or failing

    async def attach(self, engine: Engine) -> None:
        """Speaks by `engine` from now on, which is warm and knows its capacity, with the voices of the folder."""
        for name, recording in (await asyncio.to_thread(self._store.read_all)).items():
            try:
                await engine.clone(name, recording.samples, recording.rate)
            except SpeechError as error:
                log.warning("voice left out: %s: %s", name, error)
        self._engine = engine
        self._admission = self._admission_of(engine.capacity)
        self.problem = ""

    def _admission_of(self, capacity: int) -> Admission:
        return Admission(capacity, self._queue, self._patience, self._now)

    def detach(self, problem: str) -> None:
        """Takes no more requests; those in progress go on."""
        self.problem = problem

    async def speak(self, order: Order) -> AsyncGenerator[Samples, None]:
        """Speech at the order's rate and speed, as it is made; closing the generator ends it at once.

        Raises `NotReady`, `Overloaded`, `UnknownVoice` and `UnknownLanguage` before the first chunk; `NothingToSay`
        and `SpeechError` at any time.
        """
        began = self._now()
        outcome = Outcome.FAILED
        first: float | None = None
        chunks = 0
        samples = 0
        try:
            async with aclosing(self._converted(order)) as stream:
                async for chunk in stream:
                    if first is None:
                        first = self._now() - began
                        self.metrics.began(first)
                    chunks += 1
                    samples += len(chunk)
                    yield chunk
            outcome = Outcome.SPOKEN
            self._failures = 0
        except (Overloaded, NotReady, Busy):
            outcome = Outcome.REFUSED
            raise
        except (UnknownVoice, UnknownLanguage, NothingToSay):
            outcome = Outcome.INVALID
            raise
        except (GeneratorExit, asyncio.CancelledError):
            outcome = Outcome.ABORTED
            raise
        finally:
            if outcome is Outcome.FAILED:
                self._failures += 1
            self.metrics.ended(outcome)
            log.info(
                "speech over outcome=%s voice=%s characters=%d pieces=%d first_ms=%s audio_s=%.2f",
                outcome.value,
                order.template.voice,
                sum(map(len, order.pieces)),
                len(order.pieces),
                "-" if first is None else round(first * 1000),
                samples / order.rate,
            )

    async def _converted(self, order: Order) -> AsyncGenerator[Samples, None]:
        engine = self.engine
        if order.template.voice not in engine.voices:
            there_are = ", ".join(engine.voices) or "none: upload one to /v1/voices"
            raise UnknownVoice(f"no voice is called {order.template.voice!r}; there are {there_are}")
        async with self._admission.place(order.client):
            self.metrics.accepted(sum(map(len, order.pieces)))
            converter = Converter(engine.rate, order.rate, order.speed)
            for piece in order.pieces:
                # The engine is ahead of the listener, who still hears one piece while the next is begun.
                async with aclosing(self._spoken(engine, replace(order.template, text=piece))) as stream:
                    async for chunk in stream:
                        converted = converter.process(chunk)
                        if len(converted):
                            yield converted
            rest = converter.flush()
            if len(rest):
                yield rest

    async def _spoken(self, engine: Engine, request: Request) -> AsyncGenerator[Samples, None]:
        """One piece. A place with the engine is there, yet it may be freed only at the engine's next step."""
        began = self._now()
        samples = 0
        waited_for_us = 0.0
        while True:
            try:
                async with aclosing(engine.speak(request)) as stream:
                    async for chunk in stream:
                        samples += len(chunk)
                        handed = self._now()
                        yield chunk
                        waited_for_us += self._now() - handed
                self.metrics.made(samples / engine.rate, self._now() - began - waited_for_us)
                return
            except Busy:
                if self._now() - began > BUSY_PATIENCE:
                    raise
            await asyncio.sleep(BUSY_PAUSE)

    def voices(self) -> dict[str, tuple[Voice, int]]:
        """The voices, and the Unix time at which each was made (0: with the model); raises `NotReady`."""
        return {name: (voice, self._store.created(name)) for name, voice in self.engine.voices.items()}

    async def add_voice(self, name: str, recording: Recording, *, overwrite: bool) -> tuple[Voice, int]:
        """Clones the voice of a recording that was checked, and keeps it.

        Raises `NotReady`, `VoiceExists`, `SpeechError` where the engine cannot, OSError where it cannot be written. A
        voice that it was to replace then stays.
        """
        engine = self.engine
        async with self._changing_voices:
            voice = engine.voices.get(name)
            if voice is not None and not voice.cloned:
                raise VoiceExists(f"the voice {name} came with the model; choose another name")
            if voice is not None and not overwrite:
                raise VoiceExists(f"there is a voice {name}; delete it first, or send overwrite=true")
            made = await engine.clone(name, recording.samples, recording.rate)
            try:
                await asyncio.to_thread(self._store.save, name, recording)
            except OSError:
                await self._revert(engine, name)
                raise
            return made, self._store.created(name)

    async def _revert(self, engine: Engine, name: str) -> None:
        """Makes the voice again what its file says, which is whole or not there."""
        try:
            kept = await asyncio.to_thread(self._store.read, name)
            await engine.clone(name, kept.samples, kept.rate)
        except (OSError, ValueError, SpeechError):
            await engine.forget(name)

    async def remove_voice(self, name: str) -> None:
        """Raises `NotReady`, `UnknownVoice`, `SpeechError` where it came with the model, OSError."""
        engine = self.engine
        async with self._changing_voices:
            await engine.forget(name)
            await asyncio.to_thread(self._store.delete, name)
