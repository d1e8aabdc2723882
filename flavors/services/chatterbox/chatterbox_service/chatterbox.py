"""The engine: Chatterbox, shared by many streams."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from chatterbox_service.capacity import MOST_STREAMS, measure
from chatterbox_service.engine import Busy, Request, Samples, SpeechError, UnknownVoice, Voice
from chatterbox_service.guards import Bounds, Tail, bounds
from chatterbox_service.models import Conditionals, Model, choose_device, kind_of
from chatterbox_service.scheduler import Scheduler, Speech
from chatterbox_service.tokens import TOKENS_PER_SECOND, Prefix, Stepper, TokenStream
from chatterbox_service.vocoder import Attention, Timbre, Vocoder
from chatterbox_service.watermark import Watermark

log = logging.getLogger(__name__)

BUILTIN_VOICE = "default"
PROMPT_SECONDS = 2.0
"""Of a reference that the vocoder hears with each chunk; T3 hears all of it."""
_COLDEST = 0.01
"""Lower temperatures are this one: at nought there is nothing to divide by."""
_PREFIXES = 4
"""A voice is kept at so many exaggerations."""


@dataclass(slots=True)
class _Voice:
    """Conditionals, and what was computed of them."""

    voice: Voice
    conditionals: Conditionals
    timbre: Timbre
    prefixes: dict[float | None, Prefix] = field(default_factory=dict)


async def open_engine(
    model: str = "turbo",
    *,
    folder: Path | None = None,
    device: str = "auto",
    capacity: int | None = None,
    attention: Attention = "cells",
) -> ChatterboxEngine:
    """Load a model, warm it up and measure how many streams it carries (unless `capacity` says).

    `folder` holds the model's files; without it they come from the hub, as HF_TOKEN permits. `attention`: `cells`
    makes streamed and unstreamed speech the same audio; `full` lets a chunk see all that is known when it is made, as
    upstream does with a whole text. Raises `models.ModelError`.
    """
    kind = kind_of(model)
    torch_device, name = choose_device(device)

    def opened() -> ChatterboxEngine:
        if torch_device == "cuda":
            torch.set_float32_matmul_precision("high")
        return ChatterboxEngine(Model.load(kind, torch_device, folder), name, capacity, attention)

    return await asyncio.to_thread(opened)


class ChatterboxEngine:
    """`engine.Engine` of a loaded model. It takes seconds to make: see `open_engine`.

    `device`: its description. `length_of` says how long a text may become.
    """

    def __init__(
        self,
        model: Model,
        device: str,
        capacity: int | None = None,
        attention: Attention = "cells",
        length_of: Callable[[str], Bounds] = bounds,
    ) -> None:
        self._model = model
        kind = model.kind
        self.model, self.device, self.rate = kind.name, device, model.rate
        self._length_of = length_of
        self._stepper = Stepper(model.t3, kind.sampling)
        self._vocoder = Vocoder(model.s3gen, kind.flow_steps, attention)
        self._voices: dict[str, _Voice] = {}
        self._cloning = threading.Lock()
        if model.builtin:
            self._voices[BUILTIN_VOICE] = self._prepared(Voice(BUILTIN_VOICE), model.builtin)
        measured = self._measured(1 if capacity else MOST_STREAMS)  # It warms up as well.
        self.capacity = capacity or measured
        self._scheduler = Scheduler(self._stepper, self._vocoder)
        self._scheduler.start()

    @property
    def voices(self) -> Mapping[str, Voice]:
        return MappingProxyType({name: kept.voice for name, kept in self._voices.items()})

    @property
    def active(self) -> int:
        return self._scheduler.active

    async def speak(self, request: Request) -> AsyncGenerator[Samples, None]:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Samples | SpeechError | None] = asyncio.Queue()

        def deliver(item: Samples | SpeechError | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(queue.put_nowait, item)

        voice = self._kept(request.voice)
        length = self._length_of(request.text)
        text = self._model.text_tokens(request.text, request.language)
        prefix = await self._prefix(voice, request.exaggeration)
        if self.active >= self.capacity:
            raise Busy(self.capacity, self._retry_after())
        seed = secrets.randbits(62) if request.seed is None else request.seed
        temperature = self._model.kind.sampling.temperature if request.temperature is None else request.temperature
        mark, end = Watermark(self._model.marker, self.rate), Tail(self.rate)
        speech = Speech(
            tokens=TokenStream(
                text=text,
                prefix=prefix,
                generator=np.random.default_rng(seed),
                temperature=max(temperature, _COLDEST),
                minimum=length.least,
                maximum=length.most,
                expected=length.likely,
            ),
            vocoder=self._vocoder.open(voice.timbre, seed),
            closing=self._model.kind.closing,
            finish=lambda samples, last: mark(end(samples, last), last),
            deliver=deliver,
        )
        self._scheduler.submit(speech)
        try:
            while (item := await queue.get()) is not None:
                if isinstance(item, SpeechError):
                    raise item
                yield item
        finally:
            self._scheduler.cancel(speech)

    async def clone(self, name: str, samples: Samples, rate: int) -> Voice:
        if (known := self._voices.get(name)) and not known.voice.cloned:
            raise SpeechError(f"{name!r} is a built-in voice; choose another name")
        prepared = await asyncio.to_thread(self._cloned, Voice(name, cloned=True), samples, rate)
        self._voices[name] = prepared
        return prepared.voice

    async def forget(self, name: str) -> None:
        if not self._kept(name).voice.cloned:
            raise SpeechError(f"{name!r} is a built-in voice and stays")
        del self._voices[name]

    async def aclose(self) -> None:
        await asyncio.to_thread(self._scheduler.stop)

    def _kept(self, name: str) -> _Voice:
        try:
            return self._voices[name]
        except KeyError:
            known = ", ".join(self._voices) or "none: clone one"
            raise UnknownVoice(f"there is no voice {name!r}; those there are: {known}") from None

    def _cloned(self, voice: Voice, samples: Samples, rate: int) -> _Voice:
        with self._cloning:  # Upstream keeps what it prepares in the model.
            return self._prepared(voice, self._model.conditionals(samples, rate))

    def _prepared(self, voice: Voice, conditionals: Conditionals) -> _Voice:
        made = _Voice(voice, conditionals, Timbre.of(conditionals.gen, PROMPT_SECONDS))
        usual = self._model.kind.exaggeration
        made.prefixes[usual] = self._stepper.prefix(self._model.t3_conditioning(conditionals, usual))
        return made

    async def _prefix(self, voice: _Voice, exaggeration: float | None) -> Prefix:
        usual = self._model.kind.exaggeration
        wanted = usual if usual is None or exaggeration is None else round(exaggeration, 2)
        if wanted not in voice.prefixes:
            conditioning = self._model.t3_conditioning(voice.conditionals, wanted)
            voice.prefixes[wanted] = await asyncio.to_thread(self._stepper.prefix, conditioning)
            for old in [kept for kept in voice.prefixes if kept not in (usual, wanted)][: 1 - _PREFIXES]:
                voice.prefixes.pop(old, None)
        return voice.prefixes[wanted]

    def _measured(self, most: int) -> int:
        neutral = self._model.neutral()
        prefix = self._stepper.prefix(self._model.t3_conditioning(neutral, None))
        text = self._model.text_tokens("One moment please, I am looking that up for you.", None)
        timbre = Timbre.of(neutral.gen, PROMPT_SECONDS)
        return measure(self._model, self._stepper, self._vocoder, prefix, timbre, text, most)

    def _retry_after(self) -> float:
        """When the first of those under way is likely to end, in seconds, if all speak twice as fast as real time."""
        remaining = [speech.tokens.expected - len(speech.tokens.tokens) for speech in self._scheduler.speeches]
        return max(1.0, min(remaining, default=0) / TOKENS_PER_SECOND / 2)
