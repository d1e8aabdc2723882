"""DTMF as telephone-events, both ways (RFC 4733)."""

from __future__ import annotations

import pytest

from connector.errors import MediaError, RtpError
from connector.interfaces import Digit
from connector.rtp.telephone_event import DIGITS, EventPacket, EventReceiver, EventSender, TelephoneEvent


def event(digit: str, duration: int, end: bool = False) -> TelephoneEvent:
    return TelephoneEvent(DIGITS.index(digit), end, 10, duration)


def press(receiver: EventReceiver, digit: str, start: int, frames: int = 5, ends: int = 3) -> list[Digit]:
    """A press as telephones send it; `ends` of its three final packets arrive."""
    digits: list[Digit] = []
    for frame in range(1, frames):
        digits += receiver.receive(start, event(digit, 160 * frame))
    for _ in range(ends):
        digits += receiver.receive(start, event(digit, 160 * frames, end=True))
    return digits


@pytest.mark.parametrize("digit", DIGITS)
def test_a_press_with_its_end_sent_three_times_is_one_digit(digit: str) -> None:
    assert press(EventReceiver(8000), digit, 8000) == [Digit(digit, 0.1)]


def test_payloads_are_read_and_written_back_as_captured() -> None:
    captured = bytes.fromhex("0b8a0320")
    assert TelephoneEvent.parse(captured) == TelephoneEvent(11, True, 10, 800)
    assert TelephoneEvent.parse(captured).serialize() == captured
    with pytest.raises(RtpError, match="truncated"):
        TelephoneEvent.parse(captured[:3])


def test_a_press_whose_ends_are_all_lost_is_reported_after_a_while_once() -> None:
    receiver = EventReceiver(8000)
    assert press(receiver, "5", 8000, ends=0) == []
    digits = [digit for _ in range(50) for digit in receiver.tick()]
    assert digits == [Digit("5", 0.08)]
    assert receiver.receive(8000, event("5", 800, end=True)) == [], "the end came after all"


def test_the_next_press_ends_one_whose_end_was_lost() -> None:
    receiver = EventReceiver(8000)
    assert press(receiver, "1", 8000, ends=0) == []
    assert receiver.receive(16_000, event("1", 160)) == [Digit("1", 0.08)]
    assert press(receiver, "1", 16_000) == [Digit("1", 0.1)]


def test_only_the_last_of_its_packets_arrives() -> None:
    assert EventReceiver(8000).receive(8000, event("9", 800, end=True)) == [Digit("9", 0.1)]


def test_the_same_key_twice_is_two_digits_and_late_packets_of_the_first_add_none() -> None:
    receiver = EventReceiver(8000)
    first = press(receiver, "7", 8000)
    second = receiver.receive(16_000, event("7", 160))
    late = receiver.receive(8000, event("7", 800, end=True)) + receiver.receive(8000, event("7", 480))
    second += press(receiver, "7", 16_000)
    assert (first, second, late) == ([Digit("7", 0.1)], [Digit("7", 0.1)], [])


def test_a_press_longer_than_a_segment_is_one_digit() -> None:
    receiver = EventReceiver(8000)
    digits: list[Digit] = []
    for start in (1000, 1000 + 0xFFFF, 1000 + 2 * 0xFFFF):
        digits += receiver.receive(start, event("#", 0xFFFF))
    digits += receiver.receive(1000 + 3 * 0xFFFF, event("#", 800, end=True))
    assert digits == [Digit("#", (3 * 0xFFFF + 800) / 8000)]


def test_events_that_are_no_keys_are_ignored() -> None:
    assert EventReceiver(8000).receive(0, TelephoneEvent(16, True, 0, 800)) == []


def test_sent_keys_are_understood_by_a_receiver() -> None:
    sender, receiver = EventSender(8000), EventReceiver(8000)
    sender.queue("12#d2")
    digits: list[Digit] = []
    silent_frames = 0
    for frame in range(100):
        sent = sender.next()
        if sent is None:
            silent_frames += 1
        else:
            digits += receiver.receive(160 * frame - sent.offset, TelephoneEvent.parse(sent.payload))
        digits += receiver.tick()
    assert [digit.digit for digit in digits] == list("12#D2")
    assert {digit.seconds for digit in digits} == {0.1}
    assert silent_frames > 50, "audio goes on after the last key"


def test_a_sent_key_is_marked_once_and_ends_three_times() -> None:
    sender = EventSender(8000)
    sender.queue("3")
    packets: list[EventPacket] = [sent for _ in range(10) if (sent := sender.next())]
    events = [TelephoneEvent.parse(sent.payload) for sent in packets]
    assert [sent.marker for sent in packets] == [True] + [False] * 6
    assert [sent.offset for sent in packets] == [160 * frame for frame in range(7)]
    assert [event.duration for event in events] == [160, 320, 480, 640, 800, 800, 800]
    assert [event.end for event in events] == [False] * 4 + [True] * 3


def test_what_is_no_key_is_refused_and_nothing_is_sent() -> None:
    sender = EventSender(8000)
    with pytest.raises(MediaError, match="x"):
        sender.queue("12x")
    assert sender.next() is None
