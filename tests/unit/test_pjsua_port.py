"""The pjsua2 phone's side of the `AudioPort` contract, without its process: frames are taken as the test says."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import pytest

from connector.audio import Audio, Frame
from connector.cli.phone.pjsua import AHEAD, PjsuaPort
from connector.interfaces import Position
from tests.fakes.clock import virtual_time
from tests.fakes.engines import tone


class Process:
    """Takes frames as pjsua2 does."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.port = PjsuaPort(self._send)
        self.taken: list[bytes] = []

    def _send(self, do: str, *, pcm: str) -> None:
        assert do == "say"
        self.waiting.append(base64.b64decode(pcm))

    def take(self, frames: int) -> None:
        for _ in range(frames):
            pcm = self.waiting.pop(0) if self.waiting else b""
            self.taken.append(pcm)
            self.port.said(pcm, 0.02 * len(self.taken))


def test_frames_are_handed_over_a_few_at_a_time_and_all_arrive_in_order() -> None:
    process = Process()
    speech = tone(440, 0.5)
    process.port.write(1, speech)
    assert len(process.waiting) == AHEAD
    process.take(30)
    assert b"".join(process.taken) == speech.samples.tobytes()
    assert process.port.position == Position(1, pytest.approx(0.5))


def test_a_last_partial_frame_is_padded_and_played() -> None:
    process = Process()
    process.port.write(1, Audio(np.full(200, 1000, np.int16), 8000))
    process.take(5)
    assert len(b"".join(process.taken)) == 320
    process.port.finish(1)
    process.take(2)
    assert len(b"".join(process.taken)) == 640


def test_speech_of_another_rate_lasts_as_long() -> None:
    process = Process()
    process.port.write(1, tone(440, 0.5, 16_000))
    process.port.finish(1)
    process.take(40)
    assert process.port.position.seconds == pytest.approx(0.5, abs=0.03)


def test_a_higher_generation_supersedes_and_stale_speech_is_dropped() -> None:
    process = Process()
    process.port.write(1, tone(440, 1.0))
    process.port.write(2, tone(880, 0.1))
    process.port.write(1, tone(440, 1.0))
    process.take(40)
    assert process.port.position == Position(2, pytest.approx(0.1))
    assert len(b"".join(process.taken)) == (AHEAD + 5) * 320


def test_clear_tells_what_was_heard_and_refuses_more_of_it() -> None:
    process = Process()
    process.port.write(3, tone(440, 1.0))
    process.take(10)
    assert process.port.clear() == Position(3, pytest.approx(0.2))
    process.port.write(3, tone(440, 1.0))
    process.take(40)
    assert len(b"".join(process.taken)) == (10 + AHEAD) * 320


def test_a_pause_is_silent_and_loses_nothing() -> None:
    process = Process()
    speech = tone(440, 0.4)
    process.port.write(1, speech)
    process.port.pause()
    process.take(20)
    process.port.resume()
    process.take(20)
    assert b"".join(process.taken) == speech.samples.tobytes()
    assert b"" in process.taken[AHEAD:20]


@virtual_time
async def test_played_waits_for_the_end_and_for_nothing_else() -> None:
    process = Process()
    process.port.write(1, tone(440, 0.2))
    process.port.finish(1)
    waiting = asyncio.create_task(process.port.played(1))
    process.take(9)
    await asyncio.sleep(0)
    assert not waiting.done()
    process.take(1)
    assert await waiting == Position(1, pytest.approx(0.2))
    superseded = asyncio.create_task(process.port.played(2))
    process.port.write(2, tone(440, 1.0))
    await asyncio.sleep(0)
    process.port.write(3, tone(440, 0.2))
    await superseded
    cleared = asyncio.create_task(process.port.played(3))
    await asyncio.sleep(0)
    process.port.clear()
    await cleared
    orphaned = asyncio.create_task(process.port.played(4))
    await asyncio.sleep(0)
    process.port.close()
    await orphaned


def test_both_directions_reach_taps_and_the_listener() -> None:
    process = Process()
    heard: list[Frame] = []
    seen: list[tuple[str, float]] = []

    class Tap:
        def received(self, frame: Frame, at: float) -> None:
            seen.append(("received", at))

        def emitted(self, frame: Frame, at: float) -> None:
            seen.append(("emitted", at))

    process.port.tap(Tap())
    process.port.listen(heard.append)
    process.port.heard(tone(440, 0.02).samples.tobytes(), 7.0)
    process.take(1)
    assert seen == [("received", 7.0), ("emitted", 0.02)]
    (frame,) = heard
    assert (len(frame.samples), frame.rate, frame.time) == (160, 8000, 0.0)
