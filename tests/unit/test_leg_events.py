"""A leg's events reach their reader in order, and end with the leg."""

from __future__ import annotations

import asyncio

from connector.interfaces import Digit, Established, Party, Terminated
from connector.leg.events import LegEvents

OVER = Terminated(Party.CALLER, "hung up")


async def test_events_come_in_order_and_nothing_follows_the_end() -> None:
    events = LegEvents()
    for event in (Established(), Digit("1"), OVER, Digit("2"), Terminated(Party.SYSTEM, "again")):
        events.emit(event)
    assert [event async for event in events.read()] == [Established(), Digit("1"), OVER]


async def test_a_reader_waits_for_what_has_not_happened_yet() -> None:
    events = LegEvents()
    reading = asyncio.create_task(anext(events.read()))
    await asyncio.sleep(0)
    assert not reading.done()
    events.emit(Established())
    assert await reading == Established()


async def test_the_next_reader_goes_on_where_the_last_one_stopped() -> None:
    events = LegEvents()
    for event in (Established(), Digit("1"), OVER):
        events.emit(event)
    assert await anext(events.read()) == Established()
    assert [event async for event in events.read()] == [Digit("1"), OVER]


async def test_who_comes_after_the_end_does_not_wait_for_ever() -> None:
    events = LegEvents()
    events.emit(OVER)
    assert events.terminated
    assert [event async for event in events.read()] == [OVER]
    assert [event async for event in events.read()] == []
