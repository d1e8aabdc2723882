"""Text-to-speech `flite`: CMU Flite, run as a program (Debian package flite). English; a demo voice.

Flite computes a whole text before it writes the first sample, so a long text is said piece by piece.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from pydantic import Field

from connector.audio import Audio
from connector.errors import EngineError, ProgramMissing
from connector.interfaces import EngineContext, EngineDescriptor, EngineKind, EngineOptions
from flavors.engines._program import Command, ProgramSpeech

NAME = "flite"
PIECE = 240
"""Characters that are said in one go."""
_PIECE = re.compile(rf"\S.{{0,{PIECE - 2}}}(?:[.!?;:,](?=\s|$)|\S(?=\s|$))|\S{{1,{PIECE}}}")
"""Up to `PIECE` characters that end with a word (regular expressions are greedy: as many as fit)."""


class FliteOptions(EngineOptions):
    """A voice of Flite's."""

    voice: Annotated[str, Field(pattern=r"^[\w./][\w./-]*$")] = "slt"
    """Built in (`flite -lv`; slt and rms are the clear ones) or the path of a .flitevox file."""
    speed: Annotated[float, Field(ge=0.5, le=2)] = 1.0
    """1 is the voice's own."""
    pitch: Annotated[float, Field(ge=50, le=400)] | None = None
    """Mean pitch, Hz; None is the voice's own (rms has no other)."""
    cache_seconds: Annotated[float, Field(ge=0, le=3600)] = 300.0
    """Seconds of speech kept in memory."""


def pieces(text: str) -> list[str]:
    """`text` in stretches of at most `PIECE` characters, cut between words where it can be."""
    return [match.group() for match in _PIECE.finditer(text)]


class Flite:
    """`TextToSpeech` of a Flite voice at its own rate (16 kHz; kal: 8 kHz)."""

    def __init__(self, options: FliteOptions) -> None:
        settings = ["--setf", f"duration_stretch={1 / options.speed:.3f}"]
        if options.pitch is not None:
            settings += ["--setf", f"int_f0_target_mean={options.pitch:g}"]
        self._voice = options.voice
        self._argv = ("flite", "-voice", options.voice, *settings, "-o", "/dev/stdout", "-t")
        self._speech = ProgramSpeech(NAME, "flite", self._say, options.cache_seconds)

    def _say(self, line: str) -> Command:
        return Command((*self._argv, line))

    async def start(self) -> None:
        """Raises `ProgramMissing`, or `EngineError` where the voice is not there or says nothing."""
        await self.check()

    async def check(self) -> None:
        """Looks the voice up (Flite takes another one without a word) and says a word."""
        if "/" not in self._voice and self._voice not in (voices := await _built_in_voices()):
            raise EngineError(NAME, f"there is no voice {self._voice!r}; built in are {', '.join(sorted(voices))}")
        await self._speech.check()

    async def aclose(self) -> None:
        """Forgets the cache."""
        await self._speech.aclose()

    async def synthesize(self, text: str) -> AsyncGenerator[Audio, None]:
        """Streams speech for `text`, piece by piece."""
        for piece in pieces(text):
            async with aclosing(self._speech.synthesize(piece)) as speech:
                async for chunk in speech:
                    yield chunk


async def _built_in_voices() -> set[str]:
    try:
        process = await asyncio.create_subprocess_exec(NAME, "-lv", stdout=asyncio.subprocess.PIPE)
    except FileNotFoundError:
        raise ProgramMissing(NAME, "the program flite is not installed: apt install flite") from None
    listing, _ = await process.communicate()
    return set(listing.decode().partition(":")[2].split())


def _load(options: FliteOptions, context: EngineContext) -> Flite:
    return Flite(options)


descriptor = EngineDescriptor(
    name=NAME,
    kind=EngineKind.TTS,
    options=FliteOptions,
    extra="",
    load=_load,
    language=lambda options: "" if "/" in options.voice else "en",
)
