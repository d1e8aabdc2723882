"""A running service, as a client sees it, and what it is asked about."""

from __future__ import annotations

import io
import wave
from collections.abc import Awaitable, Callable
from typing import Any

import av
import numpy as np
from aiohttp import ClientResponse, ClientSession, FormData
from numpy.typing import NDArray

from whisper_service.app import Server

HEARD = "we open at nine"


class Service:
    """A running service, as a client sees it."""

    def __init__(self, server: Server, session: ClientSession) -> None:
        self.server = server
        self.session = session
        self.url = "http://{}:{}".format(*server.address)

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        """Status and answer: JSON where it is that, else text."""
        async with self.session.get(self.url + path, **options) as response:
            return response.status, await _content(response)

    async def transcribe(self, file: bytes, headers: dict[str, str] | None = None, **fields: str) -> tuple[int, Any]:
        """Status and answer of a transcription."""
        form = FormData(fields)
        form.add_field("file", file, filename="utterance")
        url = f"{self.url}/v1/audio/transcriptions"
        async with self.session.post(url, data=form, headers=headers) as response:
            return response.status, await _content(response)

    async def metric(self, name: str) -> float:
        """Its value now."""
        _, page = await self.get("/metrics")
        [value] = [line.rpartition(" ")[2] for line in page.splitlines() if line.startswith(f"{name} ")]
        return float(value)


async def _content(response: ClientResponse) -> Any:
    return await (response.json() if response.content_type == "application/json" else response.text())


StartService = Callable[..., Awaitable[Service]]


def noise(seconds: float, rate: int = 8000) -> NDArray[np.int16]:
    """Something audible."""
    return np.random.default_rng(3).normal(0, 3000, round(seconds * rate)).astype(np.int16)


def wav(seconds: float, rate: int = 8000, channels: int = 1) -> bytes:
    """`noise` as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(np.repeat(noise(seconds, rate), channels).tobytes())
    return file.getvalue()


def encoded(container: str, codec: str, seconds: float, rate: int = 16000) -> bytes:
    """A tone of 440 Hz."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=48000 if codec == "libopus" else rate, layout="mono")
        samples = (np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 440 / rate) * 12000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
        frame.rate = rate
        resampler = av.AudioResampler(
            stream.format, stream.layout, stream.rate, stream.codec_context.frame_size or None
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return file.getvalue()


def damaged(file: bytes, random: np.random.Generator) -> bytes:
    """`file` with some bytes changed, lost or added, most of them near its beginning."""
    made = bytearray(file)
    for _ in range(random.integers(1, 12)):
        place = random.integers(random.choice([64, 200, len(made)]))
        made[place : place + random.integers(8)] = random.bytes(random.integers(8))
    return bytes(made)
