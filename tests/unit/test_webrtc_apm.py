"""WebRTC's audio processing module as an engine: it does to sound what its options say, in processes of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from connector.audio import Frame, Samples
from connector.errors import EngineError
from connector.host import LocalEngineHost
from connector.interfaces import AudioProcessor, Captured, EngineContext, EngineHost, Placement, Worker
from flavors.engines.webrtc_apm import WebRtcApm, WebRtcApmOptions, descriptor
from tests.fakes import voices

installed = pytest.mark.skipif(
    find_spec("livekit") is None, reason="livekit is not installed: pip install 'voxtrunk[webrtc-apm]'"
)

SENTENCE = "You find us at twelve Station Road, right behind the post office."


class Here:
    """An `EngineHost` whose workers compute at once, in this very process: for tests of the sound alone."""

    async def start(self, factory: Callable[[], Callable[..., Any]], placement: Placement, name: str) -> Worker:
        return HereAndNow(factory())


class HereAndNow:
    """A `Worker` of `Here`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    async def run(self, *args: Any) -> Any:
        return self._function(*args)

    async def aclose(self) -> None:
        pass


@asynccontextmanager
async def apm(**options: bool | int) -> AsyncIterator[WebRtcApm]:
    """The engine, as a call has it."""
    host = LocalEngineHost()
    async with _started(host, options) as engine:
        yield engine
    await host.aclose()


def apm_here(**options: bool) -> AbstractAsyncContextManager[WebRtcApm]:
    """The engine in this process."""
    return _started(Here(), options)


@asynccontextmanager
async def _started(host: EngineHost, options: Mapping[str, bool | int]) -> AsyncIterator[WebRtcApm]:
    engine = descriptor.load(WebRtcApmOptions.model_validate(options), EngineContext(host, Path()))
    assert isinstance(engine, WebRtcApm)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.aclose()


