"""Calls refused at the door: every one is counted, the log gets what it bears."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.call import Refusals
from connector.call.refusals import BURST, SECONDS_PER_LINE, Throttle
from connector.interfaces import CallInfo
from connector.leg.endpoint import Refusal
from tests.fakes.clock import LoopClock, virtual_time


def refusal(status: int) -> Refusal:
    return Refusal(CallInfo("call-1", "1000", "200", peer="192.0.2.1:5060"), status, "not on the list")


@virtual_time
async def test_a_scanner_is_counted_whole_and_logged_a_little(caplog: pytest.LogCaptureFixture) -> None:
    counted: Counter[int] = Counter()
    refusals = Refusals(lambda status: counted.update([status]), LoopClock())
    for _ in range(6000):
        refusals(refusal(403))
        await LoopClock().sleep(0.01)
    assert counted == {403: 6000}
    assert len(caplog.records) == pytest.approx(BURST + 60 / SECONDS_PER_LINE, abs=1)
    assert sum(vars(entry)["unlogged"] + 1 for entry in caplog.records) == pytest.approx(6000, abs=1000)


@virtual_time
async def test_a_flood_of_one_kind_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(lambda status: None, LoopClock())
    for _ in range(100):
        refusals(refusal(403))
    refusals(refusal(503))
    last = caplog.records[-1]
    assert (last.levelno, last.getMessage()) == (logging.WARNING, "call refused at the door")
    assert (vars(last)["status"], vars(last)["peer"], vars(last)["unlogged"]) == (503, "192.0.2.1:5060", 0)


def test_what_was_held_back_is_told_with_the_next_that_goes_through() -> None:
    throttle = Throttle(burst=2, seconds=10)
    assert [throttle.admit(now) for now in (0, 0, 0, 1, 2, 12, 12.5, 30, 30, 30)] == [
        *(0, 0, None, None, None),
        *(3, None, 1, 0, None),
    ]


@given(st.lists(st.floats(0, 100), max_size=200))
def test_never_more_than_the_burst_and_one_each_interval(waits: list[float]) -> None:
    throttle, now = Throttle(burst=3, seconds=10), 0.0
    passed = []
    for wait in waits:
        now += wait
        if throttle.admit(now) is not None:
            passed.append(now)
    for first, at in enumerate(passed):
        later = [other for other in passed[first:] if other < at + 50]
        assert len(later) <= 3 + 50 / 10 + 1
