"""Sequences, SSRCs and payload types of a session (RFC 3550 appendix A.1, section 8; A.3 and A.8)."""

from __future__ import annotations

import pytest

from connector.rtp.packet import RtpPacket
from connector.rtp.sequence import MAX_DROPOUT, SequenceTracker, extend
from connector.rtp.session import PayloadKind, RtpSession


def packet(sequence: int, timestamp: int = 0, ssrc: int = 1, payload_type: int = 0) -> RtpPacket:
    return RtpPacket(payload_type, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc, b"\xff" * 160)


def session() -> RtpSession:
    return RtpSession(8000, {0: PayloadKind.AUDIO, 101: PayloadKind.EVENT, 13: PayloadKind.COMFORT_NOISE})


@pytest.mark.parametrize(
    ("value", "near", "bits", "extended"),
    [
        (0, 0xFFFF, 16, 0x10000),
        (0xFFFF, 0x10000, 16, 0xFFFF),
        (5, 3, 16, 5),
        (100, 0xFFFFFFF0, 32, 0x100000064),
        (0xFFFFFFF0, 0x100000064, 32, 0xFFFFFFF0),
    ],
)
def test_a_wrapped_number_is_the_nearest_one(value: int, near: int, bits: int, extended: int) -> None:
    assert extend(value, near, bits) == extended


def test_the_sequence_goes_on_through_two_wraps() -> None:
    tracker = SequenceTracker()
    numbers = [tracker.update((65_000 + index) & 0xFFFF) for index in range(140_000)]
    assert [number.sequence for number in numbers if number] == list(range(65_000, 205_000))


def test_reordering_across_the_wrap_stays_in_the_former_cycle() -> None:
    tracker = SequenceTracker()
    numbers = [tracker.update(sequence) for sequence in (65_534, 0, 65_535, 1)]
    assert [number.sequence for number in numbers if number] == [65_534, 65_536, 65_535, 65_537]


def test_a_jump_counts_once_a_second_packet_confirms_it() -> None:
    tracker = SequenceTracker()
    tracker.update(10)
    assert tracker.update(10 + MAX_DROPOUT) is None
    confirmed = tracker.update(11 + MAX_DROPOUT)
    assert confirmed is not None
    assert confirmed.restarted


def test_a_stray_packet_from_afar_changes_nothing() -> None:
    tracker = SequenceTracker()
    tracker.update(10)
    assert tracker.update(40_000) is None
    following = tracker.update(11)
    assert following == (11, False)


def test_a_new_ssrc_takes_over_with_its_second_packet_and_a_single_one_does_not() -> None:
    streams = session()
    assert streams.receive(packet(1, ssrc=1), 0.0) is not None
    assert streams.receive(packet(500, ssrc=2), 0.02) is None
    assert streams.receive(packet(2, ssrc=1), 0.02) is not None, "the old stream goes on after a stray packet"
    assert streams.receive(packet(700, ssrc=2), 0.04) is None
    taken = streams.receive(packet(701, ssrc=2), 0.06)
    assert taken is not None
    assert taken.restarted
    assert streams.remote == 2


def test_a_peer_with_our_ssrc_makes_us_take_another_but_a_reflector_does_not_chase_us() -> None:
    streams = session()
    ours = streams.ssrc
    streams.receive(packet(1, ssrc=ours), 0.0)
    changed = streams.ssrc
    assert changed != ours
    streams.receive(packet(2, ssrc=changed), 0.02)
    assert streams.receive(packet(3, ssrc=changed), 0.04) is not None, "an echo is heard"
    assert streams.ssrc == changed


def test_payload_types_tell_audio_events_and_noise_and_unknown_ones_are_counted() -> None:
    streams = session()
    kinds = [streams.receive(packet(index, payload_type=kind), 0.0) for index, kind in enumerate((0, 101, 13, 96))]
    assert [arrival.kind for arrival in kinds if arrival] == [
        PayloadKind.AUDIO,
        PayloadKind.EVENT,
        PayloadKind.COMFORT_NOISE,
    ]
    assert streams.unknown == 1


def test_loss_is_what_the_sequence_numbers_announce_minus_what_came() -> None:
    streams = session()
    for index in range(100):
        if index % 10 != 5:
            streams.receive(packet(65_500 + index, 160 * index), index * 0.02)
    assert (streams.received, streams.lost) == (90, 10)
    assert streams.statistics.fraction_lost() == 10 * 256 // 100
    assert streams.statistics.fraction_lost() == 0, "an interval without packets"


def test_jitter_is_zero_for_an_even_stream_and_follows_rfc_3550_for_an_uneven_one() -> None:
    even, uneven = session(), session()
    expected = 0.0
    for index in range(200):
        even.receive(packet(index, 160 * index), index * 0.02)
        uneven.receive(packet(index, 160 * index), index * 0.02 + (0.008 if index % 2 else 0.0))
        if index:
            expected += (64 - expected) / 16
    assert even.statistics.jitter_seconds == pytest.approx(0.0, abs=1e-9)
    assert uneven.statistics.jitter == int(expected)
    assert uneven.statistics.jitter_seconds == pytest.approx(0.008, rel=0.01)


def test_another_clock_in_mid_stream_is_no_jitter() -> None:
    streams = session()
    for index in range(100):
        streams.receive(packet(index, 160 * index), index * 0.02 + (0.004 if index % 2 else 0.0))
    before = streams.statistics.jitter_seconds
    streams.clock_rate = 48_000
    for index in range(100, 102):
        streams.receive(packet(index, 960 * index), index * 0.02 + (0.004 if index % 2 else 0.0))
    assert streams.statistics.jitter_seconds == pytest.approx(before, rel=0.1)


def test_counters_span_restarts_of_the_stream() -> None:
    streams = session()
    for index in (1, 2, 4):
        streams.receive(packet(index, ssrc=1), 0.0)
    for index in (9, 10, 11):
        streams.receive(packet(index, ssrc=2), 0.0)
    assert (streams.received, streams.lost) == (5, 1)