async def heard(
    engine: WebRtcApm, captured: Samples, rendered: Samples | None = None, *, stream: int = 1, rate: int = 8000
) -> Samples:
    """What a stream hears, frame by frame."""
    size = rate // 50
    batch = []
    for at in range(0, len(captured) // size * size, size):
        reference = () if rendered is None else (Frame(rendered[at : at + size], rate, at / rate),)
        batch.append(Captured(stream, Frame(captured[at : at + size], rate, at / rate), reference))
    return np.concatenate(await engine.process(batch))


def level(samples: Samples) -> float:
    """dB below full scale."""
    return 20 * float(np.log10(np.sqrt(np.mean(np.square(samples.astype(np.float64)))) / 32768 + 1e-9))


@installed
async def test_it_plays_its_part() -> None:
    async with apm(noise_suppression=True, processes=2) as engine:
        assert isinstance(engine, AudioProcessor)
        await engine.check()


@installed
async def test_steady_noise_is_suppressed_and_speech_is_not() -> None:
    sentence = await asyncio.to_thread(voices.spoken, SENTENCE)
    hiss = voices.noise(2, 0.01)
    async with apm_here(noise_suppression=True) as engine:
        out = await heard(engine, np.concatenate([hiss, sentence]))
    assert level(out[12000:16000]) < level(hiss) - 8
    assert level(out[16000:]) > level(sentence) - 3


@installed
@pytest.mark.parametrize("milliseconds", [20, 100, 300, 480])
async def test_the_agents_own_voice_is_cancelled(milliseconds: int) -> None:
    """Whatever the round trip, up to half a second; nobody tells the engine how long it is."""
    agent = voices.mu_law(np.tile(await asyncio.to_thread(voices.spoken, SENTENCE), 2))
    late = np.concatenate([np.zeros(milliseconds * 8, np.int16), agent])[: len(agent)]
    echo = voices.mu_law((late * 0.2).astype(np.int16) + voices.noise(10, 0.0005)[: len(agent)])
    async with apm_here(echo_cancellation=True) as engine:
        out = await heard(engine, echo, agent)
    settled = slice(16000, len(out))
    assert level(out[settled]) < level(echo[settled]) - 15


@installed
async def test_the_caller_is_heard_while_the_agent_speaks() -> None:
    agent = voices.mu_law(np.tile(await asyncio.to_thread(voices.spoken, SENTENCE), 2))
    caller = await asyncio.to_thread(voices.spoken, "Stop, please.", "flite", "rms")
    captured = (np.concatenate([np.zeros(800, np.int16), agent])[: len(agent)] * 0.1).astype(np.int16)
    captured[24000 : 24000 + len(caller)] += caller
    async with apm_here(echo_cancellation=True) as engine:
        out = await heard(engine, voices.mu_law(captured), agent)
    assert level(out[24000 : 24000 + len(caller)]) > level(caller) - 6


@installed
@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize(
    "options",
    [
        {"high_pass_filter": True},
        {"noise_suppression": True},
        {"echo_cancellation": True},
        {"noise_suppression": True, "echo_cancellation": True},
    ],
    ids=lambda options: " ".join(options),
)
async def test_the_delay_is_what_the_engine_says(options: dict[str, bool], rate: int) -> None:
    """To the millisecond, by the phase of the cross-correlation."""
    speech = await asyncio.to_thread(voices.spoken, SENTENCE)
    sound = speech if rate == 8000 else np.repeat(speech, 2)
    async with apm_here(**options) as engine:
        out = await heard(engine, sound, np.zeros_like(sound), rate=rate)
        said = engine.delay(rate)
    size = 2 * len(sound)
    cross = np.fft.rfft(out.astype(np.float64), size) * np.conj(np.fft.rfft(sound.astype(np.float64), size))
    cross /= np.abs(cross) + 1e-3 * np.abs(cross).max()
    assert np.argmax(np.fft.irfft(cross)[: rate // 10]) / rate == pytest.approx(said, abs=0.001)


@installed
async def test_the_rate_may_change_in_mid_call() -> None:
    """From 8 to 16 kHz and back, of either direction alone too; each frame comes out as long as it went in."""
    rng = np.random.default_rng(1)
    rates = [(8000, 8000)] * 10 + [(16000, 8000)] * 10 + [(16000, 16000)] * 10 + [(8000, 16000)] * 10
    batch = [
        Captured(
            1,
            Frame(rng.normal(0, 500, ours // 50).astype(np.int16), ours, 0.0),
            [Frame(rng.normal(0, 500, theirs // 50).astype(np.int16), theirs, 0.0)],
        )
        for ours, theirs in rates
    ]
    async with apm_here(noise_suppression=True, echo_cancellation=True) as engine:
        out = await engine.process(batch)
    assert [len(samples) for samples in out] == [rate // 50 for rate, _ in rates]
    assert all(np.any(samples) for samples in out[1:])


@installed
async def test_calls_do_not_hear_each_other() -> None:
    """However they are spread over processes and mixed in a batch, and however often."""
    sentence = await asyncio.to_thread(voices.spoken, SENTENCE)
    calls = [voices.noise(2, 0.01, seed) for seed in range(5)] + [sentence[:16000]]
    async with apm(noise_suppression=True, processes=2) as engine:
        alone = [await heard(engine, call, stream=100 + number) for number, call in enumerate(calls)]
        parts: list[list[Samples]] = [[] for _ in calls]
        for at in range(0, 16000, 160):
            batch = [Captured(n, Frame(call[at : at + 160], 8000, 0.0), ()) for n, call in enumerate(calls)]
            out: Sequence[Samples] = await engine.process(batch)
            for part, samples in zip(parts, out, strict=True):
                part.append(samples)
    for one, part in zip(alone, parts, strict=True):
        assert np.array_equal(one, np.concatenate(part))


@installed
async def test_a_stream_that_ended_is_forgotten() -> None:
    """Its number may come again, for a call that has heard nothing."""
    noise = voices.noise(1, 0.01)
    async with apm_here(noise_suppression=True) as engine:
        first = await heard(engine, noise)
        second = await heard(engine, noise)
        engine.forget(1)
        third = await heard(engine, noise)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, third)


@installed
async def test_a_process_that_dies_costs_a_batch() -> None:
    silence = np.zeros(160, np.int16)
    async with apm(high_pass_filter=True) as engine:
        await heard(engine, silence)
        [process] = multiprocessing.active_children()
        process.kill()
        await asyncio.to_thread(process.join)
        with pytest.raises(EngineError, match="webrtc-apm: the worker process died"):
            await heard(engine, silence)
        assert len(await heard(engine, silence)) == 160


async def test_use_before_the_start_is_an_error() -> None:
    engine = WebRtcApm(WebRtcApmOptions(noise_suppression=True), EngineContext(LocalEngineHost(), Path()))
    with pytest.raises(EngineError, match="not started"):
        await engine.check()


def test_options_that_do_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match="nothing is switched on"):
        WebRtcApmOptions()


def test_a_missing_package_names_the_extra() -> None:
    """In an interpreter that has none."""
    program = """
import sys
from pathlib import Path
sys.modules["livekit"] = None
from connector.errors import PackageMissing
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext
from flavors.engines.webrtc_apm import WebRtcApmOptions, descriptor
try:
    descriptor.load(WebRtcApmOptions(noise_suppression=True), EngineContext(LocalEngineHost(), Path()))
except PackageMissing as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "webrtc-apm: livekit is not installed: run `pip install 'voxtrunk[webrtc-apm]'`"
