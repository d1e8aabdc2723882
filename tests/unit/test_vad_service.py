"""The batched voice activity detection."""

from __future__ import annotations

import asyncio
import logging

import numpy as np
import pytest

from connector.audio import Audio, Frame
from connector.host.vad import BatchedVadService
from connector.interfaces import VadStream
from tests.fakes.clock import virtual_time
from tests.fakes.engines import FakeVad, join, silence, tone

FRAME = 0.02


class Listener:
    """Keeps what a stream delivers."""

    def __init__(self) -> None:
        self.windows: list[tuple[float, float, float]] = []

    def __call__(self, end: float, seconds: float, probability: float) -> None:
        self.windows.append((end, seconds, probability))


def frames(audio: Audio, start: float = 0.0) -> list[Frame]:
    size = round(audio.rate * FRAME)
    return [
        Frame(audio.samples[at : at + size], audio.rate, start + at / audio.rate)
        for at in range(0, len(audio.samples), size)
    ]


async def push(stream: VadStream, audio: Audio, start: float = 0.0) -> None:
    """Hands `audio` over in (virtual) real time."""
    for frame in frames(audio, start):
        stream.push(frame)
        await asyncio.sleep(FRAME)


@virtual_time
async def test_windows_have_their_media_time() -> None:
    service, listener = BatchedVadService(FakeVad()), Listener()
    await push(service.open(listener), join(silence(0.32), tone(440, 0.64)), start=5.0)
    await service.aclose()
    ends, seconds, probabilities = zip(*listener.windows, strict=True)
    assert ends == pytest.approx([5.0 + 0.032 * (index + 1) for index in range(30)])
    assert set(seconds) == {0.032}
    assert probabilities == (0.0,) * 10 + (1.0,) * 20


@virtual_time
async def test_wideband_frames_are_brought_to_the_rate_of_the_engine() -> None:
    service, listener = BatchedVadService(FakeVad()), Listener()
    await push(service.open(listener), join(silence(0.32, 16000), tone(440, 0.64, 16000)))
    await service.aclose()
    ends, _, probabilities = zip(*listener.windows, strict=True)
    assert len(ends) >= 29
    assert all(0 < end <= 0.96 for end in ends)
    assert probabilities[:9] == (0.0,) * 9
    assert probabilities[11:] == (1.0,) * (len(ends) - 11)


@virtual_time
async def test_one_batch_at_a_time_while_the_next_gathers() -> None:
    vad = FakeVad(delay=0.03)
    service = BatchedVadService(vad)
    listeners = [Listener() for _ in range(20)]
    await asyncio.gather(*(push(service.open(listener), tone(440, 1.0)) for listener in listeners))
    await asyncio.sleep(0.1)
    await service.aclose()
    assert vad.most_running == 1
    assert max(vad.batches) == 20
    for listener in listeners:
        assert [end for end, _, _ in listener.windows] == pytest.approx([0.032 * (i + 1) for i in range(31)])


@virtual_time
async def test_each_stream_keeps_its_own_state() -> None:
    vad = FakeVad()
    service = BatchedVadService(vad)
    early, late = service.open(Listener()), service.open(Listener())
    await push(early, tone(440, 0.32))
    await asyncio.gather(push(early, tone(440, 0.32), 0.32), push(late, tone(440, 0.32)))
    await service.aclose()
    assert vad.states[:10] == [[float(windows)] for windows in range(10)]
    assert [sorted(states) for states in vad.states[10:]] == [[float(n), float(n + 10)] for n in range(10)]


@virtual_time
async def test_an_idle_service_does_nothing() -> None:
    vad = FakeVad()
    service = BatchedVadService(vad)
    stream = service.open(Listener())
    await push(stream, tone(440, 0.1))
    await asyncio.sleep(3600)
    assert sum(vad.batches) == 3
    assert len(asyncio.all_tasks()) == 1
    await service.aclose()


@virtual_time
async def test_a_stream_closed_in_mid_batch_hears_nothing_more() -> None:
    vad = FakeVad(delay=0.05)
    service = BatchedVadService(vad)
    closing, staying = Listener(), Listener()
    stream, other = service.open(closing), service.open(staying)
    for frame in frames(tone(440, 0.2)):
        stream.push(frame)
        other.push(frame)
    await asyncio.sleep(0.02)
    stream.close()
    stream.close()
    stream.push(frames(tone(440, 0.2))[0])
    await asyncio.sleep(2)
    assert closing.windows == []
    assert len(staying.windows) == 6
    await service.aclose()


@virtual_time
async def test_where_the_engine_fails_the_level_decides(caplog: pytest.LogCaptureFixture) -> None:
    vad = FakeVad()
    service, listener = BatchedVadService(vad), Listener()
    stream = service.open(listener)
    await push(stream, tone(440, 0.32))
    vad.failing = True
    with caplog.at_level(logging.ERROR):
        await push(stream, join(silence(0.32), tone(440, 0.32)), 0.32)
    vad.failing = False
    await push(stream, silence(0.32), 0.96)
    assert [probability for _, _, probability in listener.windows] == [1.0] * 10 + [0.0] * 10 + [1.0] * 10 + [0.0] * 10
    assert service.failures == 10  # for the silence it was not asked
    assert "voice activity detection failed" in caplog.messages[0]
    # The state begins anew with the engine.
    assert vad.states[10] == [0.0]
    await service.aclose()


@virtual_time
async def test_an_engine_that_cannot_keep_up_loses_the_oldest_windows() -> None:
    vad = FakeVad(delay=0.1)
    service, listener = BatchedVadService(vad), Listener()
    await push(service.open(listener), tone(440, 10.0))
    lag = 10.0 - listener.windows[-1][0]
    assert lag < 1.3
    assert service.dropped > 100
    ends = [end for end, _, _ in listener.windows]
    assert ends == sorted(ends)
    await service.aclose()


@virtual_time
async def test_a_listener_that_raises_takes_no_other_along(caplog: pytest.LogCaptureFixture) -> None:
    def raising(end: float, seconds: float, probability: float) -> None:
        raise ZeroDivisionError

    service, listener = BatchedVadService(FakeVad()), Listener()
    await asyncio.gather(
        push(service.open(raising), tone(440, 0.32)),
        push(service.open(listener), tone(440, 0.32)),
    )
    assert len(listener.windows) == 10
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError] * 10
    await service.aclose()


@virtual_time
async def test_closing_in_mid_batch_ends_the_work() -> None:
    service, listener = BatchedVadService(FakeVad(delay=1.0)), Listener()
    stream = service.open(listener)
    for frame in frames(tone(440, 0.2)):
        stream.push(frame)
    await asyncio.sleep(0.5)
    await service.aclose()
    await service.aclose()
    stream.push(Frame(np.zeros(160, np.int16), 8000, 0.2))
    await asyncio.sleep(5)
    assert listener.windows == []
