"""The default turn-taking on speech with a pause in it, as Silero hears it over the telephone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from connector.audio import Samples
from connector.config.model import TurnSettings
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext, Vad
from connector.turn.endpointing import Endpointing, SpeechEnded
from flavors.engines.silero import WINDOW, SileroOptions, descriptor
from tests.fakes import voices
from tests.fakes.models import models_folder

PAUSE = 0.35
"""Seconds of a pause for breath, from the last audible sample to the next one."""

SETTINGS = TurnSettings()


@pytest.fixture
async def vad() -> AsyncIterator[Vad]:
    host = LocalEngineHost()
    models = await asyncio.to_thread(models_folder)
    engine = await asyncio.to_thread(descriptor.load, SileroOptions(), EngineContext(host=host, models=models))
    assert isinstance(engine, Vad)
    await engine.start()
    yield engine
    await engine.aclose()
    await host.aclose()


def trimmed(samples: Samples) -> Samples:
    """Without the silence at both ends."""
    audible = np.flatnonzero(np.abs(samples) > 300)
    return samples[audible[0] : audible[-1] + 1]


async def turns(vad: Vad, line: Samples) -> list[SpeechEnded]:
    """The turns that end in what the line brings."""
    endpointing = Endpointing(SETTINGS)
    seconds = vad.window / vad.rate
    states = vad.initial_state()[np.newaxis]
    ended = []
    for index in range(len(line) // vad.window):
        window = line[index * vad.window : (index + 1) * vad.window].astype(np.float32) / np.float32(32768)
        [probability], states = await vad.probabilities(window[np.newaxis], states)
        decision = endpointing.feed((index + 1) * seconds, seconds, float(probability), SETTINGS.start_seconds)
        if isinstance(decision, SpeechEnded):
            ended.append(decision)
    return ended


@pytest.mark.parametrize(
    ("program", "voice"), [("flite", "slt"), ("flite", "rms"), ("espeak-ng", "en-us"), ("espeak-ng", "en-gb")]
)
async def test_a_pause_for_breath_is_no_end_and_the_end_is_found_soon(vad: Vad, program: str, voice: str) -> None:
    first, second = [
        trimmed(await asyncio.to_thread(voices.spoken, text, program, voice))
        for text in ("My order number is,", "seven four nine two one.")
    ]
    pause = np.zeros(round(PAUSE * voices.RATE), np.int16)
    for shift in range(0, WINDOW, WINDOW // 8):  # windows fall anywhere on speech
        speech = np.concatenate([np.zeros(voices.RATE + shift, np.int16), first, pause, second])
        line = np.concatenate([speech, np.zeros(2 * voices.RATE, np.int16)])
        line = voices.mu_law(line + voices.noise(len(line) / voices.RATE + 1, 0.0005)[: len(line)])
        [turn] = await turns(vad, line)
        assert turn.at - len(speech) / voices.RATE < SETTINGS.end_silence + 0.2
