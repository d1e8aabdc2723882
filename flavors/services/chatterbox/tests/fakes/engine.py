"""An engine that speaks in tones: it keeps the whole protocol, and does what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

import numpy as np

from chatterbox_service.engine import (
    Busy,
    EngineFailed,
    NothingToSay,
    Request,
    Samples,
    SpeechError,
    UnknownLanguage,
    UnknownVoice,
    Voice,
)

RATE = 24000
CHUNK_SECONDS = 0.1
SECONDS_PER_CHARACTER = 0.05
TONES = {"default": 440.0}
"""Hz, by voice; clones have `CLONE_TONE`."""
PATIENCE = 30.0
"""Seconds after which a test has waited in vain."""
LANGUAGES = (None, "en", "de")
CLONE_TONE = 660.0


class ToneEngine:
    """Implements `chatterbox_service.engine.Engine`. Its public attributes are the script."""

    def __init__(self, capacity: int = 4) -> None:
        self.rate = RATE
        self.model = "turbo"
        self.device = "cpu"
        self.capacity = capacity
        self.active = 0
        self.requests: list[Request] = []
        self.clones: dict[str, tuple[Samples, int]] = {}
        self.hold_after: int | None = None
        """Streams stand still after so many chunks, until `released` is set."""
        self.released = asyncio.Event()
        self.fail_after: int | None = None
        """Streams fail after so many chunks."""
        self.busy = 0
        """So many of the next requests find the engine busy."""
        self.wordless: str | None = None
        """A text in which it finds nothing to say."""
        self.out_of_memory = False
        """Whether cloning fails."""
        self.begun = asyncio.Condition()
        """Notified whenever a stream has begun or ended."""
        self.over = False
        self.fault: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why it is lost."""

    @property
    def voices(self) -> Mapping[str, Voice]:
        return {"default": Voice("default")} | {name: Voice(name, cloned=True) for name in self.clones}

    async def until_active(self, count: int) -> None:
        """Returns once `count` streams are being spoken."""
        async with asyncio.timeout(PATIENCE), self.begun:
            await self.begun.wait_for(lambda: self.active == count)

    async def until_requested(self, count: int) -> None:
        """Returns once there have been `count` requests."""
        async with asyncio.timeout(PATIENCE), self.begun:
            await self.begun.wait_for(lambda: len(self.requests) >= count)

    async def speak(self, request: Request) -> AsyncGenerator[Samples, None]:
        if self.busy:
            self.busy -= 1
            raise Busy(self.capacity, 1)
        if self.active >= self.capacity:
            raise Busy(self.capacity, 1)
        if request.voice not in self.voices:
            raise UnknownVoice(f"no voice {request.voice}")
        if request.language not in LANGUAGES:
            raise UnknownLanguage(f"no language {request.language}")
        if request.text == self.wordless:
            raise NothingToSay("the text has neither letter nor digit")
        self.requests.append(request)
        await self._count(1)
        try:
            length = int(len(request.text) * SECONDS_PER_CHARACTER * RATE)
            tone = 0.5 * np.sin(2 * np.pi * TONES.get(request.voice, CLONE_TONE) * np.arange(length) / RATE)
            size = int(CHUNK_SECONDS * RATE)
            for index, begin in enumerate(range(0, length, size)):
                if index == self.fail_after:
                    raise SpeechError("the tone broke")
                if index == self.hold_after:
                    await self.released.wait()
                await asyncio.sleep(0)
                yield tone[begin : begin + size].astype(np.float32)
        finally:
            await self._count(-1)

    async def _count(self, change: int) -> None:
        self.active += change
        async with self.begun:
            self.begun.notify_all()

    async def clone(self, name: str, samples: Samples, rate: int) -> Voice:
        if name == "default":
            raise SpeechError("the voice default is built in")
        if self.out_of_memory:
            raise EngineFailed("out of memory")
        self.clones[name] = (samples, rate)
        return Voice(name, cloned=True)

    async def forget(self, name: str) -> None:
        if name == "default":
            raise SpeechError("the voice default is built in")
        if name not in self.clones:
            raise UnknownVoice(f"no voice {name}; there are {', '.join(self.voices)}")
        del self.clones[name]

    async def lost(self) -> str:
        return await asyncio.shield(self.fault)

    async def aclose(self) -> None:
        self.over = True
        if not self.fault.done():
            self.fault.set_result("")
