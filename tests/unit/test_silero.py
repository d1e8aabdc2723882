"""Silero VAD on real speech and telephone noises, at 8 kHz through µ-law."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from connector.audio import Samples
from connector.errors import EngineError, ModelMissing
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext, Vad
from flavors.engines.silero import MODEL, WINDOW, Silero, SileroOptions, descriptor
from tests.fakes import voices
from tests.fakes.models import models_folder

SENTENCE = "I would like to know when you open on Saturday, please."


@asynccontextmanager
async def silero(models: Path | None = None) -> AsyncIterator[Silero]:
    host = LocalEngineHost()
    if models is None:
        models = await asyncio.to_thread(models_folder)
    context = EngineContext(host=host, models=models)
    engine = await asyncio.to_thread(descriptor.load, SileroOptions(), context)
    assert isinstance(engine, Silero)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.aclose()
        await host.aclose()


@pytest.fixture
async def vad() -> AsyncIterator[Silero]:
    async with silero() as engine:
        yield engine


def windows(samples: Samples) -> NDArray[np.float32]:
    whole = samples[: len(samples) // WINDOW * WINDOW].astype(np.float32) / np.float32(32768)
    return whole.reshape(-1, WINDOW)


async def probabilities(vad: Silero, samples: Samples) -> NDArray[np.float32]:
    """One stream, window by window."""
    state = vad.initial_state()[np.newaxis]
    heard = []
    for window in windows(samples):
        probability, state = await vad.probabilities(window[np.newaxis], state)
        heard.append(probability[0])
    return np.array(heard)


@pytest.mark.parametrize(("program", "voice"), [("flite", "slt"), ("flite", "rms"), ("espeak-ng", "en-us")])
async def test_speech_on_the_telephone_is_found(vad: Silero, program: str, voice: str) -> None:
    assert isinstance(vad, Vad)
    sentence = await asyncio.to_thread(voices.spoken, SENTENCE, program, voice)
    heard = await probabilities(vad, voices.mu_law(sentence))
    assert np.mean(heard >= 0.5) > 0.75


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(np.zeros(16000, np.int16), id="digital silence"),
        pytest.param(voices.noise(2, 0.003), id="line noise"),
        pytest.param(voices.noise(2, 0.1), id="loud noise"),
        pytest.param(voices.tone((350, 440), 2), id="dial tone"),
        pytest.param(voices.tone((440, 480), 2), id="ringback tone"),
        pytest.param(voices.tone((770, 1336), 2), id="DTMF 5"),
        pytest.param(voices.tone((50, 150), 2), id="mains hum"),
    ],
)
async def test_what_is_no_speech_is_not_taken_for_it(vad: Silero, samples: Samples) -> None:
    assert max(await probabilities(vad, voices.mu_law(samples))) < 0.3


async def test_quiet_speech_over_line_noise_is_found(vad: Silero) -> None:
    sentence = await asyncio.to_thread(voices.spoken, SENTENCE)
    quiet = (sentence * 0.1).astype(np.int16) + voices.noise(10, 0.001)[: len(sentence)]
    heard = await probabilities(vad, voices.mu_law(quiet))
    assert np.mean(heard >= 0.5) > 0.6


async def test_the_end_of_speech_shows_within_a_third_of_a_second(vad: Silero) -> None:
    sentence = await asyncio.to_thread(voices.spoken, SENTENCE)
    loud = np.flatnonzero(np.abs(sentence) > 300)
    heard = await probabilities(vad, voices.mu_law(np.concatenate([sentence[: loud[-1]], np.zeros(8000, np.int16)])))
    after = heard[loud[-1] // WINDOW :]
    assert np.argmax(after < 0.5) * WINDOW / vad.rate < 0.33


async def test_a_batch_of_calls_equals_each_call_alone(vad: Silero) -> None:
    sentence = await asyncio.to_thread(voices.spoken, SENTENCE)
    calls = [sentence[:16000], sentence[8000:24000], voices.noise(2, 0.1), np.zeros(16000, np.int16)]
    alone = [await probabilities(vad, call) for call in calls]
    states = np.stack([vad.initial_state()] * len(calls))
    together = []
    for batch in np.stack([windows(call) for call in calls], axis=1):
        heard, states = await vad.probabilities(batch, states)
        together.append(heard)
    assert np.allclose(np.array(together).T, np.array(alone), atol=1e-4)


async def test_an_empty_batch_is_harmless(vad: Silero) -> None:
    state = vad.initial_state()
    heard, states = await vad.probabilities(np.empty((0, WINDOW), np.float32), np.empty((0, len(state)), np.float32))
    assert heard.shape == (0,)
    assert states.shape == (0, len(state))


async def test_check_passes(vad: Silero) -> None:
    await vad.check()


async def test_a_model_that_was_not_fetched_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=rf"silero: {tmp_path}.*: run `voxtrunk models fetch`"):
        async with silero(tmp_path):
            pass


async def test_a_damaged_model_names_the_command(tmp_path: Path) -> None:
    shutil.copy(await asyncio.to_thread(models_folder) / MODEL.name, tmp_path)
    with (tmp_path / MODEL.name).open("r+b") as file:
        file.write(b"\0\0\0\0")
    with pytest.raises(ModelMissing, match="is damaged: run `voxtrunk models fetch`"):
        async with silero(tmp_path):
            pass


async def test_use_after_closing_is_an_error() -> None:
    async with silero() as engine:
        pass
    with pytest.raises(EngineError, match="not started"):
        await engine.check()
