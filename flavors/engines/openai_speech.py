"""Speech behind an OpenAI-compatible `/v1/audio/speech`, streamed as raw PCM: Chatterbox, OpenAI, and others."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from connector.audio import Audio, Samples
from connector.errors import EngineError, EngineMistaken
from connector.interfaces import EngineContext, EngineDescriptor, EngineKind
from flavors.engines._openai import Service, ServiceOptions, require_package

if TYPE_CHECKING:
    from openai._response import AsyncResponseContextManager, AsyncStreamedBinaryAPIResponse

NAME = "openai-speech"

AHEAD_SECONDS = 0.4
"""Speech that is passed on as it comes. What follows has so long until it is played, so it is gathered first."""
GATHERED_SECONDS = 0.1
"""Services send bits of 20 ms and less, each of which would wake everybody up to the codec."""

_CHECK_TEXT = "One."
_NOT_PCM = {b"RIFF": "WAV", b"ID3": "MP3", b"\xff\xfb": "MP3", b"\xff\xf3": "MP3", b"OggS": "Ogg", b"fLaC": "FLAC"}
"""First bytes of what services send that do not know `response_format: pcm`; played as PCM it would be noise."""


class SpeechOptions(ServiceOptions):
    """An OpenAI-compatible speech service."""

    model: str = "tts-1"
    """As the service names it; many serve one model and ignore the name."""
    voice: str = "default"
    """As the service names it."""
    rate: Annotated[int, Field(ge=8000, le=48000)] = 24000
    """Sample rate of its PCM, Hz: 24000 at OpenAI and Chatterbox. A wrong one changes the pitch."""
    speed: Annotated[float, Field(ge=0.25, le=4)] | None = None
    """1 is the voice's own; None where the service knows none."""
    instructions: str | None = None
    """How to speak, for models that follow it."""


class OpenAISpeech:
    """Implements `TextToSpeech`."""

    def __init__(self, options: SpeechOptions) -> None:
        self._options = options
        self._service = Service(NAME, options)

    async def start(self) -> None:
        """Connects to the service; raises what `check` raises."""
        await self._service.start(self.check)

    async def check(self) -> None:
        """Has the service speak a word: few of them list their models."""
        async with aclosing(self.synthesize(_CHECK_TEXT)) as speech:
            async for _ in speech:
                pass  # to its end, which keeps the connection for the first caller

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._service.aclose()

    async def synthesize(self, text: str) -> AsyncGenerator[Audio, None]:
        """Streams speech as the service sends it, at `rate` Hz.

        Closing the iterator closes the connection, and so ends the synthesis where the service
        notices. Raises `EngineError`, also where no audio comes.
        """
        odd = b""
        heard = False
        with self._service.errors():
            async with AsyncExitStack() as stack:
                async with self._service.deadline():
                    response = await stack.enter_async_context(self._request(text))
                    body = response.iter_bytes()
                    chunk = await anext(body, None)
                if other := _other_form(response.headers.get("Content-Type", ""), chunk or b""):
                    raise EngineError(NAME, f"the service sends {other}, not the raw PCM that was asked for")
                async with aclosing(_gathered(chunk, body, 2 * self._options.rate)) as pieces:
                    async for piece in pieces:
                        samples, odd = whole_samples(odd + piece)
                        if len(samples):
                            heard = True
                            yield Audio(samples, self._options.rate)
        if not heard:
            raise EngineMistaken(NAME, "the service sent no audio")

    def _request(self, text: str) -> AsyncResponseContextManager[AsyncStreamedBinaryAPIResponse]:
        from openai import omit

        options = self._options
        return self._service.client.audio.speech.with_streaming_response.create(
            input=text,
            model=options.model,
            voice=options.voice,
            response_format="pcm",
            speed=omit if options.speed is None else options.speed,
            instructions=options.instructions or omit,
            extra_body=options.extra_body,
        )


async def _gathered(chunk: bytes | None, body: AsyncIterator[bytes], rate: int) -> AsyncGenerator[bytes, None]:
    """`chunk` and those that follow it in `body`, of `rate` bytes a second: as they come, later in larger pieces."""
    held = b""
    passed = 0
    while chunk is not None:
        held += chunk
        if passed < AHEAD_SECONDS * rate or len(held) >= GATHERED_SECONDS * rate:
            yield held
            passed += len(held)
            held = b""
        chunk = await anext(body, None)
    if held:
        yield held


def _other_form(content_type: str, start: bytes) -> str | None:
    """What an answer is that is no raw PCM. Of the content type, only text is believed: many services say anything."""
    if content_type.startswith(("text/", "application/json")):
        return content_type
    return next((form for magic, form in _NOT_PCM.items() if start.startswith(magic)), None)


def whole_samples(pcm: bytes) -> tuple[Samples, bytes]:
    """The samples of little-endian 16-bit `pcm`, and the byte that is left where a chunk ends within one."""
    whole = len(pcm) & ~1
    return np.frombuffer(pcm[:whole], "<i2").astype(np.int16), pcm[whole:]


def _make(options: SpeechOptions, context: EngineContext) -> OpenAISpeech:
    require_package(NAME)
    return OpenAISpeech(options)


descriptor = EngineDescriptor(name=NAME, kind=EngineKind.TTS, options=SpeechOptions, extra="openai", load=_make)
