"""The caller: what he hears, says and measures, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from connector.audio import Audio
from connector.cli.phone.caller import GAP_SECONDS, Caller, CallOver, Ear, Spurt, at_speech_level
from connector.interfaces import Established, LegEvent, Party, Terminated
from tests.fakes.audio_port import FakeAudioPort
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.engines import join, silence, tone
from tests.fakes.leg import FakeLeg

RATE = 8000


def hear(*parts: Audio, start: float = 100.0) -> Ear:
    """An ear that has heard `parts` in 20 ms frames."""
    ear = Ear()
    samples = join(*parts).samples
    for index in range(0, len(samples), 160):
        ear.hear(samples[index : index + 160], RATE, start + index / RATE)
    return ear


def test_edges_of_speech_are_found_to_5_ms_within_frames() -> None:
    ear = hear(silence(0.113), tone(440, 0.5), silence(0.407))
    (spurt,) = ear.spurts
    assert spurt.start == pytest.approx(100.113, abs=0.005)
    assert spurt.end == pytest.approx(100.613, abs=0.005)


def test_a_short_silence_lies_within_speech_and_a_long_one_parts_it() -> None:
    assert len(hear(tone(440, 0.4), silence(GAP_SECONDS - 0.02), tone(440, 0.4), silence(0.02)).spurts) == 1
    assert len(hear(tone(440, 0.4), silence(GAP_SECONDS + 0.02), tone(440, 0.4), silence(0.02)).spurts) == 2


def test_line_noise_is_not_heard() -> None:
    noise = np.random.default_rng(1).normal(0, 32768 * 10 ** (-55 / 20), RATE).astype(np.int16)
    assert hear(Audio(noise, RATE)).spurts == []


def test_speech_of_any_loudness_goes_out_at_the_same_level() -> None:
    quiet, loud = (at_speech_level(tone(440, 1.0, peak=peak).samples) for peak in (300, 20_000))
    assert np.abs(quiet).max() == pytest.approx(np.abs(loud).max(), rel=0.02)


def test_silence_has_no_level_to_be_put_right() -> None:
    assert not at_speech_level(silence(0.5).samples).any()


@asynccontextmanager
async def calling(events: list[LegEvent] | None = None) -> AsyncIterator[tuple[Caller, FakeAudioPort, FakeLeg]]:
    """A caller on a fake leg; the port's far end is the agent."""
    clock = LoopClock()
    async with FakeAudioPort(clock) as port:
        leg = FakeLeg(port)
        leg.emit(Established())
        async with Caller(leg, clock, (events if events is not None else []).append) as caller:
            yield caller, port, leg


@virtual_time
async def test_the_line_is_never_digital_silence_and_nothing_is_lost_of_what_is_said() -> None:
    async with calling() as (caller, port, _):
        await caller.pause(1.0)
        spoken = await caller.say(tone(440, 1.0).samples)
        assert spoken.seconds == pytest.approx(1.0, abs=0.01)
        assert len(port.voice) >= 99  # noise frames count: the playout never ran dry after the first tick
        assert port.stale == 0


@virtual_time
async def test_voice_to_voice_is_from_the_last_sound_said_to_the_first_sound_heard() -> None:
    async with calling() as (caller, port, _):
        clock = LoopClock()
        spoken = await caller.say(tone(440, 1.0).samples)
        await clock.sleep(spoken.end + 0.8 - clock.now())
        await port.caller_says(tone(300, 0.5))
        delay = caller.answer_delay(spoken)
        assert delay == pytest.approx(0.8, abs=0.05)


@virtual_time
async def test_without_an_answer_there_is_no_delay() -> None:
    async with calling() as (caller, _, _):
        spoken = await caller.say(tone(440, 0.5).samples)
        assert await caller.wait_for_speech(2.0, after=spoken.end) is None
        assert caller.answer_delay(spoken) is None


@virtual_time
async def test_an_interruption_is_measured_to_the_agents_last_sound() -> None:
    async with calling() as (caller, port, _):
        talking = asyncio.create_task(port.caller_says(tone(300, 1.5)))
        await caller.wait_for_speech(1.0, after=-1.0)
        await caller.pause(1.0)
        spoken = await caller.say(tone(440, 1.0).samples)
        await talking
        stopped = caller.stop_delay(spoken)
        assert stopped is not None
        assert 0.2 < stopped < 0.5
        assert caller.answer_delay(spoken) is None


@virtual_time
async def test_who_speaks_into_silence_interrupts_nobody() -> None:
    async with calling() as (caller, _, _):
        assert caller.stop_delay(await caller.say(tone(440, 0.3).samples)) is None


@virtual_time
async def test_silence_is_waited_for_from_the_agents_last_sound() -> None:
    async with calling() as (caller, port, _):
        clock = LoopClock()
        await port.caller_says(tone(300, 1.0))
        ended = clock.now()
        assert await caller.wait_for_silence(0.7, 5.0)
        assert clock.now() - ended == pytest.approx(0.7, abs=0.1)


@virtual_time
async def test_an_agent_that_never_stops_is_not_waited_for_for_ever() -> None:
    async with calling() as (caller, port, _):
        talking = asyncio.create_task(port.caller_says(tone(300, 10.0)))
        assert not await caller.wait_for_silence(0.7, 3.0)
        await talking


@virtual_time
async def test_a_call_that_ends_while_the_caller_waits_is_over_at_once() -> None:
    events: list[LegEvent] = []
    async with calling(events) as (caller, _, leg):
        leg.emit(Terminated(Party.CALLER, "completed"))
        with pytest.raises(CallOver, match="completed"):
            await caller.say(tone(440, 1.0).samples)
        assert await caller.wait_for_end(1.0)
    assert caller.ended == Terminated(Party.CALLER, "completed")
    assert events[-1] == caller.ended


@virtual_time
async def test_leaving_the_caller_hangs_up() -> None:
    async with calling() as (caller, _, leg):
        await caller.pause(0.2)
    assert leg.verbs == ["hang up: "]


def test_an_answer_that_overlaps_with_the_question_is_not_one() -> None:
    ear = hear(silence(0.5), tone(300, 1.0), silence(1.0), tone(300, 0.5), silence(0.02), start=0.0)
    assert ear.begun_after(1.0) == Spurt(pytest.approx(2.5, abs=0.01), pytest.approx(3.0, abs=0.01))
    assert ear.at(1.0) == ear.spurts[0]
    assert ear.at(2.0) is None
