"""The engine: Chatterbox, shared by many streams."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from chatterbox_service.capacity import MOST_STREAMS, measure
from chatterbox_service.engine import Busy, EngineFailed, Request, Samples, SpeechError, UnknownVoice, Voice
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
MOST_PREFIXES = 8
"""Prefixes that are kept, those used last: one for each voice and exaggeration. Turbo's have 376 positions of 196,608
bytes, 0.6 GB together; those of the other models a ninth of that. Others are computed once a text wants them."""


@dataclass(frozen=True, slots=True, eq=False)
class _Voice:
    """Conditionals, some 0.2 MB, and what the vocoder hears of them."""

    voice: Voice
    conditionals: Conditionals
    timbre: Timbre


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


@contextmanager
def _failures(doing: str) -> Iterator[None]:
    """Makes `EngineFailed` of what goes wrong in there, such as torch's lack of memory."""
    try:
        yield
    except SpeechError:
        raise
    except Exception as error:  # The boundary between requests: the next ones shall be served.
        log.exception("%s failed", doing)
        raise EngineFailed(f"{doing} failed: {error}") from error


class ChatterboxEngine:
    """`engine.Engine` of a loaded model. It takes seconds to make: see `open_engine`.

    `device`: its description. `length_of` says how long a text may become, `most_prefixes` how many voices and
    exaggerations are kept ready.
    """

    def __init__(
        self,
        model: Model,
        device: str,
        capacity: int | None = None,
        attention: Attention = "cells",
        length_of: Callable[[str], Bounds] = bounds,
        most_prefixes: int = MOST_PREFIXES,
    ) -> None:
        self._model = model
        kind = model.kind
        self.model, self.device, self.rate = kind.name, device, model.rate
        self._length_of = length_of
        self._most_prefixes = most_prefixes
        self._stepper = Stepper(model.t3, kind.sampling)
        self._vocoder = Vocoder(model.s3gen, kind.flow_steps, attention)
        self._voices: dict[str, _Voice] = {}
        self._prefixes: OrderedDict[tuple[_Voice, float | None], Prefix] = OrderedDict()
        self._cloning = threading.Lock()
        if model.builtin:
            builtin, prefix = self._prepared(Voice(BUILTIN_VOICE), model.builtin)
            self._install(builtin, prefix)
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

    @property
    def taken(self) -> int:
        """Places in the batch: that of a stream that was closed is free at the next step."""
        return self._scheduler.taken

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
        made, prefix = await asyncio.to_thread(self._cloned, Voice(name, cloned=True), samples, rate)
        self._install(made, prefix)
        return made.voice

    async def forget(self, name: str) -> None:
        if not self._kept(name).voice.cloned:
            raise SpeechError(f"{name!r} is a built-in voice and stays")
        self._drop_prefixes(self._voices.pop(name))

    async def lost(self) -> str:
        return await asyncio.to_thread(self._scheduler.join)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._scheduler.stop)

    def _kept(self, name: str) -> _Voice:
        try:
            return self._voices[name]
        except KeyError:
            known = ", ".join(self._voices) or "none: clone one"
            raise UnknownVoice(f"there is no voice {name!r}; those there are: {known}") from None

    def _cloned(self, voice: Voice, samples: Samples, rate: int) -> tuple[_Voice, Prefix]:
        with self._cloning, _failures("cloning a voice"):  # Upstream keeps what it prepares in the model.
            return self._prepared(voice, self._model.conditionals(samples, rate))

    def _prepared(self, voice: Voice, conditionals: Conditionals) -> tuple[_Voice, Prefix]:
        made = _Voice(voice, conditionals, Timbre.of(conditionals.gen, PROMPT_SECONDS))
        return made, self._computed(made, self._model.kind.exaggeration)

    def _install(self, voice: _Voice, prefix: Prefix) -> None:
        if replaced := self._voices.get(voice.voice.name):
            self._drop_prefixes(replaced)
        self._voices[voice.voice.name] = voice
        self._keep_prefix(voice, self._model.kind.exaggeration, prefix)

    async def _prefix(self, voice: _Voice, exaggeration: float | None) -> Prefix:
        usual = self._model.kind.exaggeration
        wanted = usual if usual is None or exaggeration is None else round(exaggeration, 2)
        prefix = self._prefixes.get((voice, wanted))
        if prefix is None:
            prefix = await asyncio.to_thread(self._computed, voice, wanted)
        if self._voices.get(voice.voice.name) is voice:  # It may have been removed meanwhile.
            self._keep_prefix(voice, wanted, prefix)
        return prefix

    def _computed(self, voice: _Voice, exaggeration: float | None) -> Prefix:
        with _failures("computing a voice"):
            prefix: Prefix = self._stepper.prefix(self._model.t3_conditioning(voice.conditionals, exaggeration))
            return prefix

    def _keep_prefix(self, voice: _Voice, exaggeration: float | None, prefix: Prefix) -> None:
        """As the one that was used last."""
        self._prefixes[voice, exaggeration] = prefix
        self._prefixes.move_to_end((voice, exaggeration))
        while len(self._prefixes) > self._most_prefixes:
            self._prefixes.popitem(last=False)

    def _drop_prefixes(self, voice: _Voice) -> None:
        for key in [key for key in self._prefixes if key[0] is voice]:
            del self._prefixes[key]

    def _measured(self, most: int) -> int:
        neutral = self._model.neutral()
        prefix = self._stepper.prefix(self._model.t3_conditioning(neutral, None))
        text = self._model.text_tokens("One moment please, I am looking that up for you.", None)
        timbre = Timbre.of(neutral.gen, PROMPT_SECONDS)
        return measure(self._model, self._stepper, self._vocoder, prefix, timbre, text, most)

    @property
    def prefixes(self) -> int:
        """Prefixes that are kept, `MOST_PREFIXES` at most."""
        return len(self._prefixes)

    def _retry_after(self) -> float:
        """When the first of those under way is likely to end, in seconds, if all speak twice as fast as real time."""
        remaining = [speech.tokens.expected - len(speech.tokens.tokens) for speech in self._scheduler.speeches]
        return max(1.0, min(remaining, default=0) / TOKENS_PER_SECOND / 2)
