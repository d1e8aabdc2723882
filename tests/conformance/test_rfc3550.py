"""RFC 3550 appendix A as a receiver of one stream has to keep it: validity (A.1), loss (A.3), jitter (A.8)."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from connector.errors import RtpError
from connector.rtp.packet import RtpPacket
from connector.rtp.sequence import MAX_DROPOUT, MAX_MISORDER, SequenceTracker
from connector.rtp.session import PayloadKind, RtpSession
from connector.rtp.statistics import ReceptionStatistics


def packet(sequence: int, timestamp: int | None = None, ssrc: int = 1, payload_type: int = 0) -> RtpPacket:
    timestamp = 160 * sequence if timestamp is None else timestamp
    return RtpPacket(payload_type, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc, b"\xff" * 160)


def session() -> RtpSession:
    return RtpSession(8000, {0: PayloadKind.AUDIO})


def received(tracker: SequenceTracker, *sequences: int) -> list[int | None]:
    """The extended numbers, None where a packet is not taken."""
    taken = [tracker.update(sequence) for sequence in sequences]
    return [None if one is None else one.sequence for one in taken]


# ------------------------------------------------------------------------- A.1: the header


@pytest.mark.parametrize("version", [0, 1, 3])
def test_a_1_another_version_is_refused(version: int) -> None:
    data = bytearray(packet(1).serialize())
    data[0] = version << 6
    with pytest.raises(RtpError, match="version"):
        RtpPacket.parse(bytes(data))


def test_a_1_an_unknown_payload_type_is_refused() -> None:
    heard = session()
    assert heard.receive(packet(1, payload_type=72), 0.0) is None, "RTCP that came to the wrong port"
    assert heard.remote is None


@pytest.mark.parametrize("count", [0, 161])
def test_a_1_padding_is_less_than_the_packet(count: int) -> None:
    data = bytearray(packet(1).serialize())
    data[0] |= 0x20
    data[-1] = count
    with pytest.raises(RtpError, match="padding"):
        RtpPacket.parse(bytes(data))


def test_a_1_an_extension_lies_within_the_packet() -> None:
    data = bytearray(packet(1).serialize())
    data[0] |= 0x10
    with pytest.raises(RtpError, match="extension"):
        RtpPacket.parse(bytes(data))


# ------------------------------------------------------------------------- A.1: update_seq


def test_a_1_numbers_are_extended_by_the_cycles() -> None:
    assert received(SequenceTracker(), 65_534, 65_535, 0, 1) == [65_534, 65_535, 65_536, 65_537]


def test_a_1_a_step_ahead_below_max_dropout_is_loss() -> None:
    assert received(SequenceTracker(), 0, MAX_DROPOUT - 1, MAX_DROPOUT) == [0, MAX_DROPOUT - 1, MAX_DROPOUT]


def test_a_1_a_step_back_below_max_misorder_is_reordering() -> None:
    assert received(SequenceTracker(), 1000, 1001 - MAX_MISORDER, 1001) == [1000, 1001 - MAX_MISORDER, 1001]


@pytest.mark.parametrize("jump", [MAX_DROPOUT, 20_000, 65_536 - 2 * MAX_MISORDER])
def test_a_1_a_jump_is_believed_when_a_second_packet_in_sequence_confirms_it(jump: int) -> None:
    tracker = SequenceTracker()
    new = (500 + jump) & 0xFFFF
    assert received(tracker, 500, new) == [500, None]
    confirmed = tracker.update(new + 1 & 0xFFFF)
    assert confirmed == (new + 1 & 0xFFFF, True)


def test_a_1_two_jumps_that_do_not_fit_are_not_believed() -> None:
    assert received(SequenceTracker(), 500, 20_000, 30_000, 20_001, 501) == [500, None, None, None, 501]


def test_a_1_a_packet_in_sequence_makes_a_jump_forgotten() -> None:
    assert received(SequenceTracker(), 500, 20_000, 501, 20_001, 502) == [500, None, 501, None, 502]


def test_a_1_duplicates_are_part_of_the_stream() -> None:
    assert received(SequenceTracker(), 7, 7, 7, 8) == [7, 7, 7, 8]


def test_a_1_a_second_source_must_prove_itself_by_packets_in_sequence() -> None:
    """MIN_SEQUENTIAL is 2; the first source is the negotiated peer's and needs no proof."""
    heard = session()
    assert heard.receive(packet(1), 0.0) is not None
    for stray in (packet(100, ssrc=2), packet(50, ssrc=3), packet(102, ssrc=2)):
        assert heard.receive(stray, 0.0) is None
    assert heard.receive(packet(103, ssrc=2), 0.0) is not None
    assert heard.remote == 2


# ------------------------------------------------------------------------- A.3: loss


def test_a_3_lost_is_expected_less_received() -> None:
    statistics = ReceptionStatistics(8000, 10)
    for sequence in (10, 11, 14, 13, 19):
        statistics.count(sequence)
    assert (statistics.expected, statistics.received, statistics.lost) == (10, 5, 5)


def test_a_3_duplicates_count_as_received_so_that_loss_may_be_negative() -> None:
    statistics = ReceptionStatistics(8000, 10)
    for sequence in (10, 10, 11):
        statistics.count(sequence)
    assert statistics.lost == -1
    assert statistics.fraction_lost() == 0


def test_a_3_the_fraction_is_of_the_interval() -> None:
    statistics = ReceptionStatistics(8000, 0)
    for sequence in range(100):
        statistics.count(sequence)
    assert statistics.fraction_lost() == 0
    for sequence in range(100, 200, 4):
        statistics.count(sequence)
    assert statistics.fraction_lost() == ((197 - 100) - 25) * 256 // (197 - 100)
    assert statistics.fraction_lost() == 0, "nothing was expected since"


# ------------------------------------------------------------------------- A.8: jitter


def appendix_a_8(transits: list[int]) -> float:
    """The RFC's estimator, in its own words: jitter += (1/16) (|D| - jitter)."""
    jitter = 0.0
    for before, transit in pairwise(transits):
        jitter += (1 / 16) * (abs(transit - before) - jitter)
    return jitter


@pytest.mark.parametrize("spread", [0, 8, 160, 800])
def test_a_8_jitter_is_the_rfcs_estimate(spread: int) -> None:
    draw = random.Random(spread)
    transits = [4000 + draw.randint(0, spread) for _ in range(500)]
    statistics = ReceptionStatistics(8000)
    for index, transit in enumerate(transits):
        statistics.take(index, 160 * index, (160 * index + transit) / 8000)
    assert statistics.jitter_seconds * 8000 == pytest.approx(appendix_a_8(transits), abs=1e-6)
    assert statistics.jitter == int(statistics.jitter_seconds * 8000 + 1e-9)


def test_a_8_a_wrapped_timestamp_is_no_jitter() -> None:
    heard = session()
    for index in range(100):
        heard.receive(packet(index, 0xFFFFFFFF - 50 * 160 + 160 * index), 0.02 * index)
    assert heard.statistics.jitter == 0


def test_8_2_our_own_number_in_another_source_is_given_up() -> None:
    heard = session()
    ours = heard.ssrc
    heard.receive(packet(1, ssrc=ours), 0.0)
    assert heard.ssrc != ours
