"""How much delay a line is measured to need."""

from __future__ import annotations

import random

import pytest

from connector.receiver.delay import START_SECONDS, DelayEstimator


def measured(delays: list[float], estimator: DelayEstimator | None = None, drift: float = 0.0) -> DelayEstimator:
    """What packets that leave 20 ms apart and take so long each tell."""
    estimator = estimator or DelayEstimator()
    for index, delay in enumerate(delays):
        sent = 0.02 * index
        estimator.take(100.0 + delay + drift * sent, sent + delay + drift * sent)
    return estimator


def test_nothing_is_known_at_first() -> None:
    estimator = DelayEstimator()
    assert estimator.target == START_SECONDS
    assert not estimator.settled


def test_a_clean_line_needs_next_to_nothing() -> None:
    estimator = measured([0.05] * 60)
    assert estimator.target == pytest.approx(0.002)
    assert estimator.settled
    assert estimator.base == pytest.approx(100.05)


@pytest.mark.parametrize("jitter", [0.01, 0.04, 0.08, 0.15])
def test_a_jittery_line_needs_as_much_as_its_slowest_packets_of_two_hundred(jitter: float) -> None:
    draw = random.Random(1)
    delays = [0.03 + draw.uniform(0, jitter) for _ in range(2000)]
    assert measured(delays).target == pytest.approx(jitter, abs=0.06 * jitter + 0.003)


def test_one_packet_of_many_may_be_as_late_as_it_likes() -> None:
    delays = [0.03] * 1000
    delays[700] = 0.5
    assert measured(delays).target == pytest.approx(0.002)


def test_a_spike_is_forgotten() -> None:
    delays = [0.03] * 500 + [0.13, 0.11, 0.09, 0.07, 0.05] + [0.03] * 200
    estimator = measured(delays)
    assert estimator.target > 0.05
    assert measured(delays + [0.03] * 1000).target == pytest.approx(0.002)


@pytest.mark.parametrize("drift", [1e-4, -1e-4])
def test_drift_is_no_jitter(drift: float) -> None:
    assert measured([0.03] * 10_000, drift=drift).target == pytest.approx(0.002)


def test_a_longer_way_is_no_jitter_for_long() -> None:
    estimator = measured([0.03] * 500 + [0.08] * 5000)
    assert estimator.base == pytest.approx(100.08)
    assert estimator.target == pytest.approx(0.002)


def test_a_new_stream_has_new_timestamps_but_the_same_network() -> None:
    draw = random.Random(1)
    estimator = measured([draw.uniform(0, 0.04) for _ in range(1000)])
    needed = estimator.target
    estimator.restart()
    estimator.take(-5e6, 20.0)
    assert estimator.base == -5e6
    assert estimator.target == needed
