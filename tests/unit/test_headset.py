"""A person's microphone and loudspeaker on a call; the sound device is played by the test."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from connector.audio import Samples
from connector.cli.phone.caller import Caller
from connector.cli.phone.microphone import BEHIND_SECONDS, BLOCK, Headset
from tests.fakes.audio_port import FakeAudioPort
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.engines import tone
from tests.fakes.leg import FakeLeg


def exchange(headset: Headset, spoken: Samples) -> Samples:
    """One block, as the sound device does it."""
    played = np.ones((BLOCK, 1), np.int16)
    headset.exchange(spoken.reshape(-1, 1), played, BLOCK, None, None)
    return played[:, 0]


@virtual_time
async def test_what_the_microphone_hears_is_said_and_what_the_far_end_says_is_played() -> None:
    clock = LoopClock()
    async with FakeAudioPort(clock) as port, Caller(FakeLeg(port), clock) as caller:
        headset = Headset()
        headset.connect(port, caller)
        far = asyncio.create_task(port.caller_says(tone(300, 0.4)))
        near = tone(440, 0.4).samples
        played = []
        for start in range(0, len(near), BLOCK):
            played.append(exchange(headset, near[start : start + BLOCK]))
            await clock.sleep(BLOCK / 8000)
        await far
        await caller.pause(0.3)
        (said,) = caller.said.spurts
        assert said.seconds == pytest.approx(0.4, abs=0.03)  # one frame of line noise until the microphone is ahead
        assert np.abs(np.concatenate(played)).max() > 4000


@virtual_time
async def test_before_the_call_the_loudspeaker_is_silent() -> None:
    assert not exchange(Headset(), tone(440, 0.02).samples).any()


@virtual_time
async def test_a_loudspeaker_that_lags_drops_old_sound() -> None:
    clock = LoopClock()
    async with FakeAudioPort(clock) as port, Caller(FakeLeg(port), clock) as caller:
        headset = Headset()
        headset.connect(port, caller)
        await port.caller_says(tone(300, 2.0))
        silent = np.zeros(BLOCK, np.int16)
        loud = [exchange(headset, silent).any() for _ in range(100)]
        assert sum(loud) * BLOCK / 8000 <= BEHIND_SECONDS
