"""The voices that calls share, each with the speech of what its flavors say in every call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import cast

from connector.call.engines import Engines, SharedEngine
from connector.config.model import EngineChoice, Flavor
from connector.interfaces import Clock, EngineKind, TextToSpeech
from connector.pipeline.cached_speech import CachedSpeech, SpeechCache
from connector.pipeline.responder import pieces_of, said

log = logging.getLogger(__name__)

FIRST_RETRY = 30.0
LONGEST_RETRY = 3600.0
"""Seconds until what could not be synthesised is tried again, doubled from the first to the longest."""


class Voices:
    """One `SpeechCache` for each voice of `flavors`; texts that name facts of a call are never kept."""

    def __init__(self, flavors: Sequence[Flavor], engines: Engines, clock: Clock) -> None:
        self._flavors = flavors
        self._engines = engines
        self._clock = clock
        self._caches: dict[SharedEngine, SpeechCache] = {}

    def of(self, shared: SharedEngine) -> CachedSpeech:
        """The voice of `shared`, behind its cache; raises `Overloaded` where it is not ready."""
        # The configuration has checked that each engine is of the kind that its key names.
        return CachedSpeech(cast(TextToSpeech, shared.engine), self.cache(shared))

    def cache(self, shared: SharedEngine) -> SpeechCache:
        """Speech of `shared` that is kept."""
        if shared not in self._caches:
            self._caches[shared] = SpeechCache(self._fixed(shared.choice))
        return self._caches[shared]

    async def prepare(self) -> None:
        """Has the fixed texts synthesised as voices become ready, before a caller waits for them."""
        choices = (choice for flavor in self._flavors for kind, choice in flavor.rungs if kind is EngineKind.TTS)
        voices = dict.fromkeys(map(self._engines.shared, choices))
        async with asyncio.TaskGroup() as tasks:
            for shared in voices:
                tasks.create_task(self._prepare(shared), name=f"voice {shared.choice.engine}")

    async def _prepare(self, shared: SharedEngine) -> None:
        name = shared.choice.engine
        delay = FIRST_RETRY
        while True:
            await shared.upkeep.ready.wait()
            if await self.of(shared).prepare(name):
                log.info("voice prepared", extra={"engine": name, "bytes": self.cache(shared).bytes})
                return
            log.warning("texts of a flavor could not be synthesised", extra={"engine": name})
            await self._clock.sleep(delay)
            delay = min(delay * 2, LONGEST_RETRY)

    def _fixed(self, voice: EngineChoice) -> Iterator[str]:
        """What `voice` says in every call, piece by piece."""
        for flavor in self._flavors:
            voices = (choice for kind, choice in flavor.rungs if kind is EngineKind.TTS)
            if any(voice.is_same_engine(other) for other in voices):
                for _, text in flavor.spoken:
                    if "{{" not in text:
                        yield from filter(None, (said(piece, flavor.language) for piece in pieces_of(text)))
