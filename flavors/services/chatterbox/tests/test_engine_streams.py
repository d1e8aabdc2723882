"""The engine as a caller has it: many streams at once, each its own, and nothing left of those that are gone."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from tests import micro
from tests.micro import torch

SENTENCE = "We open at nine on Saturday, and close at five in the afternoon."


async def spoken(engine: Any, text: str = SENTENCE, seed: int = 3, **fields: Any) -> list[np.ndarray]:
    from chatterbox_service.engine import Request

    async with aclosing(engine.speak(Request(text, seed=seed, **fields))) as chunks:
        return [chunk async for chunk in chunks]


@pytest.mark.parametrize("kind", ["turbo", "standard"])
async def test_a_sentence_comes_in_chunks(kind: str) -> None:
    engine = micro.engine(kind)
    chunks = await spoken(engine)
    audio = np.concatenate(chunks)
    assert len(chunks) >= 2
    assert audio.dtype == np.float32
    assert 0.3 < len(audio) / engine.rate < 20
    assert np.isfinite(audio).all()
    assert 0.01 < np.abs(audio).max() <= 1
    assert engine.active == 0


async def test_equal_requests_are_spoken_alike_whoever_else_speaks() -> None:
    engine = micro.engine()
    alone = np.concatenate(await spoken(engine))
    others = [asyncio.create_task(spoken(engine, f"Somebody else, number {n}.", seed=n)) for n in range(5)]
    among = np.concatenate(await spoken(engine))
    await asyncio.gather(*others)
    assert len(among) == len(alone)
    # Chunks may end elsewhere, and so crossfades and watermark.
    assert np.sqrt(np.mean((among - alone) ** 2)) < 0.1 * np.sqrt(np.mean(alone**2))
    other = np.concatenate(await spoken(engine, seed=4))
    assert len(other) != len(alone) or np.abs(other - alone).max() > 0.01


async def test_beyond_its_capacity_it_is_busy_and_a_closed_stream_makes_room() -> None:
    from chatterbox_service.chatterbox import ChatterboxEngine
    from chatterbox_service.engine import Busy, Request
    from chatterbox_service.guards import Bounds

    engine = ChatterboxEngine(micro.model("turbo"), "cpu", 2, length_of=lambda _: Bounds(500, 500, 500))
    try:
        streams = [engine.speak(Request(SENTENCE, seed=n)) for n in range(2)]
        firsts = await asyncio.gather(*(anext(stream) for stream in streams))
        assert all(len(first) for first in firsts)
        with pytest.raises(Busy) as caught:
            await anext(engine.speak(Request("One more.")))
        assert 1 <= caught.value.retry_after <= 10
        await streams[0].aclose()
        streams[0] = engine.speak(Request("One more."))
        assert len(await anext(streams[0]))
        for stream in streams:
            await stream.aclose()
        assert engine.active == 0
    finally:
        await engine.aclose()


async def test_of_streams_that_were_dropped_nothing_is_left() -> None:
    from chatterbox_service.engine import Request
    from chatterbox_service.scheduler import Speech

    engine = micro.engine()

    async def dropped(number: int) -> None:
        async with aclosing(engine.speak(Request(SENTENCE, seed=number))) as chunks:
            if number % 3:
                await anext(chunks)
            else:  # Before there was anything to hear.
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await anext(chunks)

    def left() -> tuple[int, int]:
        gc.collect()
        objects = gc.get_objects()  # By their types: weak references among them may be dead.
        tensors = [item for item in objects if issubclass(type(item), torch.Tensor)]
        return sum(type(item) is Speech for item in objects), sum(item.nbytes for item in tensors)

    async def batch(numbers: range) -> tuple[int, int]:
        await asyncio.gather(*(dropped(number) for number in numbers))
        await spoken(engine, "Now something whole.")  # By the end of it the others have left.
        assert engine.active == 0
        return left()

    speeches, size = await batch(range(6))
    for round_ in range(1, 4):
        more_speeches, more = await batch(range(6 * round_, 6 * round_ + 6))
        assert more_speeches <= max(1, speeches)
        assert more <= size + 100_000


async def test_a_voice_is_cloned_spoken_with_and_forgotten() -> None:
    from chatterbox_service.engine import SpeechError, UnknownVoice

    engine = micro.engine()
    time = np.arange(6 * 16000) / 16000
    recording = (0.3 * np.sin(2 * np.pi * (120 + 40 * np.sin(time)) * time)).astype(np.float32)
    voice = await engine.clone("anna", recording, 16000)
    assert voice.cloned
    assert set(engine.voices) == {"default", "anna"}
    assert await spoken(engine, voice="anna")
    await engine.forget("anna")
    with pytest.raises(UnknownVoice, match="default"):
        await spoken(engine, voice="anna")
    with pytest.raises(SpeechError, match="built-in"):
        await engine.forget("default")
    with pytest.raises(SpeechError, match=r"5 s of speech; this is 2\.0 s"):
        await engine.clone("berta", recording[:32000], 16000)


async def test_what_cannot_be_said_is_refused() -> None:
    from chatterbox_service.engine import SpeechError

    with pytest.raises(SpeechError, match="nothing to say"):
        await spoken(micro.engine(), "...")


async def test_the_watermark_is_in_streamed_speech() -> None:
    engine = micro.engine()
    chunks = await spoken(engine, SENTENCE, seed=8)
    marker = micro.model("turbo").marker
    assert marker.get_watermark(np.concatenate(chunks), sample_rate=engine.rate) > 0.5


async def test_expression_changes_what_the_standard_model_says() -> None:
    engine = micro.engine("standard")
    calm = np.concatenate(await spoken(engine, exaggeration=0.0))
    lively = np.concatenate(await spoken(engine, exaggeration=2.0))
    assert len(calm) != len(lively) or np.abs(calm - lively).max() > 1e-3


async def test_the_shortest_text_is_heard() -> None:
    audio = np.concatenate(await spoken(micro.engine(), "Hi"))
    assert len(audio) >= 0.1 * micro.engine().rate


async def test_a_closed_engine_ends_its_streams() -> None:
    from chatterbox_service.chatterbox import ChatterboxEngine
    from chatterbox_service.engine import Request, SpeechError
    from chatterbox_service.guards import Bounds

    engine = ChatterboxEngine(micro.model("turbo"), "cpu", 2, length_of=lambda _: Bounds(500, 500, 500))
    stream = engine.speak(Request(SENTENCE))
    await anext(stream)
    await engine.aclose()
    await engine.aclose()
    with pytest.raises(SpeechError, match="stopped"):
        async for _ in stream:
            pass
    with pytest.raises(SpeechError, match="stopped"):
        await anext(engine.speak(Request(SENTENCE)))


def test_models_that_are_not_there_are_named() -> None:
    from chatterbox_service.models import ModelError, choose_device, kind_of

    with pytest.raises(
        ModelError, match="Flash is not part of chatterbox-tts; choose one of turbo, standard, multiling"
    ):
        kind_of("flash")
    with pytest.raises(ModelError, match="auto, cuda, rocm, mps, cpu"):
        choose_device("tpu")
    assert choose_device("cpu")[1].startswith("cpu")


async def test_the_capacity_is_measured() -> None:
    from chatterbox_service.chatterbox import ChatterboxEngine

    engine = ChatterboxEngine(micro.model("turbo"), "cpu")
    try:
        assert engine.capacity >= 1
    finally:
        await engine.aclose()
