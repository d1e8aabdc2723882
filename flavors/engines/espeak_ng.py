"""Text-to-speech `espeak-ng`: run as a program (Debian package espeak-ng). A hundred languages; a demo voice."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from connector.interfaces import EngineContext, EngineDescriptor, EngineKind, EngineOptions
from flavors.engines._program import Command, ProgramSpeech

NAME = "espeak-ng"


class EspeakOptions(EngineOptions):
    """A voice of eSpeak NG's."""

    voice: Annotated[str, Field(pattern=r"^\w[\w+-]*$")] = "en-us"
    """Language and variant (`espeak-ng --voices`), such as en-gb, de, or en-us+f3."""
    rate: Annotated[int, Field(ge=80, le=450)] = 150
    """Words per minute."""
    pitch: Annotated[int, Field(ge=0, le=99)] = 50
    """0 to 99; 50 is the voice's own."""
    volume: Annotated[int, Field(ge=1, le=200)] = 100
    """Amplitude; 100 is normal."""
    cache_seconds: Annotated[float, Field(ge=0, le=3600)] = 300.0
    """Seconds of speech kept in memory."""


def _load(options: EspeakOptions, context: EngineContext) -> ProgramSpeech:
    settings = ("-v", options.voice, "-s", str(options.rate), "-p", str(options.pitch), "-a", str(options.volume))
    argv = (NAME, *settings, "-b", "1", "--stdin", "--stdout")

    def say(line: str) -> Command:
        # "[[" would begin phoneme mnemonics.
        return Command(argv, stdin=line.replace("[[", "[ [").encode())

    return ProgramSpeech(NAME, "espeak-ng", say, options.cache_seconds)


descriptor = EngineDescriptor(
    name=NAME,
    kind=EngineKind.TTS,
    options=EspeakOptions,
    extra="",
    load=_load,
    language=lambda options: options.voice.partition("+")[0],
)
