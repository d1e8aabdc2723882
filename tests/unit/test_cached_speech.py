"""Speech of fixed texts: from memory at once, from the engine as it streams, and never half of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from connector.audio import Audio
from connector.call.engines import Engines
from connector.call.voices import FIRST_RETRY, Voices
from connector.config.model import EngineChoice, Flavor
from connector.errors import EngineError, Overloaded
from connector.host import LocalEngineHost
from connector.interfaces import Engine, EngineContext, EngineDescriptor, EngineKind, EngineOptions
from connector.pipeline.cached_speech import CHUNK_SECONDS, CachedSpeech, SpeechCache
from connector.pipeline.streams import read
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.engines import FakeTextToSpeech, join, tone

GREETING = "Hello, how can I help you today?"
OTHER = "It is noon."


async def said(voice: CachedSpeech, text: str) -> list[tuple[float, Audio]]:
    """What `voice` says, each chunk with the clock time at which it came."""
    clock = LoopClock()
    async with aclosing(read(voice.synthesize(text), "voice")) as speech:
        return [(clock.now(), chunk) async for chunk in speech]


def whole(chunks: list[tuple[float, Audio]]) -> Audio:
    return join(*(chunk for _, chunk in chunks))


@virtual_time
async def test_the_first_time_streams_and_the_second_is_at_once() -> None:
    engine = FakeTextToSpeech()
    voice = CachedSpeech(engine, SpeechCache([GREETING]))
    first = await said(voice, GREETING)
    assert first[0][0] == pytest.approx(engine.first_audio)
    assert len(first) == len({at for at, _ in first}) > 5
    began = LoopClock().now()
    second = await said(voice, GREETING)
    assert {at for at, _ in second} == {began}
    assert engine.texts == [GREETING]
    assert np.array_equal(whole(first).samples, whole(second).samples)
    assert whole(second).rate == engine.rate
    assert max(chunk.seconds for _, chunk in second) <= CHUNK_SECONDS


@virtual_time
async def test_calls_share_what_is_kept() -> None:
    engine, cache = FakeTextToSpeech(), SpeechCache([GREETING])
    await said(CachedSpeech(engine, cache), GREETING)
    await said(CachedSpeech(engine, cache), GREETING)
    assert engine.texts == [GREETING]


@virtual_time
async def test_replies_are_not_kept() -> None:
    engine, cache = FakeTextToSpeech(), SpeechCache([GREETING])
    voice = CachedSpeech(engine, cache)
    assert whole(await said(voice, OTHER)).seconds == pytest.approx(whole(await said(voice, OTHER)).seconds)
    assert engine.texts == [OTHER, OTHER]
    assert cache.bytes == 0


@virtual_time
async def test_what_is_broken_off_is_not_kept_and_the_engine_is_told() -> None:
    engine, cache = FakeTextToSpeech(), SpeechCache([GREETING])
    voice = CachedSpeech(engine, cache)
    async with aclosing(read(voice.synthesize(GREETING), "voice")) as speech:
        await anext(speech)
    assert engine.aborted == 1
    listening = asyncio.create_task(said(voice, GREETING))
    await LoopClock().sleep(engine.first_audio + 0.01)
    listening.cancel()
    await asyncio.wait([listening])
    assert engine.aborted == 2
    assert cache.missing == [GREETING]
    assert len(await said(voice, GREETING)) > 5


@virtual_time
async def test_what_fails_is_not_kept_and_is_said_once_the_engine_is_back() -> None:
    engine = FakeTextToSpeech()
    voice = CachedSpeech(engine, SpeechCache([GREETING]))
    engine.failing = True
    with pytest.raises(EngineError, match="out of order"):
        await said(voice, GREETING)
    engine.failing = False
    await said(voice, GREETING)
    engine.failing = True
    assert whole(await said(voice, GREETING)).seconds == pytest.approx(engine.seconds(GREETING), abs=0.001)


@virtual_time
async def test_the_least_recently_used_goes_first() -> None:
    second = 2 * 8000
    cache = SpeechCache(["a", "b", "c", "d"], limit=3 * second)
    for text in "abc":
        cache.put(text, tone(440, 1.0))
    assert cache.get("a") is not None
    cache.put("d", tone(440, 1.5))
    assert cache.missing == ["b", "c"]
    assert cache.bytes == 2.5 * second
    cache.put("b", tone(440, 3.5))
    assert cache.missing == ["b", "c"]
    cache.put("other", tone(440, 0.1))
    assert cache.bytes == 2.5 * second


@virtual_time
async def test_an_engine_says_its_fixed_texts_one_after_the_other() -> None:
    engine, cache = FakeTextToSpeech(), SpeechCache(["One.", "Two.", "Three."])
    engine.fail_on = {"Two."}
    voice = CachedSpeech(engine, cache)
    assert not await voice.prepare("voice")
    assert engine.texts == ["One.", "Two.", "Three."]
    assert all(
        before.ended is None or before.ended <= after.began
        for before, after in zip(engine.calls, engine.calls[1:], strict=False)
    )
    assert cache.missing == ["Two."]
    engine.fail_on = set()
    assert await voice.prepare("voice")
    assert engine.texts == ["One.", "Two.", "Three.", "Two."]


# ------------------------------------------------------------------------------ the voices of an app


class Options(EngineOptions):
    name: str = "a"


SILENT = {"apology": "", "transfer_refused": "", "fillers": ()}
"""A flavor that says nothing of its own accord."""


def flavor(name: str, voice: str = "a", **texts: object) -> Flavor:
    choice = EngineChoice(engine="tts", options=Options(name=voice))
    return Flavor(name=name, tts=choice, **{**SILENT, **texts})  # type: ignore[arg-type] - fields of a Flavor


class Voiced:
    """Engines of flavors that are voices alone, and the voices."""

    def __init__(self, *flavors: Flavor) -> None:
        self.flavors = flavors
        self.made: dict[str, FakeTextToSpeech] = {"a": FakeTextToSpeech(), "b": FakeTextToSpeech()}
        descriptor = EngineDescriptor(
            "tts", EngineKind.TTS, Options, "", lambda options, context: self.made[options.name]
        )
        context = EngineContext(LocalEngineHost(), Path())
        self.engines = Engines({"tts": descriptor}, context, LoopClock(), _load_here)
        self.voices = Voices(flavors, self.engines, LoopClock())

    def of(self, flavor: Flavor) -> CachedSpeech:
        assert flavor.tts is not None
        return self.voices.of(self.engines.shared(flavor.tts))

    @asynccontextmanager
    async def preparing(self) -> AsyncIterator[asyncio.Task[None]]:
        await self.engines.start(self.flavors)
        preparing = asyncio.create_task(self.voices.prepare())
        try:
            yield preparing
        finally:
            preparing.cancel()
            await asyncio.wait([preparing])
            await self.engines.aclose()


async def _load_here(descriptor: EngineDescriptor, options: EngineOptions, context: EngineContext) -> Engine:
    return descriptor.load(options, context)


@virtual_time
async def test_each_voice_prepares_what_its_flavors_always_say() -> None:
    desk = flavor("desk", greeting="Hello, this is the desk. How can I help you?", farewell="Goodbye, and thank you.")
    shop = flavor("shop", greeting="Hello, this is the shop.", fillers=("One moment.", "Let me see."))
    tenor = flavor("tenor", "b", greeting="<no-interrupt>Good morning to you.</no-interrupt>")
    named = flavor("named", "b", greeting="Hello {{calling_name|there}}.")
    stage = Voiced(desk, shop, tenor, named)
    async with stage.preparing() as preparing:
        await preparing
        assert stage.made["a"].texts == [
            "Hello, this is the desk.",
            "How can I help you?",
            "Goodbye, and thank you.",
            "Hello, this is the shop.",
            "One moment.",
            "Let me see.",
        ]
        assert stage.made["b"].texts == ["Good morning to you."]
        began = LoopClock().now()
        assert (await said(stage.of(shop), "How can I help you?"))[-1][0] == began


@virtual_time
async def test_flavors_are_ready_before_their_texts_are() -> None:
    desk = flavor("desk", greeting=GREETING)
    stage = Voiced(desk)
    async with stage.preparing():
        assert stage.engines.problem(desk) == ""
        assert LoopClock().now() == 0
        await said(stage.of(desk), OTHER)


@virtual_time
async def test_a_voice_that_comes_late_prepares_then_and_one_that_fails_tries_again() -> None:
    desk = flavor("desk", greeting=GREETING)
    stage = Voiced(desk)
    engine = stage.made["a"]
    engine.fail_on = {GREETING}
    async with stage.preparing() as preparing:
        await LoopClock().sleep(1)
        assert engine.texts == [GREETING]
        engine.failing = True
        stage.engines.suspect(desk)
        await LoopClock().sleep(0.1)
        with pytest.raises(Overloaded):
            stage.of(desk)
        engine.failing, engine.fail_on = False, set()
        await LoopClock().sleep(FIRST_RETRY + 5)
        assert preparing.done()
        assert engine.texts == [GREETING] * 2
