"""The service as a whole, with real Chatterbox classes on the micro checkpoint: noise, but every step of the way."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import numpy as np
import pytest
import pytest_asyncio

from chatterbox_service.audio import decode
from tests import micro
from tests.conftest import Running, Serve
from tests.fakes.engine import PATIENCE
from tests.fakes.recordings import hum

TEXT = "We open at nine on Saturday. Shall I put you through to somebody? " * 6
"""Long enough for several pieces, as the micro model falls silent when it likes."""


@pytest.fixture
def engine() -> Any:
    return micro.engine()


@pytest_asyncio.fixture
async def running(serve: Serve, engine: Any) -> Running:
    return await serve(engine, lent=True, wait=60)


async def idle(running: Running, engine: Any) -> None:
    """Returns once nobody speaks."""
    await running.until("chatterbox_active_streams", 0)
    async with asyncio.timeout(PATIENCE):
        while engine.active:
            await running.metric("chatterbox_active_streams")


@pytest.mark.parametrize("rate", [24000, 8000])
async def test_openais_client_hears_speech(running: Running, engine: Any, rate: int) -> None:
    async with running.openai.audio.speech.with_streaming_response.create(
        input=TEXT,
        model="chatterbox-turbo",
        voice="default",
        response_format="pcm",
        extra_body={"seed": 1, "sample_rate": rate},
    ) as answer:
        pcm = b"".join([piece async for piece in answer.iter_bytes()])
    samples = np.frombuffer(pcm, "<i2")
    assert 0.2 < len(samples) / rate < 60
    assert np.abs(samples).max() > 100
    await idle(running, engine)


async def test_speech_is_sent_in_the_chunks_that_it_is_made_in(running: Running) -> None:
    async with running.request(TEXT, seed=1) as response:
        ends = [end async for _, end in response.content.iter_chunks()]
    assert sum(ends) >= 2


async def test_a_whole_wav_is_the_stream_in_one_piece(running: Running) -> None:
    fields = {"input": TEXT, "seed": 1}
    async with running.http.post("/v1/audio/speech", json=fields | {"stream": False}) as response:
        whole, rate = decode(await response.read(), longest=60)
    streamed = np.frombuffer(await running.speak(TEXT, seed=1), "<i2") / 32767
    assert rate == 24000
    assert len(whole) == len(streamed)
    # Chunks may end elsewhere, and so crossfades and watermark.
    assert np.sqrt(np.mean((whole - streamed) ** 2)) < 0.1 * np.sqrt(np.mean(whole**2))


async def test_callers_share_the_engine_and_those_beyond_its_capacity_wait(running: Running, engine: Any) -> None:
    heard = await asyncio.gather(*(running.speak(f"You are caller number {number}.") for number in range(10)))
    assert all(heard)
    assert await running.metric('chatterbox_requests_total{outcome="spoken"}') == 10
    await idle(running, engine)


async def test_a_caller_who_goes_frees_his_place(running: Running, engine: Any) -> None:
    async with running.request(TEXT * 8) as response:
        await response.content.readexactly(1000)
        response.close()
    await idle(running, engine)
    assert await running.metric('chatterbox_requests_total{outcome="aborted"}') == 1
    assert await running.speak(TEXT)


async def test_a_cloned_voice_speaks_otherwise(running: Running) -> None:
    made = await running.openai.audio.voices.create(
        name="Maria", audio_sample=("maria.wav", hum(hertz=150)), consent="cons_1"
    )
    cloned = await running.speak(TEXT, voice=made.id, seed=1)
    usual = await running.speak(TEXT, seed=1)
    assert len(cloned) > 0
    assert cloned != usual
    await running.openai.audio.voices.delete(made.id)


async def test_a_sentence_is_spoken_to_its_end_though_its_voice_is_replaced_and_deleted(running: Running) -> None:
    async def upload(hertz: float, **fields: str) -> int:
        form = aiohttp.FormData({"name": "maria", **fields})
        form.add_field("audio_sample", hum(hertz=hertz), filename="maria.wav")
        async with running.http.post("/v1/voices", data=form) as response:
            return response.status

    sentences = {"text": TEXT[:260], "voice": "maria", "seed": 1}
    assert await upload(150) == 201
    undisturbed = await running.speak(**sentences)
    async with running.request(**sentences) as response:
        heard: bytes = await response.content.readexactly(100)
        assert await upload(250) == 409
        assert await upload(250, overwrite="true") == 201
        await running.openai.audio.voices.delete("maria")
        heard += await response.read()
    assert len(heard) == len(undisturbed), "in the voice that it was begun in"
    async with running.request(**sentences) as response:
        assert response.status == 404


async def test_readiness_tells_the_device_and_the_capacity(running: Running) -> None:
    async with running.http.get("/readyz") as response:
        ready = await response.json()
    assert (ready["ready"], ready["model"], ready["capacity"]) == (True, "turbo", 8)
