"""The jitter buffer, pull by pull."""

from __future__ import annotations

import pytest

from connector.receiver.jitter_buffer import LIMIT_SECONDS, Buffered, JitterBuffer

SLOT = 160
LIMIT = round(LIMIT_SECONDS * 8000)


class Line:
    """A buffer, and a far end whose packet n carries slot n and leaves at n * 20 ms; each is pulled `phase` later.

    What is heard is noted by number, what is made up as None.
    """

    def __init__(self, phase: float = 0.008) -> None:
        self.buffer = JitterBuffer(8000)
        self.heard: list[int | None] = []
        self.phase = phase
        self.pulls = 0
        self.timestamp_offset = 100_000

    def push(self, *numbers: int) -> None:
        """They arrive just before the next pull, or in time where that is earlier."""
        for n in numbers:
            arrival = max(0.02 * n, 0.02 * self.pulls)
            self.buffer.push(Buffered(n, self.timestamp_offset + n * SLOT, SLOT, b"%d" % n, arrival))

    def pull(self, count: int = 1) -> None:
        for _ in range(count):
            now = 0.02 * self.pulls + self.phase
            self.pulls += 1
            self.buffer.judge(now)
            missing = SLOT
            while missing > 0:
                item = self.buffer.pop(now, missing)
                if isinstance(item, int):
                    self.heard += [None] * (item // SLOT)
                    missing -= item
                else:
                    self.heard.append(int(item.payload))
                    missing -= item.duration

    def run(self, *numbers: int) -> None:
        """One packet, one pull, and so on."""
        for n in numbers:
            self.push(n)
            self.pull()


def test_an_even_stream_is_heard_at_once_and_whole() -> None:
    line = Line()
    line.run(*range(200))
    assert line.heard == list(range(200))
    assert line.buffer.wish == 0


def test_a_stream_whose_packets_come_just_before_the_pull_waits_for_one_more() -> None:
    line = Line(phase=0.001)
    line.run(*range(200))
    assert line.heard == [None, *range(199)]


def test_reordered_packets_are_put_in_order() -> None:
    line = Line(phase=0.001)
    line.run(0, 2, 1, 3, 5, 4, 6, 7, 8)
    assert line.heard == [None, 0, 1, 2, 3, 4, 5, 6, 7]
    assert (line.buffer.late, line.buffer.missed) == (0, 0)


def test_a_lost_packet_leaves_one_gap_and_no_delay() -> None:
    line = Line()
    line.run(0, 1, 2)
    line.pull()
    line.run(4, 5, 6, 7)
    assert line.heard == [0, 1, 2, None, 4, 5, 6, 7]
    assert (line.buffer.missed, line.buffer.bursts) == (1, 1)


def test_losses_are_counted_in_packets_and_in_bursts() -> None:
    line = Line()
    for n in range(60):
        if n not in {5, 20, 21, 22, 40}:
            line.push(n)
        line.pull()
    assert (line.buffer.missed, line.buffer.bursts) == (5, 3)


def test_packets_that_carry_no_audio_are_not_missed() -> None:
    line = Line()
    line.run(*range(10))
    for number in range(10, 17):
        line.buffer.other(number)
        line.pull()
    line.run(*range(17, 30))
    assert line.heard[-13:] == list(range(17, 30))
    assert (line.buffer.missed, line.buffer.silent) == (0, True)


def test_duplicates_are_heard_once_early_and_late_ones() -> None:
    line = Line(phase=0.001)
    line.push(0, 0)
    line.pull()
    line.push(1, 1, 0)
    line.pull(2)
    line.push(0, 2)
    line.pull()
    assert [n for n in line.heard if n is not None] == [0, 1, 2]
    assert (line.buffer.duplicates, line.buffer.late) == (4, 0)


def test_packets_that_were_only_delayed_are_all_heard() -> None:
    line = Line()
    line.run(*range(10))
    line.pull(5)
    line.push(*range(10, 16))
    line.pull()
    line.run(*range(16, 40))
    heard = [n for n in line.heard if n is not None]
    assert heard == list(range(len(heard)))
    assert len(heard) == 35
    assert line.buffer.late == line.buffer.discarded == 0


def test_a_packet_later_than_nearly_all_are_does_not_delay_the_others() -> None:
    line = Line()
    line.run(*range(600))
    line.pull()
    line.push(600, 601)
    line.pull()
    line.run(*range(602, 620))
    assert line.heard == [*range(600), None, *range(601, 620)]
    assert (line.buffer.late, line.buffer.missed) == (1, 1)


def test_delays_that_come_often_make_the_buffer_wish_for_more_of_it() -> None:
    line = Line()
    for n in range(0, 100, 4):
        line.pull()
        line.push(n, n + 1)
        line.pull()
        line.run(n + 2, n + 3)
    assert line.buffer.target == pytest.approx(0.02, abs=0.005)
    assert line.heard.count(None) == 1, "the first delay was long enough for all"


def test_after_a_long_network_stall_old_audio_is_not_played_and_the_delay_is_bounded() -> None:
    line = Line()
    line.run(*range(10))
    line.pull(50)
    line.push(*range(10, 60))
    before = len(line.heard)
    line.run(*range(60, 100))
    heard = line.heard[before:]
    assert heard[0] == 60 - LIMIT // SLOT + 1
    assert heard == list(range(51, 91)), "in order, without a gap, never more than the limit behind"


@pytest.mark.parametrize("phase", [0.001, 0.008, 0.019])
def test_silence_suppression_is_no_loss_and_adds_no_delay(phase: float) -> None:
    line = Line(phase)
    line.run(*range(20))
    line.pull(300)
    before = len(line.heard)
    for n in range(320, 340):
        line.buffer.push(Buffered(n - 300, line.timestamp_offset + n * SLOT, SLOT, b"%d" % n, 0.02 * n))
        line.pull()
    waits = 1 if phase < 0.002 else 0
    assert line.heard[before:] == [None] * waits + list(range(320, 340 - waits))
    assert line.buffer.missed == 0


def test_after_a_pause_of_speech_the_delay_is_what_the_line_needs_now() -> None:
    line = Line()
    line.run(*range(10))
    line.pull(6)
    line.push(*range(10, 16))
    line.run(*range(16, 1000))
    assert line.buffer.delay == 6 * SLOT, "nobody has used the wish for less"
    assert line.buffer.wish < 0
    line.pull(100)
    before = len(line.heard)
    line.run(*range(1100, 1120))
    assert line.heard[before:] == list(range(1100, 1120))


def test_what_was_played_before_a_pause_is_not_played_again_after_it() -> None:
    line = Line(phase=0.001)
    line.run(*range(20))
    line.pull(8)
    line.buffer.push(Buffered(20, line.timestamp_offset + 27 * SLOT, SLOT, b"27", 0.56))
    line.buffer.push(Buffered(19, line.timestamp_offset + 19 * SLOT, SLOT, b"19", 0.56))
    line.pull(6)
    assert [n for n in line.heard if n is not None] == [*range(20), 27]
    assert line.buffer.duplicates == 1


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
    assert line.heard[-10:] == list(range(20, 30))


def test_spare_delay_is_wished_away_but_not_what_packets_have_needed() -> None:
    line = Line()
    line.run(*range(10))
    line.pull(4)
    line.push(*range(10, 14))
    line.run(*range(14, 200))
    assert line.buffer.wish == 0, "four packets of two hundred needed it"
    line.run(*range(200, 1000))
    assert line.buffer.wish == -4 * SLOT


def test_one_outage_costs_no_delay_after_it_and_the_next_one_does() -> None:
    line = Line()
    line.run(*range(10))
    line.pull(8)
    line.push(*range(10, 18))
    line.run(*range(18, 60))
    assert line.buffer.wish == -8 * SLOT
    line.buffer.adjusted()
    line.pull(8)
    line.push(*range(60, 68))
    line.run(*range(68, 110))
    assert line.buffer.wish == 0


def test_a_lossy_line_gets_a_packet_more_of_delay_so_that_gaps_are_known_before_they_are_due() -> None:
    line = Line()
    for n in range(400):
        if n % 20 or not n:
            line.push(n)
        line.pull()
    assert line.buffer.wish == SLOT
    assert not line.buffer.urgent
    line.run(*range(400, 2800))
    assert line.buffer.wish == 0


@pytest.mark.parametrize("duration", [80, 240, 320, 480])
def test_packets_of_10_30_40_and_60_milliseconds_are_played_in_their_own_time(duration: int) -> None:
    buffer = JitterBuffer(8000)
    played: list[int] = []
    index = made_up = 0
    for pull in range(200):
        now = 0.02 * pull + 0.01
        while index * duration / 8000 <= now:
            buffer.push(Buffered(index, index * duration, duration, b"", index * duration / 8000))
            index += 1
        while made_up + len(played) * duration < (pull + 1) * SLOT:
            item = buffer.pop(now, SLOT)
            if isinstance(item, int):
                made_up += item
            else:
                played.append(item.timestamp)
    assert played == [duration * n for n in range(len(played))]
    assert made_up <= 2 * max(duration, SLOT)


def test_a_lost_packet_of_10_milliseconds_leaves_a_gap_of_10_milliseconds() -> None:
    buffer = JitterBuffer(8000)
    for index in (0, 2, 3):
        buffer.push(Buffered(index, index * 80, 80, b"", index * 0.01))
    items = [buffer.pop(0.031, SLOT) for _ in range(4)]
    assert [item if isinstance(item, int) else item.timestamp for item in items] == [0, 80, 160, 240]


def test_packets_longer_than_the_buffer_or_of_no_sense_are_discarded() -> None:
    buffer = JitterBuffer(8000)
    buffer.push(Buffered(1, 0, -1, b"", 0.0))
    buffer.push(Buffered(2, 0, LIMIT + 1, b"", 0.0))
    assert buffer.discarded == 2
    assert buffer.pop(0.0, SLOT) == SLOT
