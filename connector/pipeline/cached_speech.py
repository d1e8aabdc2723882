"""Speech of fixed texts, kept: a greeting begins at the instant of the answer, an apology when the engine is down."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing

import numpy as np

from connector.audio import Audio
from connector.errors import EngineError
from connector.interfaces import TextToSpeech
from connector.pipeline.streams import read

LIMIT_BYTES = 16 * 2**20
"""Of samples: almost six minutes at 24 kHz."""

CHUNK_SECONDS = 0.5
"""What is kept comes in stretches of this: none takes its listener long."""


class SpeechCache:
    """The speech of one engine, by text. Beyond `limit` bytes the least recently used goes first.

    `fixed`: the texts that are worth keeping, the most important first; nothing else is.
    """

    def __init__(self, fixed: Iterable[str] = (), limit: int = LIMIT_BYTES) -> None:
        self._fixed = dict.fromkeys(fixed)
        self._limit = limit
        self._kept: OrderedDict[str, Audio] = OrderedDict()
        self._bytes = 0

    @property
    def missing(self) -> Sequence[str]:
        """The fixed texts that are not kept."""
        return [text for text in self._fixed if text not in self._kept]

    @property
    def bytes(self) -> int:
        """Of samples that are kept."""
        return self._bytes

    def wants(self, text: str) -> bool:
        """Whether the speech of `text` should be kept and is not."""
        return text in self._fixed and text not in self._kept

    def get(self, text: str) -> Audio | None:
        """The speech of `text`, where it is kept."""
        speech = self._kept.get(text)
        if speech is not None:
            self._kept.move_to_end(text)
        return speech

    def put(self, text: str, speech: Audio) -> None:
        """Keeps `speech`, if it is of a fixed text and there is room for it once others have gone."""
        size = speech.samples.nbytes
        if not self.wants(text) or not size or size > self._limit:
            return
        self._kept[text] = speech
        self._bytes += size
        while self._bytes > self._limit:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.samples.nbytes


class SpeechCaches(SpeechCache):
    """What several voices have kept, that of the first one first. Each keeps its own: nothing is put here."""

    def __init__(self, caches: Sequence[SpeechCache]) -> None:
        super().__init__()
        self._caches = caches

    def get(self, text: str) -> Audio | None:
        return next((speech for cache in self._caches if (speech := cache.get(text)) is not None), None)


class CachedSpeech:
    """Implements `TextToSpeech`: what `cache` has is said from there, at once; all else by `engine`, as it streams.

    Speech is kept once it has come to its end: not that of a text that failed, or that was broken off.
    """

    def __init__(self, engine: TextToSpeech, cache: SpeechCache) -> None:
        self._engine = engine
        self._cache = cache

    def around(self, wrap: Callable[[TextToSpeech], TextToSpeech]) -> CachedSpeech:
        """The same cache before the engine that `wrap` makes of this one's."""
        return CachedSpeech(wrap(self._engine), self._cache)

    async def start(self) -> None:
        await self._engine.start()

    async def check(self) -> None:
        await self._engine.check()

    async def aclose(self) -> None:
        await self._engine.aclose()

    def synthesize(self, text: str) -> AsyncIterator[Audio]:
        kept = self._cache.get(text)
        if kept is not None:
            return _replayed(kept)
        speech = self._engine.synthesize(text)
        return self._keeping(text, speech) if self._cache.wants(text) else speech

    async def prepare(self, name: str) -> bool:
        """Has the engine, called `name`, say all that is missing, one text after the other; False where one failed."""
        complete = True
        for text in self._cache.missing:
            try:
                async with aclosing(read(self.synthesize(text), name)) as speech:
                    async for _ in speech:
                        pass
            except EngineError:
                complete = False
        return complete

    async def _keeping(self, text: str, speech: AsyncIterator[Audio]) -> AsyncGenerator[Audio, None]:
        chunks: list[Audio] = []
        try:
            async for chunk in speech:
                chunks.append(chunk)
                yield chunk
        finally:
            if isinstance(speech, AsyncGenerator):
                await speech.aclose()
        if chunks:
            samples = np.concatenate([chunk.samples for chunk in chunks])
            self._cache.put(text, Audio(samples, chunks[0].rate))


async def _replayed(speech: Audio) -> AsyncGenerator[Audio, None]:
    size = round(CHUNK_SECONDS * speech.rate)
    for start in range(0, len(speech.samples), size):
        yield Audio(speech.samples[start : start + size], speech.rate)
