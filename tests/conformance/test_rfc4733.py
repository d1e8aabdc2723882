"""RFC 4733, DTMF as telephone-events: what a receiver must make of a sender's packets, section by section."""

from __future__ import annotations

import pytest

from connector.errors import RtpError
from connector.interfaces import Digit
from connector.rtp.telephone_event import DIGITS, LONGEST, EventReceiver, EventSender, TelephoneEvent

UPDATE = 400
"""Packets of an event are 50 ms apart here (section 2.5.1.2 leaves that to the sender)."""


def event(digit: str, duration: int, end: bool = False) -> TelephoneEvent:
    return TelephoneEvent(DIGITS.index(digit), end, 10, duration)


def press(digit: str, start: int, updates: int = 3, ends: int = 3) -> list[tuple[int, TelephoneEvent]]:
    """The packets of a press as section 2.5.1 has them sent: one timestamp, growing durations, the end repeated."""
    held = [(start, event(digit, UPDATE * n)) for n in range(1, updates)]
    return held + [(start, event(digit, UPDATE * updates, end=True))] * ends


def heard(packets: list[tuple[int, TelephoneEvent]], frames_after: int = 50) -> list[Digit]:
    """The digits that a receiver makes of `packets`, one a frame, and of the time after."""
    receiver = EventReceiver(8000)
    digits: list[Digit] = []
    for timestamp, told in packets:
        digits += receiver.receive(timestamp, told)
        digits += receiver.tick()
    for _ in range(frames_after):
        digits += receiver.tick()
    return digits


# ------------------------------------------------------------------------- 2.3: the payload


def test_2_3_event_end_volume_and_duration_have_their_places() -> None:
    assert TelephoneEvent.parse(bytes([5, 0x8A, 0x03, 0x20])) == TelephoneEvent(5, True, 10, 800)
    assert TelephoneEvent.parse(bytes([11, 0x3F, 0xFF, 0xFF])) == TelephoneEvent(11, False, 63, 0xFFFF)


def test_2_3_3_the_reserved_bit_is_ignored() -> None:
    assert TelephoneEvent.parse(bytes([5, 0x4A, 0x03, 0x20])) == TelephoneEvent(5, False, 10, 800)


def test_2_3_5_an_event_that_lasts_for_no_time_is_no_press() -> None:
    assert heard([(8000, event("5", 0))]) == []


def test_2_3_5_a_sender_that_begins_with_no_duration_is_understood() -> None:
    assert heard([(8000, event("5", 0)), *press("5", 8000)]) == [Digit("5", 0.15)]


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_2_3_a_truncated_payload_is_refused(length: int) -> None:
    with pytest.raises(RtpError):
        TelephoneEvent.parse_all(bytes(length))


@pytest.mark.parametrize("code", [16, 32, 36, 255])
def test_3_2_codes_that_are_no_keys_are_none(code: int) -> None:
    """Flash (16) and tones are events of their own."""
    assert heard([(8000, TelephoneEvent(code, False, 10, 400)), (8000, TelephoneEvent(code, True, 10, 800))]) == []


# ------------------------------------------------------------------------- 2.5.1.2 to 2.5.1.4: one press


@pytest.mark.parametrize("digit", DIGITS)
def test_2_5_1_4_an_end_sent_three_times_is_one_digit(digit: str) -> None:
    assert heard(press(digit, 8000)) == [Digit(digit, 0.15)]


@pytest.mark.parametrize("lost", [{4}, {3, 4}, {2, 4}, {2, 3}, {2}])
def test_2_5_1_4_one_end_of_three_is_enough(lost: set[int]) -> None:
    packets = [packet for place, packet in enumerate(press("7", 8000)) if place not in lost]
    assert heard(packets) == [Digit("7", 0.15)]


def test_2_5_1_4_where_every_end_is_lost_the_press_is_over_when_nothing_more_is_heard_of_it() -> None:
    assert heard(press("7", 8000, ends=0)) == [Digit("7", 0.1)]
    assert heard(press("7", 8000, ends=0), frames_after=5) == [], "it may still be held"


def test_2_5_1_4_an_end_that_comes_after_all_that_time_is_not_a_second_press() -> None:
    receiver = EventReceiver(8000)
    for timestamp, told in press("7", 8000, ends=0):
        receiver.receive(timestamp, told)
    assert [digit for _ in range(20) for digit in receiver.tick()] == [Digit("7", 0.1)]
    assert receiver.receive(8000, event("7", 1200, end=True)) == []


@pytest.mark.parametrize("first", [1, 2, 3, 4])
def test_2_5_1_2_a_lost_beginning_takes_nothing_away(first: int) -> None:
    """Each packet has the event's begin as its timestamp and its duration until now."""
    assert heard(press("9", 8000)[first:]) == [Digit("9", 0.15)]


@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4], [2, 1, 0, 3, 4], [4, 3, 2, 1, 0], [0, 2, 1, 4, 3]])
def test_2_6_reordered_packets_are_one_press(order: list[int]) -> None:
    packets = press("#", 8000)
    assert heard([packets[place] for place in order]) == [Digit("#", 0.15)]


def test_2_6_duplicated_packets_are_one_press() -> None:
    assert heard([packet for packet in press("*", 8000) for _ in range(3)]) == [Digit("*", 0.15)]


