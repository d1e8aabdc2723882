"""What holds of playout for any order of calls, sizes of chunks and changes of rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from connector.audio import Audio, Samples
from connector.sender.playout import Playout
from tests.fakes.audio import purity_db, tone

RATES = [8000, 16_000, 22_050, 24_000, 44_100, 48_000]
WIRE = [8000, 16_000]

chunks = st.lists(st.integers(1, 2500), min_size=1, max_size=8)
wire = st.sampled_from(WIRE)


@given(source=st.sampled_from(RATES), sizes=chunks, rates=st.lists(wire, min_size=1, max_size=30), early=st.booleans())
def test_position_and_what_was_emitted_are_what_was_written(
    source: int, sizes: list[int], rates: list[int], early: bool
) -> None:
    """Whatever the rates of speech and wire, and however often the wire's changes: nothing is lost or twice."""
    playout = Playout(rates[0])
    for size in sizes:
        playout.write(1, Audio(np.zeros(size, np.int16), source))
    if early:
        playout.finish(1)
    heard = 0.0
    for rate in rates:
        playout.rate = rate
        samples = playout.pull(rate // 50)
        assert samples is None or len(samples) == rate // 50
        heard += 0.02 if samples is not None else 0.0
        over = playout.over(1)
        assert playout.position.seconds == pytest.approx(heard) if over is None else over.seconds <= heard + 1e-9
    playout.finish(1)
    while playout.over(1) is None:
        assert playout.pull(rates[-1] // 50) is not None
        heard += 0.02
    assert playout.position.seconds == pytest.approx(sum(sizes) / source, abs=0.0002 * len(rates))
    assert heard - 0.02 <= playout.position.seconds <= heard + 1e-9


@given(sizes=chunks, source=wire)
def test_speech_of_the_wires_rate_leaves_untouched(sizes: list[int], source: int) -> None:
    playout = Playout(source)
    speech = np.random.default_rng(sum(sizes)).integers(-300, 300, sum(sizes)).astype(np.int16)
    begin = 0
    for size in sizes:
        playout.write(1, Audio(speech[begin : begin + size], source))
        begin += size
    playout.finish(1)
    frames = []
    while (frame := playout.pull(source // 50)) is not None:
        frames.append(frame)
    heard = np.concatenate(frames)
    assert np.array_equal(heard[: len(speech)], speech)
    assert not heard[len(speech) :].any()


calls = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 4), st.integers(0, 1500), st.sampled_from(RATES)),
    st.tuples(st.just("finish"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["pause", "clear"])),
    st.tuples(st.just("resume"), st.floats(0.0, 0.8)),
    st.tuples(st.just("rate"), wire),
    st.tuples(st.just("pull"), st.integers(1, 6)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(calls, max_size=60))
def test_any_calls_in_any_order_keep_the_account_and_never_click(plan: list[tuple[Any, ...]]) -> None:
    """A generation's position grows, to no more than was written of it, and no two samples lie far apart.

    It goes back in `resume` alone, by no more than it may.
    """
    playout = Playout(8000)
    written: dict[int, float] = {}
    rates: dict[int, int] = {}
    position = playout.position
    last = 0
    for name, *values in plan:
        if name == "write":
            generation, count, _ = values
            rate = rates.setdefault(generation, values[2])  # one engine speaks a generation
            before = written.setdefault(generation, 0.0)
            voice = tone(100, before + count / rate, rate).samples[round(before * rate) :][:count]
            written[generation] = before + len(voice) / rate
            playout.write(generation, Audio(voice, rate))
        elif name == "rate":
            (playout.rate,) = values
        elif name == "pull":
            for _ in range(values[0]):
                count = playout.rate // 50
                frame = playout.pull(count)
                samples = np.zeros(count, np.int16) if frame is None else frame
                assert len(samples) == count
                steps = np.abs(np.diff(samples, prepend=last).astype(np.int32))
                assert steps.max() < 3000, "a click would be as high as the tone, 8192"
                last = int(samples[-1])
        else:
            getattr(playout, name)(*values)
        now = playout.position
        back = min(values[0], 0.6) + 0.0051 if name == "resume" else 0.0
        assert now.generation > position.generation or (
            now.generation == position.generation and now.seconds >= position.seconds - back
        )
        position = now
        assert position.seconds <= written.get(position.generation, 0.0) + 0.001
        over = playout.over(position.generation)
        assert over is None or over == position or not written


STEEP = 16_000
"""How much the wave that says what time it is goes up or down in a second."""

hand_calls = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 6000)),
    st.tuples(st.sampled_from(["pause", "pause", "finish"])),
    st.tuples(st.just("resume"), st.floats(0.0, 0.8)),
    st.tuples(st.just("rate"), wire),
    st.tuples(st.just("pull"), st.integers(1, 12)),
)


