"""A process that does not keep up takes no more calls, until it does again."""

from __future__ import annotations

import pytest

from connector.call import Pressure


def test_punctual_ticks_and_a_short_stall_take_calls() -> None:
    pressure = Pressure()
    for _ in range(1000):
        pressure.ticked(0.002)
    pressure.ticked(0.2)
    assert not pressure.too_high


@pytest.mark.parametrize(("stall", "seconds"), [(0.5, 0.5), (2.0, 1.5)])
def test_the_longer_the_stall_the_longer_calls_are_refused(stall: float, seconds: float) -> None:
    pressure = Pressure()
    pressure.ticked(stall)
    ticks = 0
    while pressure.too_high:
        pressure.ticked(0.001)
        ticks += 1
    assert ticks * 0.02 == pytest.approx(seconds, abs=0.05)
