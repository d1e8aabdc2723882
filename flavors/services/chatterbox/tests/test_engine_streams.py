"""The engine as a caller has it: many streams at once, each its own, and nothing left of those that are gone."""

from __future__ import annotations

import asyncio
import queue
from contextlib import aclosing
from copy import copy
from typing import Any

import numpy as np
import pytest

from tests import micro

SENTENCE = "We open at nine on Saturday, and close at five in the afternoon."


async def spoken(engine: Any, text: str = SENTENCE, seed: int = 3, **fields: Any) -> list[np.ndarray]:
    from chatterbox_service.engine import Request

    async with aclosing(engine.speak(Request(text, seed=seed, **fields))) as chunks:
        return [chunk async for chunk in chunks]


@pytest.mark.parametrize("kind", ["turbo", "standard", "multilingual"])
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


@pytest.mark.parametrize("kind", ["turbo", "standard"])
@pytest.mark.parametrize("tokens", [3, 30], ids=["before its first chunk", "in mid-stream"])
def test_the_place_of_a_dropped_stream_is_anothers_at_the_next_step(kind: str, tokens: int) -> None:
    from chatterbox_service.scheduler import Scheduler, Speech
    from chatterbox_service.tokens import Stepper, TokenStream
    from chatterbox_service.vocoder import Timbre, Vocoder

    model = micro.model(kind)
    vocoder, timbre = Vocoder(model.s3gen, model.kind.flow_steps), Timbre.of(model.builtin.gen, 2.0)
    steps: list[tuple[list[TokenStream], int]] = []

    class Watched(Stepper):
        """Keeps who took part in each step, and how many rows there were."""

        def step(self) -> None:
            if len(steps) == tokens:  # In the midst of a step, as far as any other thread can tell.
                scheduler.cancel(dropped)
                scheduler.submit(comes)
            steps.append(([*self.streams], self.rows))
            super().step()

    stepper = Watched(model.t3, model.kind.sampling)
    scheduler = Scheduler(stepper, vocoder)
    prefix = stepper.prefix(model.t3_conditioning(model.builtin, None))
    ended: queue.SimpleQueue[Speech] = queue.SimpleQueue()
    heard: dict[int, int] = {}

    def speech(seed: int, length: int) -> Speech:
        def deliver(item: Any) -> None:
            if item is None:
                ended.put(made)
            else:
                heard[seed] = heard.get(seed, 0) + len(item)

        text = model.text_tokens(SENTENCE, None)
        random = np.random.default_rng(seed)
        stream = TokenStream(text, prefix, random, 0.8, minimum=length, maximum=length, repeats=1000)
        made = Speech(stream, vocoder.open(timbre, seed), (), lambda samples, last: samples, deliver)
        return made

    dropped, stays, comes = speech(0, 500), speech(1, 60), speech(2, 20)
    scheduler.submit(dropped)
    scheduler.submit(stays)
    scheduler.start()
    try:
        assert {id(ended.get(timeout=60)) for _ in range(2)} == {id(stays), id(comes)}
    finally:
        scheduler.stop()
    before, after = steps[tokens], steps[tokens + 1]
    assert list(map(id, before[0])) == [id(dropped.tokens), id(stays.tokens)]
    assert {id(stream) for stream in after[0]} == {id(stays.tokens), id(comes.tokens)}
    each = 1 if kind == "turbo" else 2  # With guidance, one that knows the text and one that does not.
    assert before[1] == after[1] == 2 * each
    assert heard[1] == 960 * len(stays.tokens.tokens)
    assert heard[2] == 960 * len(comes.tokens.tokens)
    assert (dropped.made > 0) is (tokens > 13)
    assert (stepper.streams, stepper.rows, scheduler.taken) == ([], 0, 0)


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


async def test_of_many_voices_and_exaggerations_those_used_last_are_kept_ready() -> None:
    from chatterbox_service.chatterbox import ChatterboxEngine

    engine = ChatterboxEngine(micro.model("standard"), "cpu", 2, most_prefixes=2)

    async def length(exaggeration: float) -> int:
        return sum(map(len, await spoken(engine, "Hello.", exaggeration=exaggeration)))

    try:
        first = await length(0.2)
        for exaggeration in (0.4, 0.6, 0.8):
            await length(exaggeration)
            assert engine.prefixes <= 2
        assert await length(0.2) == first
        time = np.arange(6 * 16000) / 16000
        recording = (0.3 * np.sin(2 * np.pi * (120 + 40 * np.sin(time)) * time)).astype(np.float32)
        for name in ("anna", "berta", "anna"):
            await engine.clone(name, recording, 16000)
        assert engine.prefixes == 2
        await engine.forget("anna")
        await engine.forget("berta")
        assert engine.prefixes == 0
        assert await length(0.2) == first
    finally:
        await engine.aclose()