def hand(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """A wave up and down whose value says what time it is, of 4 s."""
    return STEEP * (1 - np.abs(moments % 4 - 2))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(RATES), st.lists(hand_calls, max_size=40))
def test_all_is_heard_in_order_from_the_place_where_a_pause_ended(source: int, plan: list[tuple[Any, ...]]) -> None:
    """Each sample is of the moment that the position says: none is lost, and what was gone back is heard again."""
    playout = Playout(8000)
    written = 0
    paused, finished, fading = False, False, True

    def pull() -> None:
        nonlocal fading
        count = playout.rate // 50
        begin = playout.position.seconds
        frame = playout.pull(count)
        going = playout.position.seconds > begin
        assert not (paused and going)
        if going:
            assert frame is not None
            assert playout.position.seconds == pytest.approx(min(begin + 0.02, written / source))
            first = count // 4 if fading else 0
            last = max(0, min(count, int((written / source - begin - 0.002) * playout.rate)))
            wanted = hand(begin + np.arange(count) / playout.rate)
            # Resampling rounds speech off where it begins and ends: 2 ms.
            first = max(first, int((0.002 - begin) * playout.rate) + 1)
            assert np.abs(frame - wanted)[first:last].max(initial=0) < 0.0005 * STEEP
        fading = not going

    for name, *values in plan:
        if name == "write":
            (count,) = values
            samples = np.rint(hand(np.arange(written, written + count) / source)).astype(np.int16)
            playout.write(1, Audio(samples, source))
            written += 0 if finished else count
        elif name == "rate":
            (playout.rate,) = values
        elif name == "pull":
            for _ in range(values[0]):
                pull()
        elif name == "finish":
            playout.finish(1)
            finished = True
        else:
            getattr(playout, name)(*values)
            paused = name == "pause"
            fading = True
    playout.resume()
    paused = False
    fading = True
    playout.finish(1)
    while (over := playout.over(1)) is None:
        pull()
    assert over.seconds == pytest.approx(written / source, abs=0.0002 * len(plan))


@pytest.mark.parametrize("source", RATES)
@pytest.mark.parametrize("first", WIRE)
def test_a_change_of_rate_in_mid_call_is_not_heard(source: int, first: int) -> None:
    """A tone goes on in phase, at its level and frequency, through every change."""
    playout = Playout(first)
    playout.write(1, tone(1000, 2.0, source))
    playout.finish(1)
    pieces: dict[int, list[Samples]] = {8000: [], 16_000: []}
    moment = 0.0
    for n in range(95):
        if n % 7 == 6:
            playout.rate = 24_000 - playout.rate
        frame = playout.pull(playout.rate // 50)
        assert frame is not None
        time = moment + np.arange(len(frame)) / playout.rate
        wanted = 8192 * np.sin(2 * np.pi * 1000 * time)
        if n:
            assert np.abs(frame - wanted).max() < 60, n
        pieces[playout.rate].append(frame)
        moment += 0.02
    for rate, frames in pieces.items():
        assert purity_db(np.concatenate(frames[1:7]), 1000, rate) > 45
