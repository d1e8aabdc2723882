"""The transcription engine against a server that speaks the protocol."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from connector.audio import Audio
from connector.errors import EngineError, EngineRefused, EngineUnreachable
from connector.interfaces import EngineContext, EngineHost, SpeechToText, Transcript
from flavors.engines.openai_transcriptions import OpenAITranscriptions, TranscriptionsOptions, descriptor
from tests.fakes import voices
from tests.fakes.openai_server import Failure, OpenAIServer

UTTERANCE = Audio(voices.tone((440,), 0.5), 8000)


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        yield server


@asynccontextmanager
async def recogniser(server: OpenAIServer, **options: Any) -> AsyncIterator[OpenAITranscriptions]:
    values = {"base_url": server.base_url, "retries": 0} | options
    context = EngineContext(host=cast(EngineHost, None), models=Path("models"))
    engine = await asyncio.to_thread(descriptor.load, TranscriptionsOptions.model_validate(values), context)
    assert isinstance(engine, OpenAITranscriptions)
    with server.healthy():
        await engine.start()
    server.requests.clear()
    try:
        yield engine
    finally:
        await engine.aclose()


async def test_an_utterance_is_recognised(server: OpenAIServer) -> None:
    server.transcript = " We open at nine. "
    async with recogniser(server) as engine:
        assert isinstance(engine, SpeechToText)
        assert await engine.transcribe(UTTERANCE) == Transcript("We open at nine.")


@pytest.mark.parametrize("rate", [None, 16000])
async def test_the_audio_arrives_as_a_wav_file_at_the_rate_wanted(server: OpenAIServer, rate: int | None) -> None:
    async with recogniser(server, rate=rate) as engine:
        await engine.transcribe(UTTERANCE)
    wanted = rate or UTTERANCE.rate
    with wave.open(io.BytesIO(server.requests[-1].files["file"])) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, wanted)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    spectrum = np.abs(np.fft.rfft(samples))
    assert len(samples) / wanted == UTTERANCE.seconds
    assert np.argmax(spectrum) / UTTERANCE.seconds == pytest.approx(440, abs=2), "the pitch is the caller's"


async def test_the_request_carries_the_options(server: OpenAIServer) -> None:
    async with recogniser(server, language="de", prompt="Voxtrunk", extra_body={"seed": 1}) as engine:
        await engine.transcribe(UTTERANCE)
        body = server.requests[-1].json
        assert (body["model"], body["language"], body["prompt"], body["seed"]) == ("whisper-1", "de", "Voxtrunk", "1")
    async with recogniser(server, language=None) as engine:
        await engine.transcribe(UTTERANCE)
        assert not {"language", "prompt"} & server.requests[-1].json.keys()


async def test_check_proves_that_it_recognises(server: OpenAIServer) -> None:
    async with recogniser(server) as engine:
        await engine.check()
        server.failures.append(Failure(404, "no such model"))
        with pytest.raises(EngineRefused, match=r"404: .*is whisper-1 a model of it"):
            await engine.check()
        server.failures.append(Failure(500, "CUDA out of memory"))
        with pytest.raises(EngineError, match=r"500: .*CUDA out of memory"):
            await engine.check()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"text": null}', b'{"error": "no"}'])
async def test_a_service_of_another_kind(server: OpenAIServer, body: bytes) -> None:
    async with recogniser(server) as engine:
        server.garbage = "application/json", body
        with pytest.raises(EngineError):
            await engine.transcribe(UTTERANCE)


async def test_nobody_at_the_address() -> None:
    async with OpenAIServer() as server:
        pass
    with pytest.raises(EngineUnreachable, match="no connection to"):
        async with recogniser(server):
            pass