async def test_where_the_engine_fails_to_clone_it_says_so_and_keeps_the_voice() -> None:
    from chatterbox_service.engine import EngineFailed

    engine = micro.engine()
    with pytest.raises(EngineFailed, match="cloning a voice failed"):
        await engine.clone("clara", np.full(6 * 16000, np.nan, np.float32), 16000)
    assert "clara" not in engine.voices


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


async def test_each_request_has_a_language_of_its_own() -> None:
    engine = micro.engine("multilingual")
    texts = {
        "de": "Wir öffnen am Samstag um neun Uhr.",
        "el": "Ανοίγουμε το Σάββατο στις εννέα.",
        "ja": "土曜日は九時に開きます。",
        "ko": "토요일 아홉 시에 문을 엽니다.",
        "zh": "我星期六早上九点",
    }
    together = await asyncio.gather(*(spoken(engine, text, language=language) for language, text in texts.items()))
    for (language, text), chunks in zip(texts.items(), together, strict=True):
        audio = np.concatenate(chunks)
        assert chunks
        assert 0.01 < np.abs(audio).max() <= 1
        again = np.concatenate(await spoken(engine, text, language=language.upper()))
        assert np.sqrt(np.mean((audio - again) ** 2)) < 0.1 * np.sqrt(np.mean(again**2))
    german = np.concatenate(together[0])
    french = np.concatenate(await spoken(engine, texts["de"], language="fr"))
    assert len(german) != len(french) or np.abs(german - french).max() > 1e-3


async def test_a_language_that_is_not_spoken_is_refused_with_those_that_are() -> None:
    from chatterbox_service.engine import UnknownLanguage

    with pytest.raises(UnknownLanguage, match=r"does not speak 'tlh'; it speaks ar, da, de, .*, zh$"):
        await spoken(micro.engine("multilingual"), language="tlh")


def test_no_character_of_a_language_is_unknown() -> None:
    model, unknown = micro.model("multilingual"), 1
    texts = {
        "ja": "土曜日は九時に開きます。",
        "ko": "토요일 아홉 시",
        "zh": "我星期六早上九点",
        "pl": "Zażółć gęślą jaźń.",
    }
    for language, text in texts.items():
        assert unknown not in model.text_tokens(text, language).tolist(), language
    assert unknown in model.text_tokens(texts["zh"], "ko").tolist()


def test_a_language_whose_script_cannot_be_read_here_is_refused() -> None:
    from chatterbox_service.engine import UnknownLanguage
    from chatterbox_service.models import KINDS, Model

    upstream = copy(micro.model("multilingual").upstream)
    upstream.tokenizer = copy(upstream.tokenizer)
    upstream.tokenizer.cangjie_converter = copy(upstream.tokenizer.cangjie_converter)
    upstream.tokenizer.cangjie_converter.word2cj = {}
    model = Model(KINDS["multilingual"], upstream)
    with pytest.raises(UnknownLanguage, match=r"Chinese cannot be read .* lacks the model's file Cangjie5_TC\.json"):
        model.text_tokens("我早上", "zh")
    assert len(model.text_tokens("Guten Tag.", "de"))


@pytest.mark.parametrize("kind", ["turbo", "standard"])
async def test_with_full_attention_speech_is_streamed_as_well(kind: str) -> None:
    from chatterbox_service.chatterbox import ChatterboxEngine

    engine = ChatterboxEngine(micro.model(kind), "cpu", 2, "full")
    try:
        first, second = await asyncio.gather(spoken(engine), spoken(engine))
        cells = np.concatenate(await spoken(micro.engine(kind)))
    finally:
        await engine.aclose()
    for chunks in (first, second):
        assert len(chunks) >= 2
        audio = np.concatenate(chunks)
        assert np.isfinite(audio).all()
        assert len(audio) == pytest.approx(len(cells), abs=0.5 * engine.rate)
        assert 0.01 < np.abs(audio).max() <= 1


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
