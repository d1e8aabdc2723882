"""The virtual clock itself."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.fakes.clock import EPOCH, LoopClock, NothingWillHappen, run_virtual, virtual_time


@virtual_time
async def test_a_day_takes_no_time() -> None:
    clock, began = LoopClock(), time.monotonic()
    await clock.sleep(86_400)
    assert clock.now() == 86_400
    assert clock.wall() == EPOCH + 86_400
    assert time.monotonic() - began < 1


@virtual_time
async def test_timers_come_in_order() -> None:
    order = []

    async def note(seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(seconds)

    await asyncio.gather(*map(note, (3.0, 1.0, 2.0)))
    assert order == [1.0, 2.0, 3.0]


def test_waiting_for_nothing_fails() -> None:
    async def waits() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NothingWillHappen):
        run_virtual(waits())


def test_a_task_left_running_fails() -> None:
    kept = []

    async def leaves() -> None:
        kept.append(asyncio.create_task(asyncio.sleep(1), name="forgotten"))

    with pytest.raises(AssertionError, match="forgotten"):
        run_virtual(leaves())


def test_a_callback_that_raises_fails() -> None:
    async def calls() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(ZeroDivisionError):
        run_virtual(calls())
