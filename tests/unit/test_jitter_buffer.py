"""The jitter buffer, slot by slot."""

from __future__ import annotations

import pytest

from connector.receiver.jitter_buffer import LIMIT_SLOTS, START_SLOTS, WINDOW_PACKETS, Buffered, JitterBuffer

SLOT = 160


class Line:
    """A buffer, and a far end whose packet n carries frame n; what is popped is noted by number, gaps as None."""

    def __init__(self) -> None:
        self.buffer = JitterBuffer(8000)
        self.heard: list[int | None] = []
        self.sequence_offset = 0
        self.timestamp_offset = 100_000

    def push(self, *numbers: int) -> None:
        for n in numbers:
            timestamp = self.timestamp_offset + n * SLOT
            self.buffer.push(Buffered(n + self.sequence_offset, timestamp, SLOT, b"%d" % n, 0.0))

    def pop(self, count: int = 1) -> None:
        for _ in range(count):
            item = self.buffer.pop()
            self.heard.append(None if isinstance(item, int) else int(item.payload))

    def run(self, *numbers: int) -> None:
        """One packet, one pull, and so on."""
        for n in numbers:
            self.push(n)
            self.pop()


def test_an_even_stream_is_heard_whole_after_the_initial_delay() -> None:
    line = Line()
    line.run(*range(50))
    assert line.heard == [None] * START_SLOTS + list(range(50 - START_SLOTS))


def test_reordered_packets_are_put_in_order() -> None:
    line = Line()
    line.run(0, 2, 1, 3, 5, 4, 6, 7, 8)
    assert line.heard[START_SLOTS:] == [0, 1, 2, 3, 4, 5, 6]
    assert line.buffer.late == 0


def test_a_lost_packet_leaves_one_gap_and_no_delay() -> None:
    line = Line()
    line.run(0, 1, 2)
    line.pop()
    line.run(4, 5, 6, 7)
    assert line.heard[START_SLOTS:] == [0, 1, 2, None, 4, 5]


def test_duplicates_are_heard_once_early_and_late_ones() -> None:
    line = Line()
    line.push(0, 0)
    line.pop()
    line.push(1, 1, 0)
    line.pop(2)
    line.push(0, 2)
    line.pop(2)
    assert line.heard[START_SLOTS:] == [0, 1, 2]
    assert (line.buffer.duplicates, line.buffer.late) == (4, 0)


def test_a_late_packet_is_dropped_and_the_delay_grows_so_that_the_next_like_it_is_in_time() -> None:
    line = Line()
    line.run(*range(10))
    # From now on every second packet comes three slots late, the others in time.
    for n in range(10, 60, 2):
        line.push(n)
        line.pop()
        if n >= 14:
            line.push(n - 3)
        line.pop()
    heard = [n for n in line.heard if n is not None]
    assert heard == sorted(heard)
    assert 0 < line.buffer.late <= 3
    assert [n for n in line.heard[-20:] if n is None] == []


def test_packets_that_were_only_delayed_are_all_heard() -> None:
    line = Line()
    line.run(*range(10))
    line.pop(5)
    line.push(*range(10, 16))
    line.pop(1)
    line.run(*range(16, 40))
    heard = [n for n in line.heard if n is not None]
    assert heard == list(range(len(heard)))
    assert len(heard) > 30
    assert line.buffer.late == line.buffer.discarded == 0


def test_after_a_long_network_stall_old_audio_is_not_played_and_the_delay_is_bounded() -> None:
    line = Line()
    line.run(*range(10))
    line.pop(50)
    line.push(*range(10, 60))
    before = len(line.heard)
    line.run(*range(60, 100))
    heard = line.heard[before:]
    assert heard[0] == 60 - LIMIT_SLOTS + 1
    assert heard == list(range(51, 91)), "in order, without a gap, never more than the limit behind"


