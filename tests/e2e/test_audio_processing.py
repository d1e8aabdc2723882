"""WebRTC's audio processing in a whole connector: a real call, a real recording."""

from __future__ import annotations

import asyncio
import wave
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from random import randrange

import numpy as np
import pytest
from numpy.typing import NDArray

from connector.app import App, SystemClock
from connector.cli.phone.caller import Caller
from connector.cli.phone.own import own_phone
from connector.config.model import (
    EngineChoice,
    Flavor,
    HttpSettings,
    MediaSettings,
    RecordSettings,
    Settings,
    SipSettings,
)
from flavors.engines.webrtc_apm import NAME, WebRtcApmOptions, descriptor
from tests.fakes import voices
from tests.fakes.calls import FakeMonitor

pytestmark = pytest.mark.skipif(
    find_spec("livekit") is None, reason="livekit is not installed: pip install 'voxtrunk[webrtc-apm]'"
)


def settings(folder: Path) -> Settings:
    first = randrange(21_000, 32_000, 100)
    choice = EngineChoice(engine=NAME, options=WebRtcApmOptions(noise_suppression=True))
    echo = Flavor(name="echo", pipeline="echo", audio=choice)
    return Settings(
        file=folder / "voxtrunk.yml",
        sip=SipSettings(listen="127.0.0.1:0"),
        media=MediaSettings(ports=f"{first}-{first + 99}"),
        records=RecordSettings(directory=folder / "records"),
        http=HttpSettings(listen="127.0.0.1:0"),
        models=folder,
        flavors={"echo": echo},
        default=echo,
    )


async def test_the_pipeline_hears_less_noise_and_the_recording_has_all_of_it(tmp_path: Path) -> None:
    """The echo returns what the pipeline hears: on the left is the caller's hiss as sent, on the right what is left."""
    clock, monitor = SystemClock(), FakeMonitor()
    async with App(settings(tmp_path), monitors=[monitor], descriptors={NAME: descriptor}) as app:
        assert app.readiness().flavors == {"echo": ""}
        assert app.local is not None
        async with AsyncExitStack() as stack:
            phone = await stack.enter_async_context(own_phone(clock))
            leg = await phone.dial(f"sip:1@127.0.0.1:{app.local[1]}", calling="alice")
            caller = await stack.enter_async_context(Caller(leg, clock))
            await caller.say(voices.noise(2.5, 0.1))
            await caller.pause(0.3)
        async with asyncio.timeout(10):
            while not monitor.records:  # noqa: ASYNC110 - the record is written by the connector's own task
                await asyncio.sleep(0.02)
        [record] = monitor.records
        assert f'voxtrunk_engine_failed_batches_total{{engine="{NAME}",kind="audio"}}' in app.metrics().decode()
    assert record.files.recording is not None
    audio = await asyncio.to_thread(samples, tmp_path / "records" / record.files.recording)
    loud = np.flatnonzero(np.abs(audio[:, 0]) > 1000)
    middle = slice(len(audio) // 2, loud[-1])
    left, right = (20 * np.log10(np.sqrt(np.mean(audio[middle, side] ** 2)) / 32768) for side in (0, 1))
    assert left == pytest.approx(-20, abs=1)
    assert -80 < right < left - 8


def samples(path: Path) -> NDArray[np.float64]:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2).astype(np.float64)
