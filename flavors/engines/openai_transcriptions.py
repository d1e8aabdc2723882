"""Speech recognition behind an OpenAI-compatible `/v1/audio/transcriptions`: vLLM with Whisper, OpenAI, and others."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from connector.audio import Audio
from connector.errors import EngineError
from connector.interfaces import EngineContext, EngineDescriptor, EngineKind, Transcript
from flavors.engines._openai import Service, ServiceOptions, require_package
from flavors.engines._resample import resample

NAME = "openai-transcriptions"


class TranscriptionsOptions(ServiceOptions):
    """An OpenAI-compatible recogniser."""

    model: str = "whisper-1"
    """As the service names it; many serve one model and ignore the name."""
    language: str | None = "en"
    """ISO 639-1 code of the callers' language; None to have it detected, which misleads on short utterances."""
    prompt: str = ""
    """Names and terms that callers use, for services that take a prompt."""
    rate: Annotated[int, Field(ge=8000, le=48000)] | None = None
    """Sample rate of the audio sent, Hz; without it, the line's own (8000 or 16000): services convert it."""


class OpenAITranscriptions:
    """Implements `SpeechToText`: each utterance is uploaded as a WAV file."""

    def __init__(self, options: TranscriptionsOptions) -> None:
        self._options = options
        self._service = Service(NAME, options)

    async def start(self) -> None:
        """Connects to the service; raises what `check` raises."""
        await self._service.start(self.check)

    async def check(self) -> None:
        """Has the service recognise half a second of noise: few of them list their models, and silence is no work."""
        rate = self._options.rate or 16000
        noise = np.random.default_rng(1).normal(0, 1000, rate // 2).astype(np.int16)
        await self.transcribe(Audio(noise, rate))

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._service.aclose()

    async def transcribe(self, utterance: Audio, phrases: Sequence[str] = ()) -> Transcript:
        """Recognises `utterance`. `phrases` are not used: as a prompt, whole sentences come back as what was heard."""
        from openai import omit

        options = self._options
        rate = options.rate or utterance.rate
        if rate == utterance.rate:
            file = wav(utterance, rate)
        else:  # off the event loop: resampling half a minute takes longer than a packet may wait
            file = await asyncio.to_thread(wav, utterance, rate)
        with self._service.errors():
            async with self._service.deadline():
                heard = await self._service.client.audio.transcriptions.create(
                    file=("utterance.wav", file, "audio/wav"),
                    model=options.model,
                    response_format="json",
                    language=options.language or omit,
                    prompt=options.prompt or omit,
                    temperature=0,
                    extra_body=options.extra_body,
                )
        text = getattr(heard, "text", None)
        if not isinstance(text, str):
            raise EngineError(NAME, "the service did not answer with a transcript")
        return Transcript(text.strip())


def wav(audio: Audio, rate: int) -> bytes:
    """`audio` as a WAV file: mono, 16 bits, at `rate` Hz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(resample(audio, rate).astype("<i2").tobytes())
    return file.getvalue()


def _make(options: TranscriptionsOptions, context: EngineContext) -> OpenAITranscriptions:
    require_package(NAME)
    return OpenAITranscriptions(options)


descriptor = EngineDescriptor(
    name=NAME,
    kind=EngineKind.STT,
    options=TranscriptionsOptions,
    extra="openai",
    load=_make,
    language=lambda options: options.language or "",
)