def test_silence_suppression_keeps_the_delay() -> None:
    line = Line()
    line.run(*range(20))
    line.pop(300)
    before = len(line.heard)
    line.run(*range(320, 340))
    heard = line.heard[before:]
    assert heard[START_SLOTS:] == list(range(320, 340 - START_SLOTS))


def test_timestamps_that_leap_ahead_do_not_mean_silence_for_as_long() -> None:
    line = Line()
    line.run(*range(10))
    line.timestamp_offset += 3600 * 8000
    line.run(*range(10, 30))
    assert [n for n in line.heard[-15:] if n is None] == []


def test_timestamps_that_leap_back_do_not_silence_the_call() -> None:
    line = Line()
    line.run(*range(10))
    line.timestamp_offset -= 50_000
    line.run(*range(10, 30))
    assert line.heard[-10:] == list(range(18, 28))


def test_a_delay_that_is_no_longer_needed_is_spared_at_once_but_for_a_slot() -> None:
    line = Line()
    line.run(*range(10))
    line.pop(6)  # nothing comes for 120 ms, and then everything
    line.push(*range(10, 16))
    line.run(*range(16, 16 + 2 * WINDOW_PACKETS))
    needless = line.buffer.delay - SLOT
    while line.buffer.excessive:
        line.pop()
        line.buffer.shorten()
    assert line.buffer.discarded == needless // SLOT > 1
    line.run(*range(16 + 2 * WINDOW_PACKETS, 16 + 4 * WINDOW_PACKETS))
    assert line.buffer.delay == SLOT
    assert not line.buffer.excessive


def test_no_delay_is_spared_that_a_packet_has_needed_since() -> None:
    line = Line()
    line.run(*range(10))
    line.pop(6)
    line.push(*range(10, 16))
    line.run(*range(16, 16 + 2 * WINDOW_PACKETS))
    assert line.buffer.excessive
    number = 16 + 2 * WINDOW_PACKETS
    line.pop(6)
    line.push(*range(number, number + 6))
    assert not line.buffer.excessive


def test_an_even_stream_settles_at_one_slot_to_spare() -> None:
    line = Line()
    number = 0
    for _ in range(10 * WINDOW_PACKETS):
        line.push(number)
        number += 1
        line.pop()
        if line.buffer.excessive:
            line.buffer.shorten()
            line.pop()
    assert line.buffer.delay == SLOT
    assert line.heard[-50:] == list(range(number - 51, number - 1))


@pytest.mark.parametrize("duration", [80, 240, 480])
def test_packets_of_10_30_and_60_milliseconds_are_played_in_their_own_time(duration: int) -> None:
    buffer = JitterBuffer(8000)
    played: list[int] = []
    index = elapsed = made_up = 0
    while len(played) < 50:
        while index * duration <= elapsed:
            buffer.push(Buffered(index, index * duration, duration, b"", 0.0))
            index += 1
        while made_up + len(played) * duration <= elapsed:
            item = buffer.pop()
            if isinstance(item, int):
                made_up += item
            else:
                played.append(item.timestamp)
        elapsed += SLOT
    assert made_up == START_SLOTS * SLOT
    assert played[:50] == [duration * n for n in range(50)]


def test_a_lost_packet_of_10_milliseconds_leaves_a_gap_of_10_milliseconds() -> None:
    buffer = JitterBuffer(8000)
    for index in (0, 2, 3):
        buffer.push(Buffered(index, index * 80, 80, b"", 0.0))
    items = [buffer.pop() for _ in range(START_SLOTS + 4)]
    assert [item if isinstance(item, int) else item.timestamp for item in items] == [160, 160, 0, 80, 160, 240]


def test_packets_without_audio_or_longer_than_the_buffer_are_discarded() -> None:
    buffer = JitterBuffer(8000)
    buffer.push(Buffered(1, 0, 0, b"", 0.0))
    buffer.push(Buffered(2, 0, LIMIT_SLOTS * SLOT + 1, b"", 0.0))
    assert buffer.discarded == 2
    assert buffer.pop() == SLOT
