"""The service as OpenAI's own client sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from serving import HEARD, Service, StartService, encoded, wav

UTTERANCE = ("utterance.wav", wav(1.0))
HALF_AN_HOUR = 31 * 60


@asynccontextmanager
async def client_of(service: Service, key: str = "none") -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=0) as client:
        yield client


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncOpenAI]:
    async with client_of(service) as client:
        yield client


async def test_a_transcript_in_each_format(client: AsyncOpenAI) -> None:
    transcriptions = client.audio.transcriptions
    assert (await transcriptions.create(file=UTTERANCE, model="whisper-1")).text == HEARD
    assert await transcriptions.create(file=UTTERANCE, model="micro", response_format="text") == f"{HEARD}\n"
    verbose = await transcriptions.create(
        file=UTTERANCE, model="micro", response_format="verbose_json", timestamp_granularities=["segment"]
    )
    assert (verbose.text, verbose.duration) == (HEARD, 1.0)
    assert verbose.segments is not None
    [segment] = verbose.segments
    assert (segment.id, segment.start, segment.end, segment.text) == (0, 0, 1, HEARD)


async def test_the_language_is_the_one_named_or_the_one_heard(client: AsyncOpenAI) -> None:
    async def language(**named: str) -> str:
        answer = await client.audio.transcriptions.create(
            file=UTTERANCE, model="micro", response_format="verbose_json", **named
        )
        return answer.language

    assert await language() == "de"
    assert await language(language="fr") == "fr"
    assert await language(language="en-US") == "en"


async def test_prompt_and_temperature_reach_the_decoder(client: AsyncOpenAI) -> None:
    heard = await client.audio.transcriptions.create(file=UTTERANCE, model="micro", temperature=0.2)
    assert heard.text == HEARD, "the checkpoint is sure of its text at any temperature"
    prompted = await client.audio.transcriptions.create(file=UTTERANCE, model="micro", prompt="Voxtrunk, OpenSIPS")
    # It spells the text at fixed places; a longer prompt starts beyond them.
    assert prompted.text != HEARD


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"response_format": "srt"}, "response_format: Input should be 'json', 'text' or 'verbose_json'"),
        ({"response_format": "vtt"}, "response_format: Input should be 'json', 'text' or 'verbose_json'"),
        ({"timestamp_granularities": ["word", "segment"]}, "times of words are not known here, but of segments"),
        ({"stream": True}, "a transcript is not streamed"),
        ({"language": "english"}, "language: "),
        ({"temperature": 1.5}, "temperature: Input should be less than or equal to 1"),
        ({"file": ("empty.wav", b"")}, "no audio"),
        ({"file": ("notes.txt", b"we open at nine")}, "no audio"),
    ],
)
async def test_what_is_not_served_is_refused_with_what_is(
    client: AsyncOpenAI, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=message):
        await client.audio.transcriptions.create(**{"file": UTTERANCE, "model": "micro", **asked})


async def test_a_model_that_is_not_served_is_named(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["micro"]
    with pytest.raises(openai.NotFoundError, match="'gpt-4o-transcribe' is not served here, but micro"):
        await client.audio.transcriptions.create(file=UTTERANCE, model="gpt-4o-transcribe")


async def test_a_wrong_token_is_refused(start: StartService) -> None:
    service = await start(token="s3cret")
    async with client_of(service, "wrong") as client:
        with pytest.raises(openai.AuthenticationError, match="a bearer token is needed"):
            await client.audio.transcriptions.create(file=UTTERANCE, model="micro")
    async with client_of(service, "s3cret") as client:
        assert (await client.audio.transcriptions.create(file=UTTERANCE, model="micro")).text == HEARD


async def test_files_of_every_rate_and_format_at_once(client: AsyncOpenAI) -> None:
    files = [wav(1.0, rate) for rate in (8000, 11025, 16000, 22050, 44100, 48000, 96000)]
    files += [encoded(container, codec, 1.0) for container, codec in (("mp3", "libmp3lame"), ("webm", "libopus"))]
    heard = await asyncio.gather(
        *(client.audio.transcriptions.create(file=("utterance", file), model="micro") for file in files)
    )
    assert [answer.text for answer in heard] == [HEARD] * len(files)


async def test_half_an_hour_is_too_much_or_a_segment_for_each_window(start: StartService) -> None:
    long = await asyncio.to_thread(encoded, "flac", "flac", HALF_AN_HOUR, 8000)
    async with client_of(await start()) as client:
        with pytest.raises(openai.APIStatusError, match="more than 600 seconds; send it in parts") as refused:
            await client.audio.transcriptions.create(file=("long.flac", long), model="micro")
        assert refused.value.status_code == 413
        with pytest.raises(openai.APIStatusError, match="file is larger than 25600 KiB") as refused:
            await client.audio.transcriptions.create(file=("long.wav", wav(HALF_AN_HOUR)), model="micro")
        assert refused.value.status_code == 413
    async with client_of(await start(max_seconds=3600)) as client:
        heard = await client.audio.transcriptions.create(
            file=("long.flac", long), model="micro", response_format="verbose_json"
        )
    assert heard.duration == pytest.approx(HALF_AN_HOUR, abs=0.1)
    assert heard.segments is not None
    assert len(heard.segments) >= HALF_AN_HOUR / 30
    assert {segment.text for segment in heard.segments} == {HEARD}
    starts, ends = zip(*((segment.start, segment.end) for segment in heard.segments), strict=True)
    assert starts[1:] == ends[:-1]
