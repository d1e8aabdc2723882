"""Smart Turn on telephone speech, and the features that it hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from connector.audio import Audio, Samples
from connector.errors import EngineError, ModelFetchError, ModelMissing
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext, EngineHost, Placement, TurnDetector, Worker
from flavors.engines._log_mel import log_mel
from flavors.engines.smart_turn import MODEL, SmartTurn, SmartTurnOptions, descriptor
from tests.fakes import voices
from tests.fakes.models import models_folder

QUESTION = "What time do you open on Saturday?"
LENGTH = 128000
"""Samples of 8 s at 16 kHz."""


@pytest.fixture(scope="module")
def models() -> Path:
    """The models folder of this machine, with Smart Turn's file in it."""
    try:
        return models_folder(MODEL)
    except ModelFetchError as error:
        pytest.skip(f"{MODEL.name} is not here and cannot be fetched: {error}")


@asynccontextmanager
async def smart_turn(
    models: Path, host: EngineHost | None = None, options: SmartTurnOptions | None = None
) -> AsyncIterator[SmartTurn]:
    local = LocalEngineHost()
    context = EngineContext(host or local, models)
    engine = await asyncio.to_thread(descriptor.load, options or SmartTurnOptions(), context)
    assert isinstance(engine, SmartTurn)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.aclose()
        await local.aclose()


@pytest.fixture
async def detector(models: Path) -> AsyncIterator[SmartTurn]:
    async with smart_turn(models) as engine:
        yield engine


def said(text: str, share: float = 1.0, voice: str = "slt") -> Audio:
    """The first `share` of `text` and 0.2 s of line noise, as G.711 µ-law brings them at 8 kHz."""
    sentence = voices.spoken(text, "flite", voice)
    loud = np.flatnonzero(np.abs(sentence) > 300)
    speech = sentence[loud[0] : loud[0] + round(share * (loud[-1] - loud[0]))]
    heard = np.concatenate([speech, np.zeros(1600, np.int16)])
    return Audio(voices.mu_law(heard + voices.noise(20, 0.0005)[: len(heard)]), voices.RATE)


def chirp() -> np.ndarray[Any, np.dtype[np.float32]]:
    """1.5 s from 200 Hz upwards, fading away."""
    time = np.arange(24000) / 16000
    return (0.3 * np.exp(-time) * np.sin(2 * np.pi * (200 * time + 900 * time**2))).astype(np.float32)


def test_features_are_those_of_the_reference() -> None:
    """WhisperFeatureExtractor(chunk_length=8) of transformers 5.23, do_normalize=True: every tenth mel band."""
    features = log_mel(chirp(), LENGTH)
    assert features.shape == (80, 800)
    reference = [
        [-0.0236, 0.9151, 1.5497, 1.0309, 0.0064, -0.0237, -0.0433],
        [-0.0574, 0.7712, 1.2876, 0.8862, -0.0574, -0.0574, 0.0676],
        [-0.0574, 0.4416, 0.9589, 0.4639, 0.2936, -0.0574, 0.0810],
        [-0.0574, 0.2622, 0.7751, 0.2702, 1.4655, -0.0574, 0.1055],
        [-0.0574, 0.1085, 0.6174, 0.1083, -0.0574, 0.0120, 0.1746],
        [-0.0574, -0.0574, 0.4520, -0.0574, -0.0574, -0.0574, 0.4041],
        [-0.0574, -0.0574, 0.3054, -0.0574, -0.0574, -0.0574, 0.2065],
        [-0.0574, -0.0574, 0.1849, -0.0574, -0.0574, -0.0574, -0.0446],
    ]
    assert np.allclose(features[::10][:, [0, 649, 650, 651, 700, 750, 799]], reference, atol=2e-4)


@pytest.mark.parametrize("missing", [1, 199, 200, 201, 359, 360, 361, 104000, 127999, 128000])
def test_what_is_missing_counts_as_zeros_before_it(missing: int) -> None:
    """And costs nothing, wherever in a column it ends."""
    samples = np.tile(chirp(), 6)[: LENGTH - missing]
    padded = np.concatenate((np.zeros(missing, np.float32), samples))
    assert np.allclose(log_mel(samples, LENGTH), log_mel(padded, LENGTH), atol=1e-5)


def test_what_is_too_long_counts_from_its_end() -> None:
    samples = np.tile(chirp(), 7)
    assert np.array_equal(log_mel(samples, LENGTH), log_mel(samples[-LENGTH:], LENGTH))


async def test_a_finished_question_is_told_from_one_that_breaks_off(detector: SmartTurn) -> None:
    assert isinstance(detector, TurnDetector)
    whole = await asyncio.to_thread(said, QUESTION)
    assert await detector.probability(whole) > 0.7
    broken_off = await asyncio.to_thread(said, QUESTION, 0.5)
    assert await detector.probability(broken_off) < 0.3


async def test_any_rate_will_do(detector: SmartTurn) -> None:
    narrow = await asyncio.to_thread(said, QUESTION)
    wide = Audio(np.repeat(narrow.samples, 2), 16000)  # the same, but for images above 4 kHz
    assert await detector.probability(wide) > 0.5


@pytest.mark.parametrize("seconds", [0.5, 1.7, 8])
async def test_the_end_counts(models: Path, seconds: float) -> None:
    question = await asyncio.to_thread(said, QUESTION)
    long = np.tile(question.samples, 5)
    end = long[-round(seconds * question.rate) :]
    assert len(end) < len(long)
    async with smart_turn(models, options=SmartTurnOptions(seconds=seconds)) as engine:
        whole = await engine.probability(Audio(long, question.rate))
        assert whole == await engine.probability(Audio(end, question.rate))


@pytest.mark.parametrize("samples", [np.zeros(0, np.int16), np.zeros(8000, np.int16), voices.noise(10, 0.1)])
async def test_whatever_sounds_has_a_probability(detector: SmartTurn, samples: Samples) -> None:
    assert 0 <= await detector.probability(Audio(samples, 8000)) <= 1


async def test_check_passes(detector: SmartTurn) -> None:
    await detector.check()


class GatedHost:
    """Counts what its workers compute; they begin once `gate` is open."""

    def __init__(self, host: EngineHost) -> None:
        self._host = host
        self.gate = Event()
        self.computed = 0

    async def start(self, factory: Callable[[], Callable[..., Any]], placement: Placement, name: str) -> Worker:
        def load() -> Callable[..., Any]:
            function = factory()

            def counted(*args: Any) -> Any:
                self.gate.wait()
                self.computed += 1
                return function(*args)

            return counted

        return await self._host.start(load, placement, name)


async def test_what_was_cancelled_while_it_waited_is_not_computed(models: Path) -> None:
    local = LocalEngineHost()
    host = GatedHost(local)
    silence = Audio(np.zeros(800, np.int16), 8000)
    async with smart_turn(models, host) as engine:
        asked = [asyncio.create_task(engine.probability(silence)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in asked[1:4]:
            task.cancel()
        await asyncio.wait(asked[1:4])
        host.gate.set()
        await asyncio.gather(asked[0], asked[4])
    await local.aclose()
    assert host.computed == 2


async def test_a_model_that_was_not_fetched_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=rf"smart-turn: {tmp_path}.*: run `voxtrunk models fetch`"):
        async with smart_turn(tmp_path):
            pass


async def test_use_after_closing_is_an_error(models: Path) -> None:
    async with smart_turn(models) as engine:
        pass
    with pytest.raises(EngineError, match="not started"):
        await engine.check()
