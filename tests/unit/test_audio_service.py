"""Audio processing as one batched service: nothing is lost, nothing is late, no call harms another."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest

from connector.audio import Frame
from connector.host.processing import PATIENCE, REST, BatchedAudioService
from connector.interfaces import AudioStream
from tests.fakes.audio_processor import FakeAudioProcessor
from tests.fakes.clock import LoopClock, virtual_time

TICK = 0.02


class Listener:
    """Keeps what a stream delivers, with the time."""

    def __init__(self) -> None:
        self.frames: list[tuple[float, Frame, float]] = []

    def __call__(self, frame: Frame, delay: float) -> None:
        self.frames.append((asyncio.get_running_loop().time(), frame, delay))

    @property
    def values(self) -> list[int]:
        return [int(frame.samples[0]) for _, frame, _ in self.frames]


def frame(value: int, rate: int = 8000) -> Frame:
    return Frame(np.full(rate // 50, value, np.int16), rate, value * TICK)


async def push(streams: list[AudioStream], values: range, rate: int = 8000) -> None:
    """A frame of each stream per tick; what was rendered is 1 throughout."""
    for value in values:
        for stream in streams:
            stream.push(frame(value, rate), [frame(1)._replace(samples=np.ones(rate // 50, np.int16))])
        await asyncio.sleep(TICK)


@virtual_time
async def test_all_calls_of_a_tick_are_one_batch() -> None:
    processor = FakeAudioProcessor()
    service = BatchedAudioService(processor, LoopClock())
    listeners = [Listener() for _ in range(5)]
    await push([service.open(listener) for listener in listeners], range(10))
    await service.aclose()
    assert [len(batch) for batch in processor.batches] == [5] * 10
    assert all(listener.values == [value - 1 for value in range(10)] for listener in listeners)


@virtual_time
async def test_a_frame_keeps_its_media_time_and_rate_and_says_what_it_took() -> None:
    service, listener = BatchedAudioService(FakeAudioProcessor(seconds=0.004), LoopClock()), Listener()
    stream = service.open(listener)
    await push([stream], range(3))
    await push([stream], range(3, 6), rate=16000)
    await push([stream], range(6, 9))
    await service.aclose()
    assert [one.time for _, one, _ in listener.frames] == pytest.approx([value * TICK for value in range(9)])
    assert [one.rate for _, one, _ in listener.frames] == [8000] * 3 + [16000] * 3 + [8000] * 3
    assert [delay for _, _, delay in listener.frames] == pytest.approx([0.004 + 0.01] * 9)


@virtual_time
async def test_a_slow_engine_gets_larger_batches() -> None:
    """What waits for it is one batch, in order."""
    processor, listener = FakeAudioProcessor(seconds=3.5 * TICK), Listener()
    service = BatchedAudioService(processor, LoopClock())
    await push([service.open(listener)], range(20))
    await asyncio.sleep(1)
    await service.aclose()
    assert max(len(batch) for batch in processor.batches) == 4
    assert listener.values == [value - 1 for value in range(20)]


@virtual_time
async def test_where_the_engine_fails_the_far_end_is_heard_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """And once it has rested, it is tried again."""
    processor, listener = FakeAudioProcessor(), Listener()
    service = BatchedAudioService(processor, LoopClock())
    stream = service.open(listener)
    processor.failing = True
    with caplog.at_level(logging.ERROR):
        await push([stream], range(10))
    processor.failing = False
    await asyncio.sleep(REST)
    await push([stream], range(10, 20))
    await service.aclose()
    assert listener.values == [*range(10), *(value - 1 for value in range(10, 20))]
    assert (service.failures, len(caplog.records)) == (1, 1)


@virtual_time
async def test_an_engine_that_hangs_holds_nobody_up() -> None:
    processor, listener = FakeAudioProcessor(seconds=60), Listener()
    service = BatchedAudioService(processor, LoopClock())
    await push([service.open(listener)], range(50))
    await service.aclose()
    assert listener.values == list(range(50))
    waits = [delay for _, _, delay in listener.frames]
    assert max(waits) <= PATIENCE + TICK
    assert waits[-1] < TICK
    assert service.failures == 1


@virtual_time
async def test_a_closed_stream_hears_nothing_more_and_is_forgotten() -> None:
    processor, closed, open_ = FakeAudioProcessor(), Listener(), Listener()
    service = BatchedAudioService(processor, LoopClock())
    streams = [service.open(closed), service.open(open_)]
    await push(streams, range(3))
    streams[0].push(frame(3), [])
    streams[0].close()
    streams[0].close()
    await push(streams, range(4, 6))
    await service.aclose()
    assert len(closed.frames) == 3
    assert len(open_.frames) == 5
    assert processor.forgotten == [1]


@virtual_time
async def test_closing_the_service_ends_its_work() -> None:
    """Also in the midst of a batch; what comes later is dropped."""
    listener = Listener()
    service = BatchedAudioService(FakeAudioProcessor(seconds=0.1), LoopClock())
    stream = service.open(listener)
    stream.push(frame(1), [])
    await asyncio.sleep(0.01)
    await service.aclose()
    stream.push(frame(2), [])
    await service.aclose()
    await asyncio.sleep(1)
    assert listener.frames == []
