"""Where both directions lie on a recording's time line, over an hour and whatever the network does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from connector.audio import Frame
from connector.record.audio_file import Block
from connector.record.timeline import LEFT, RIGHT, Tapped, Timeline, Track

RATE = 8000
FRAME = RATE // 50
HOUR = 180_000
"""Frames."""


VOICES = [np.full(FRAME, 1 + number, np.int16) for number in range(30_000)]


def numbered(number: int, at: float) -> Tapped:
    """A frame that says which one it is."""
    return Frame(VOICES[number % 30_000], RATE, number * 0.02), at


def blocks_of(received: Iterable[Tapped], emitted: Iterable[Tapped], batch: int = 20) -> Iterator[tuple[int, Block]]:
    """The whole time line; frames are handed over in batches, as the ticks bring them."""
    timeline = Timeline(RATE, start=0.0)
    pairs = zip(received, emitted, strict=True)
    while pair := tuple(zip(*islice(pairs, batch), strict=True)):
        heard, said = pair
        yield from timeline.add(heard, said, until=said[-1][1])
    yield from timeline.rest()


def test_an_hour_has_no_gap_and_both_stay_where_they_were_on_the_wire() -> None:
    """The caller's packets arrive up to 80 ms late each; nothing is cut, nothing moves."""
    late = np.random.default_rng(7).uniform(0, 0.08, HOUR)
    received = (numbered(number, number * 0.02 + late[number]) for number in range(HOUR))
    emitted = (numbered(number, number * 0.02) for number in range(HOUR))
    shift = round(late[0] * RATE)  # where the caller's first frame was puts all others
    end = 0
    for begin, block in blocks_of(received, emitted):
        assert begin == end, "blocks follow one another"
        end = begin + len(block)
        if begin and end <= HOUR * FRAME:
            place = np.arange(begin, end)
            assert (block[:, RIGHT] == 1 + place // FRAME % 30_000).all()
            assert (block[:, LEFT] == 1 + (place - shift) // FRAME % 30_000).all()
    assert end == HOUR * FRAME + shift


def test_drift_of_100_ppm_costs_a_correction_each_twenty_minutes_though_nobody_ever_pauses() -> None:
    """At 360 ms in an hour three or so; in between the voice is whole."""
    track = Track(RATE, start=0.0)
    jumps, end = 0, 0
    worst = 0.0
    for number in range(HOUR):
        at = number * 0.02 * (1 + 100e-6)
        ((position, samples),) = track.stretches([numbered(number, at)])
        jumps += position != end
        end = position + len(samples)
        worst = max(worst, abs(position / RATE - at))
    assert jumps <= 4  # the first frame is one
    assert worst < 0.125


def test_whoever_pauses_for_breath_is_corrected_then_and_not_within_a_word() -> None:
    """Drift of 100 ppm; a word of a second, a second of silence."""
    track = Track(RATE, start=0.0)
    end = 0
    worst = 0.0
    silence = np.zeros(FRAME, np.int16)
    for number in range(HOUR):
        speaking = number // 50 % 2 == 0
        (frame, at) = numbered(1000 + number % 50, number * 0.02 * (1 + 100e-6))
        frame = Frame(frame.samples if speaking else silence, RATE, number * 0.02)
        ((position, samples),) = track.stretches([(frame, at)])
        assert position == end or not speaking
        end = position + len(samples)
        worst = max(worst, abs(position / RATE - at))
    assert worst < 0.065


@given(
    lateness=st.lists(st.floats(0, 0.19), min_size=30, max_size=110),
    lost=st.sets(st.integers(0, 119), max_size=30),
    batch=st.integers(1, 40),
)
def test_whatever_comes_late_or_never_every_frame_is_written_once_and_in_order(
    lateness: list[float], lost: set[int], batch: int
) -> None:
    lateness = [0.0, *lateness]
    count = len(lateness)
    silent = Frame(np.zeros(FRAME, np.int16), RATE, 0.0)
    received = [numbered(number, number * 0.02 + late) for number, late in enumerate(lateness)]
    received = [
        (silent._replace(time=frame.time), at) if number in lost else (frame, at)
        for number, (frame, at) in enumerate(received)
    ]
    emitted = [numbered(number, number * 0.02) for number in range(count)]
    audio = np.concatenate([block.copy() for _, block in blocks_of(received, emitted, batch)])
    frames = audio[: count * FRAME].reshape(count, FRAME, 2)
    numbers = np.arange(1, count + 1)
    assert (frames[:, :, RIGHT] == numbers[:, np.newaxis]).all()
    heard = np.where([number in lost for number in range(count)], 0, numbers)
    assert (frames[:, :, LEFT] == heard[:, np.newaxis]).all()
