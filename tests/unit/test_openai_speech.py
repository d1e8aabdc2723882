"""The speech engine against a server that speaks the protocol."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.audio import Audio
from connector.errors import EngineError, EngineRefused, EngineUnreachable
from connector.interfaces import EngineContext, EngineHost, TextToSpeech
from flavors.engines.openai_speech import OpenAISpeech, SpeechOptions, descriptor, whole_samples
from tests.fakes.openai_server import Break, Failure, OpenAIServer, Pause

TONE = (np.sin(np.arange(2400) * 2 * np.pi * 440 / 24000) * 8000).astype("<i2")


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        server.speech = [TONE.tobytes()]
        yield server


@asynccontextmanager
async def speech(server: OpenAIServer, **options: Any) -> AsyncIterator[OpenAISpeech]:
    values = {"base_url": server.base_url, "retries": 0} | options
    context = EngineContext(host=cast(EngineHost, None), models=Path("models"))
    engine = await asyncio.to_thread(descriptor.load, SpeechOptions.model_validate(values), context)
    assert isinstance(engine, OpenAISpeech)
    with server.healthy():
        await engine.start()
    server.requests.clear()
    try:
        yield engine
    finally:
        await engine.aclose()


async def chunks(engine: OpenAISpeech) -> list[Audio]:
    return [audio async for audio in engine.synthesize("We open at nine.")]


async def test_every_sample_arrives(server: OpenAIServer) -> None:
    async with speech(server) as engine:
        assert isinstance(engine, TextToSpeech)
        heard = await chunks(engine)
    assert {audio.rate for audio in heard} == {24000}
    assert np.array_equal(np.concatenate([audio.samples for audio in heard]), TONE)


async def test_chunks_may_end_within_a_sample(server: OpenAIServer) -> None:
    pcm = TONE.tobytes()
    cuts = [0, 1, 2, 7, 1000, 1003, len(pcm)]
    server.speech = [pcm[start:end] for start, end in itertools.pairwise(cuts)]
    async with speech(server) as engine:
        heard = await chunks(engine)
    assert np.array_equal(np.concatenate([audio.samples for audio in heard]), TONE)


@given(st.binary(max_size=64), st.lists(st.integers(0, 64)))
def test_samples_do_not_depend_on_where_chunks_are_cut(pcm: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(pcm)) for cut in cuts), len(pcm)]
    left, parts = b"", []
    for start, end in itertools.pairwise(edges):
        samples, left = whole_samples(left + pcm[start:end])
        parts.append(samples)
    assert np.array_equal(np.concatenate(parts), np.frombuffer(pcm[: len(pcm) & ~1], "<i2"))
    assert left == pcm[len(pcm) & ~1 :]


async def test_the_first_chunk_is_there_before_the_rest_exists(server: OpenAIServer) -> None:
    server.speech = [TONE.tobytes(), Pause()]
    async with speech(server) as engine:
        stream = engine.synthesize("We open at nine.")
        assert (await anext(stream)).seconds > 0
        await stream.aclose()


async def test_what_is_far_ahead_comes_in_larger_pieces(server: OpenAIServer) -> None:
    bit = TONE[:240]  # 10 ms at 24 kHz
    server.speech = [item for _ in range(80) for item in (bit.tobytes(), Pause(0.001))]
    async with speech(server) as engine:
        heard = await chunks(engine)
    assert sum(len(audio.samples) for audio in heard) == 80 * len(bit)
    assert heard[0].seconds < 0.1, "the first comes at once"
    late = [audio.seconds for audio, before in zip(heard, accumulate_seconds(heard), strict=True) if before >= 0.4]
    assert all(seconds >= 0.1 for seconds in late[:-1])


def accumulate_seconds(heard: list[Audio]) -> list[float]:
    """What came before each."""
    return [0.0, *itertools.accumulate(audio.seconds for audio in heard)][:-1]


async def test_closing_the_stream_ends_the_synthesis_at_the_server(server: OpenAIServer) -> None:
    server.speech = [TONE.tobytes(), Pause(), TONE.tobytes()]
    async with speech(server) as engine:
        stream = engine.synthesize("We open at nine.")
        await anext(stream)
        await stream.aclose()
        async with asyncio.timeout(5):
            await server.disconnected.wait()
        server.speech = [TONE.tobytes()]
        assert await chunks(engine), "the next sentence is spoken"


async def test_the_request_carries_the_options(server: OpenAIServer) -> None:
    options = {"voice": "nova", "speed": 1.2, "instructions": "Cheerfully.", "extra_body": {"exaggeration": 0.4}}
    async with speech(server, model="chatterbox", rate=16000, **options) as engine:
        heard = await chunks(engine)
    assert heard[0].rate == 16000
    assert server.requests[-1].json == {
        "input": "We open at nine.",
        "model": "chatterbox",
        "voice": "nova",
        "response_format": "pcm",
        "speed": 1.2,
        "instructions": "Cheerfully.",
        "exaggeration": 0.4,
    }


async def test_options_left_alone_are_not_sent(server: OpenAIServer) -> None:
    async with speech(server) as engine:
        await chunks(engine)
    assert server.requests[-1].json.keys() == {"input", "model", "voice", "response_format"}


@pytest.mark.parametrize(
    ("start", "form"), [(b"RIFF\x24\0\0\0WAVE", "WAV"), (b"ID3\x04\0\0", "MP3"), (b"OggS\0\0", "Ogg")]
)
async def test_what_is_not_raw_pcm_is_never_played(server: OpenAIServer, start: bytes, form: str) -> None:
    server.speech = [start + bytes(1000)]
    async with speech(server) as engine:
        with pytest.raises(EngineError, match=f"sends {form}, not the raw PCM"):
            await chunks(engine)


async def test_a_page_is_never_played(server: OpenAIServer) -> None:
    async with speech(server) as engine:
        server.garbage = "text/html", b"<html>It works!</html>"
        with pytest.raises(EngineError, match="sends text/html"):
            await chunks(engine)


@pytest.mark.parametrize("sent", [[], [b"\0"]])
async def test_no_audio_is_an_error_and_not_dead_air(server: OpenAIServer, sent: list[bytes]) -> None:
    server.speech = sent
    async with speech(server) as engine:
        with pytest.raises(EngineError, match="no audio"):
            await chunks(engine)


async def test_check_has_a_word_spoken(server: OpenAIServer) -> None:
    async with speech(server) as engine:
        await engine.check()
        server.failures.append(Failure(500, "CUDA out of memory"))
        with pytest.raises(EngineError, match=r"500: .*CUDA out of memory"):
            await engine.check()


async def test_nobody_at_the_address() -> None:
    async with OpenAIServer() as server:
        pass
    with pytest.raises(EngineUnreachable, match="no connection to"):
        async with speech(server):
            pass


async def test_a_wrong_key_is_refused(server: OpenAIServer) -> None:
    server.key = "right"
    with pytest.raises(EngineRefused, match="refuses a request without API key"):
        async with speech(server):
            pass


async def test_a_break_in_mid_sentence_is_an_error_after_what_was_heard(server: OpenAIServer) -> None:
    server.speech = [TONE.tobytes(), Break()]
    async with speech(server) as engine:
        stream = engine.synthesize("We open at nine.")
        assert (await anext(stream)).seconds > 0
        with pytest.raises(EngineUnreachable):
            [audio async for audio in stream]


@pytest.mark.parametrize(
    ("sent", "message"), [([Pause()], "did not begin to answer"), ([b"\0\0", Pause()], "fell silent for")]
)
async def test_a_server_that_stalls(server: OpenAIServer, sent: list[bytes | Pause], message: str) -> None:
    server.speech = sent
    async with speech(server, first_timeout=0.2) as engine:
        with pytest.raises(EngineUnreachable, match=message):
            await chunks(engine)
