"""Defects of a close relative, in the call and its records: absent here, and seen where they are put in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from blockbuster import BlockingError

from connector.audio import Frame
from connector.call import Call
from connector.errors import EngineUnreachable
from connector.record import Disk, Recording
from tests.fakes.calls import Stage, a_leg, over
from tests.fakes.clock import virtual_time


class AnswersTwice(Call):
    """Refuses a call for an error even though it was answered already: 200, then 503."""

    async def _give_up(self, failure: BaseException) -> None:
        await self._leg.reject(503, "Service Unavailable")
        await super()._give_up(failure)


async def one_final_answer(kind: type[Call]) -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:
        stage.take(leg, fails=EngineUnreachable("llm", "connection refused"), kind=kind)
        await over(stage)
    finals = [verb for verb in leg.verbs if verb.startswith(("answer", "reject"))]
    assert finals == ["answer"], "an INVITE has one final response (RFC 3261 section 13.3.1)"


@virtual_time
async def test_an_invite_gets_one_final_answer() -> None:
    await one_final_answer(Call)


@virtual_time
async def test_two_final_answers_are_seen() -> None:
    with pytest.raises(AssertionError, match="one final response"):
        await one_final_answer(AnswersTwice)


class WritesOnTheLoop(Recording):
    """Writes each block where it is, on the event loop."""

    def _post(self, job: Callable[[], None]) -> None:
        job()


async def record_a_second(kind: type[Recording], path: Path) -> None:
    disk = Disk()
    try:
        recording = kind(path, start=0.0, disk=disk, on_error=_raise)
        for number in range(50):
            recording.received(Frame(np.full(160, 1, np.int16), 8000, number * 0.02), number * 0.02)
        await recording.close()
    finally:
        await disk.aclose()


def _raise(error: Exception) -> None:
    raise error


async def test_recording_never_blocks_the_event_loop(tmp_path: Path) -> None:
    await record_a_second(Recording, tmp_path / "call.wav")


async def test_blocking_writes_are_seen(tmp_path: Path) -> None:
    with pytest.raises(BlockingError):
        await record_a_second(WritesOnTheLoop, tmp_path / "call.wav")