# ------------------------------------------------------------------------- 2.5.1.3: presses longer than a segment


def segments(digit: str, start: int, count: int) -> list[tuple[int, TelephoneEvent]]:
    """A key held for `count` segments of the greatest duration, and a little more."""
    packets = []
    for segment in range(count):
        begin = start + segment * LONGEST
        packets += [(begin, event(digit, 16_000 * n)) for n in range(1, 5)]
        packets += [(begin, event(digit, LONGEST))] * 3
    return [*packets, *press(digit, start + count * LONGEST)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_2_5_1_3_segments_of_a_long_press_are_one_digit(count: int) -> None:
    assert heard(segments("1", 8000, count)) == [Digit("1", (count * LONGEST + 1200) / 8000)]


def test_2_5_1_3_the_last_packets_of_a_segment_may_be_lost() -> None:
    packets = segments("1", 8000, 2)
    del packets[4:7]
    assert heard(packets) == [Digit("1", (2 * LONGEST + 1200) / 8000)]


def test_2_5_1_3_a_packet_of_the_former_segment_may_come_late() -> None:
    packets = segments("1", 8000, 2)
    packets[6], packets[7] = packets[7], packets[6]
    assert heard(packets) == [Digit("1", (2 * LONGEST + 1200) / 8000)]


# ------------------------------------------------------------------------- 2.5.1.5: several events


def test_2_5_1_5_several_events_in_a_packet_follow_each_other() -> None:
    payload = b"".join(event(digit, 640, end=True).serialize() for digit in "123")
    told = TelephoneEvent.parse_all(payload)
    assert [DIGITS[one.event] for one in told] == ["1", "2", "3"]
    assert heard([(8000 + 640 * place, one) for place, one in enumerate(told)]) == [
        Digit(digit, 0.08) for digit in "123"
    ]


def test_2_5_1_5_a_rest_that_is_no_whole_event_is_none() -> None:
    assert TelephoneEvent.parse_all(event("1", 640).serialize() + b"\x02\x80") == [event("1", 640)]


# ------------------------------------------------------------------------- 2.5.2: one press after the other


def test_2_5_2_the_next_press_ends_one_whose_end_was_lost() -> None:
    assert heard(press("1", 8000, ends=0) + press("2", 12_000)) == [Digit("1", 0.1), Digit("2", 0.15)]


def test_2_5_2_the_same_key_again_is_another_digit() -> None:
    assert heard(press("1", 8000, ends=0) + press("1", 12_000)) == [Digit("1", 0.1), Digit("1", 0.15)]
    assert heard(press("1", 8000) + press("1", 12_000)) == [Digit("1", 0.15)] * 2


def test_2_5_2_keys_that_follow_without_a_pause_are_two_digits() -> None:
    assert heard(press("1", 8000) + press("2", 9200)) == [Digit("1", 0.15), Digit("2", 0.15)]


@pytest.mark.parametrize("second", ["1", "2"])
def test_2_5_2_the_timestamp_alone_tells_presses_apart(second: str) -> None:
    """As baresip sends them with Opus: durations that grow six times as fast as the timestamps."""
    first = [(8000, event("1", 5760 * n, end=n > 9)) for n in range(1, 12)]
    again = [(20_000, event(second, 5760 * n, end=n > 9)) for n in range(1, 12)]
    assert [digit.digit for digit in heard(first + again)] == ["1", second]


def test_2_5_2_late_packets_of_a_former_press_change_nothing() -> None:
    first, second = press("1", 8000), press("2", 12_000)
    assert heard([*first[:3], *second[:2], *first[3:], *second[2:]]) == [Digit("1", 0.15), Digit("2", 0.15)]


def test_2_5_2_a_key_that_cannot_be_pressed_at_the_same_time_is_no_key() -> None:
    """A damaged packet must not make two digits of one."""
    packets = press("1", 8000)
    packets.insert(1, (8000, event("2", 500)))
    assert heard(packets) == [Digit("1", 0.15)]


def test_2_5_a_new_stream_ends_a_press_and_begins_its_timestamps_anew() -> None:
    receiver = EventReceiver(8000)
    receiver.receive(1_000_000, event("1", 400))
    assert receiver.restart() == [Digit("1", 0.05)]
    assert [digit for packet in press("2", 8000) for digit in receiver.receive(*packet)] == [Digit("2", 0.15)]


# ------------------------------------------------------------------------- what we send


def test_2_5_1_what_we_send_keeps_these_rules() -> None:
    sender = EventSender(8000)
    sender.queue("5")
    sent = [packet for _ in range(20) if (packet := sender.next()) is not None]
    told = [TelephoneEvent.parse(packet.payload) for packet in sent]
    assert [packet.marker for packet in sent] == [True] + [False] * (len(sent) - 1), "2.2.1: the first alone"
    assert [packet.offset for packet in sent] == [160 * place for place in range(len(sent))], "2.2.2: its begin"
    durations = [one.duration for one in told]
    assert durations == sorted(durations), "2.5.1.2: it grows"
    assert [one.end for one in told].count(True) == 3, "2.5.1.4"
    assert len({one.duration for one in told if one.end}) == 1, "2.5.1.4: the end is repeated as it was"
