"""What a caller says, as audio: through whichever offline voice is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connector import config
from connector.audio import Audio, Samples
from connector.codec.resample import resample
from connector.config.models_cache import default_folder
from connector.errors import EngineError, ProgramMissing
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext, TextToSpeech

RATE = 8000


@dataclass(frozen=True, slots=True)
class Voice:
    """A text-to-speech engine and its options, by the names of the configuration."""

    engine: str
    options: dict[str, object]

    def __str__(self) -> str:
        return " ".join((self.engine, *(str(value) for value in self.options.values())))


VOICES = (Voice("flite", {"voice": "rms"}), Voice("espeak-ng", {}))
"""Voices for callers, best first; flavors greet with other ones."""


async def say(texts: Sequence[str], voices: Sequence[Voice] = VOICES) -> list[Samples]:
    """Each of `texts` as speech at 8 kHz, by the first of `voices` that works here. Raises `EngineError`."""
    missing: EngineError | None = None
    for voice in voices:
        try:
            return await _say(texts, voice)
        except ProgramMissing as error:
            missing = missing or error
    raise missing or ProgramMissing("flite", "no voice was named")


async def _say(texts: Sequence[str], voice: Voice) -> list[Samples]:
    descriptor = config.engine_descriptors()[voice.engine]
    host = LocalEngineHost()
    engine = descriptor.load(
        descriptor.options.model_validate(voice.options), EngineContext(host=host, models=Path(default_folder()))
    )
    if not isinstance(engine, TextToSpeech):
        raise EngineError(voice.engine, "is not a voice")
    try:
        await engine.start()
        return [await _collect(engine, text) for text in texts]
    finally:
        await engine.aclose()
        await host.aclose()


async def _collect(engine: TextToSpeech, text: str) -> Samples:
    pieces = [piece async for piece in engine.synthesize(text)]
    if not pieces:
        return np.zeros(0, np.int16)
    whole = Audio(np.concatenate([piece.samples for piece in pieces]), pieces[0].rate)
    return resample(whole, RATE).samples
