"""RTCP of RFC 3550 section 6 and appendix A, and of RFC 5761 on RTP's port."""

from __future__ import annotations

import statistics
from itertools import pairwise

import pytest

from connector.errors import RtpError
from connector.rtp import rtcp
from connector.rtp.packet import RtpPacket
from connector.rtp.reporter import COMPENSATION, MINIMUM_SECONDS, Reporter
from connector.rtp.session import PayloadKind, RtpSession
from connector.sender.packetizer import Packetizer

RR = rtcp.ReceiverReport(1).serialize()
SDES = rtcp.SourceDescription(1, "a").serialize()
BYE = rtcp.Goodbye((1,)).serialize()
WALL = 1_700_000_000.0
MULAW = b"\xff" * 160


class Member:
    """One end of a session: what it sends, hears and reports."""

    def __init__(self) -> None:
        self.session = RtpSession(8000, {0: PayloadKind.AUDIO})
        self.packetizer = Packetizer(self.session)
        self.reporter = Reporter(self.session, self.packetizer, "a@test", 8000)

    def send(self, count: int) -> list[RtpPacket]:
        return [RtpPacket.parse(self.packetizer.audio(0, MULAW, 160)) for _ in range(count)]

    def hear(self, packets: list[RtpPacket], at: float = 0.0, lateness: float = 0.0) -> None:
        for n, packet in enumerate(packets):
            self.session.receive(packet, at + n * 0.02 + lateness * (n % 2))

    def says(self, now: float = 0.0) -> list[rtcp.RtcpPacket]:
        return rtcp.parse(self.reporter.report(now, WALL + now))


@pytest.fixture
def near() -> Member:
    return Member()


@pytest.fixture
def far() -> Member:
    return Member()


# --------------------------------------------------------------------------------------- section 6.1, appendix A.2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        SDES + RR,
        BYE,
        RR + b"\x41" + SDES[1:],  # version 1 in its second part
        RR + SDES[:-4],
        RR + SDES + b"\x80",
        b"\xa0" + RR[1:3] + b"\x02" + RR[4:] + b"\0\0\0\4" + SDES,  # padded before the last
        RR + b"\xa1" + SDES[1:3] + b"\x03" + SDES[4:] + b"\0\0\0\3",  # padding of three octets
        b"\x82" + RR[1:],  # two blocks announced, none there
        RR + rtcp.Goodbye((1,), "gone").serialize()[:-8] + b"\xff\0\0\0" * 2,
    ],
    ids=[
        "empty", "no report first", "lone BYE", "version", "length", "rest", "padding first", "padding of 3", "blocks",
        "reason",
    ],
)  # fmt: skip
def test_a_malformed_compound_is_refused_whole(data: bytes) -> None:
    with pytest.raises(RtpError):
        rtcp.parse(data)


def test_nothing_of_a_malformed_compound_counts(near: Member) -> None:
    block = rtcp.ReportBlock(near.session.ssrc, 128, 5, 10, 0)
    with pytest.raises(RtpError):
        near.reporter.receive(rtcp.ReceiverReport(2, (block,)).serialize() + b"\x80\xca", 0.0)
    assert near.reporter.remote is None


def test_the_last_packet_may_be_padded() -> None:
    padded = b"\xa1" + SDES[1:3] + bytes((SDES[3] + 1,)) + SDES[4:] + b"\0\0\0\4"
    assert rtcp.parse(RR + padded) == [rtcp.ReceiverReport(1), rtcp.SourceDescription(1, "a")]


def test_every_compound_begins_with_a_report_and_names_us(near: Member, far: Member) -> None:
    far.hear(near.send(3))
    for says in (near.says(), far.says()):
        assert isinstance(says[0], rtcp.SenderReport | rtcp.ReceiverReport)
        assert says[1] == rtcp.SourceDescription(says[0].ssrc, "a@test")


# --------------------------------------------------------------------------------------- sections 6.2 and 6.3


def times(reporter: Reporter, until: float) -> list[float]:
    """When reports leave, asked each 20 ms tick."""
    reporter.start(0.0)
    ticks = (tick * 0.02 for tick in range(int(until / 0.02)))
    return [now for now in ticks if now >= reporter.due and reporter.expire(now, WALL + now) is not None]


def test_reports_leave_each_five_seconds_in_the_mean_and_never_in_step(near: Member) -> None:
    left = times(near.reporter, 10_000)
    intervals = [after - before for before, after in pairwise(left)]
    assert statistics.fmean(intervals) == pytest.approx(MINIMUM_SECONDS, rel=0.05)
    assert min(intervals) >= 0.5 * MINIMUM_SECONDS / COMPENSATION - 0.02
    assert max(intervals) <= 2 * 1.5 * MINIMUM_SECONDS / COMPENSATION
    assert statistics.stdev(intervals) > 0.5


def test_the_first_report_comes_after_half_the_time() -> None:
    firsts = [times(Member().reporter, 10)[0] for _ in range(200)]
    assert statistics.fmean(firsts) == pytest.approx(MINIMUM_SECONDS / 2, rel=0.15)
    assert min(firsts) >= 0.25 * MINIMUM_SECONDS / COMPENSATION - 0.02


def test_who_has_sent_nothing_says_no_goodbye(near: Member, far: Member) -> None:
    assert near.reporter.goodbye(0.0, WALL) is None
    near.send(1)
    goodbye = near.reporter.goodbye(0.0, WALL)
    assert goodbye is not None
    assert [type(part) for part in rtcp.parse(goodbye)] == [rtcp.SenderReport, rtcp.SourceDescription, rtcp.Goodbye]
    assert rtcp.parse(goodbye)[-1] == rtcp.Goodbye((near.session.ssrc,))
    far.says()
    assert far.reporter.goodbye(0.0, WALL) is not None


# --------------------------------------------------------------------------------------- section 6.4


def test_an_sr_tells_what_was_sent(near: Member) -> None:
    near.send(50)
    report = near.says()[0]
    assert isinstance(report, rtcp.SenderReport)
    assert (report.packets, report.octets, report.timestamp) == (50, 8000, near.packetizer.timestamp)
    assert report.ntp == rtcp.ntp_time(WALL)


def test_who_did_not_send_since_the_report_before_the_last_sends_an_rr(near: Member) -> None:
    near.send(1)
    kinds = [type(near.says(now)[0]) for now in (5.0, 10.0, 15.0)]
    assert kinds == [rtcp.SenderReport, rtcp.SenderReport, rtcp.ReceiverReport]
    near.send(1)
    assert isinstance(near.says(20.0)[0], rtcp.SenderReport)


def block_of(member: Member, now: float = 0.0) -> rtcp.ReportBlock:
    report = member.says(now)[0]
    assert isinstance(report, rtcp.SenderReport | rtcp.ReceiverReport)
    (block,) = report.blocks
    return block


def test_a_block_tells_what_was_lost_since_the_last_and_altogether(near: Member, far: Member) -> None:
    packets = near.send(40)
    far.hear(packets[:10] + packets[15:20])
    block = block_of(far)
    assert (block.ssrc, block.fraction_lost, block.lost) == (near.session.ssrc, 5 * 256 // 20, 5)
    far.hear(packets[20:])
    block = block_of(far, 5.0)
    assert (block.fraction_lost, block.lost) == (0, 5)
    assert block.highest & 0xFFFF == packets[-1].sequence


def test_no_block_tells_of_a_source_that_is_silent(near: Member, far: Member) -> None:
    far.hear(near.send(10))
    block_of(far)
    assert far.says(5.0)[0] == rtcp.ReceiverReport(far.session.ssrc)


def test_the_far_end_tells_of_our_stream(near: Member, far: Member) -> None:
    packets = near.send(400)
    far.hear([packet for n, packet in enumerate(packets) if n % 4 != 1], lateness=0.008)
    near.reporter.receive(far.reporter.report(8.0, WALL), 8.0)
    assert near.reporter.remote_loss == pytest.approx(0.25, abs=0.01)
    assert near.reporter.remote_jitter == pytest.approx(far.session.statistics.jitter_seconds, abs=0.001)
    assert near.reporter.remote_jitter


def test_the_round_trip_is_what_the_echoed_report_took(near: Member, far: Member) -> None:
    """Section 6.4.1, figure 2: A - LSR - DLSR; both ends have clocks of their own."""
    near.hear(far.send(2))
    far.hear(near.send(2))
    report = near.reporter.report(10.0, WALL)
    far.reporter.receive(report, 500.03)  # 30 ms on the way
    answer = far.reporter.report(501.03, 1.0)  # answered after one second
    near.reporter.receive(answer, 11.08)  # 50 ms on the way back
    assert near.reporter.round_trip == pytest.approx(0.08, abs=0.001)


def test_a_report_that_refers_to_none_of_ours_tells_no_round_trip(near: Member) -> None:
    near.says(10.0)
    for reference in (0, 1, 0xFFFFFFFF):
        block = rtcp.ReportBlock(near.session.ssrc, 0, 0, 1, 0, reference, 0)
        near.reporter.receive(rtcp.ReceiverReport(2, (block,)).serialize(), 11.0)
    assert near.reporter.round_trip is None


def test_reports_of_other_streams_say_nothing_of_ours(near: Member) -> None:
    other = rtcp.ReportBlock(near.session.ssrc ^ 1, 255, 500, 1, 0)
    near.reporter.receive(rtcp.ReceiverReport(2, (other,)).serialize(), 0.0)
    assert near.reporter.remote is None


# --------------------------------------------------------------------------------------- section 6.6, 8.2


def test_a_source_that_left_is_not_referred_to_any_more(near: Member, far: Member) -> None:
    far.hear(near.send(2))
    far.reporter.receive(near.reporter.report(1.0, WALL), 1.0)
    assert block_of(far, 2.0).last_report
    goodbye = near.reporter.goodbye(3.0, WALL)
    assert goodbye is not None
    far.reporter.receive(goodbye, 3.0)
    assert far.says(4.0)[0] == rtcp.ReceiverReport(far.session.ssrc)
    far.hear(near.send(2))
    assert block_of(far, 5.0)[-2:] == (0, 0)


@pytest.mark.parametrize("by_rtp", [True, False], ids=["RTP", "RTCP"])
def test_a_collision_makes_us_leave_and_come_back_with_another_number(near: Member, by_rtp: bool) -> None:
    old = near.session.ssrc
    near.send(10)
    near.says(5.0)
    if by_rtp:
        near.hear([RtpPacket(0, n, n * 160, old, MULAW) for n in range(3)])
    else:
        near.reporter.receive(rtcp.ReceiverReport(old).serialize(), 6.0)
    new = near.session.ssrc
    assert new != old
    near.send(3)
    report, description, goodbye = near.says(10.0)
    assert isinstance(report, rtcp.SenderReport)
    assert (report.ssrc, report.packets, report.octets) == (new, 3, 480)
    assert description == rtcp.SourceDescription(new, "a@test")
    assert goodbye == rtcp.Goodbye((old,))
    assert len(near.says(15.0)) == 2


def test_a_far_end_that_reflects_our_reports_is_fled_once(near: Member) -> None:
    """Section 8.2: a loop is no collision."""
    old = near.session.ssrc
    near.reporter.receive(near.reporter.report(0.0, WALL), 0.1)
    new = near.session.ssrc
    near.reporter.receive(near.reporter.report(5.0, WALL), 5.1)
    assert old != new == near.session.ssrc


# --------------------------------------------------------------------------------------- RFC 5761


def test_rtcp_is_told_from_rtp_on_one_port() -> None:
    for kind in (rtcp.SENDER_REPORT, rtcp.RECEIVER_REPORT, rtcp.SOURCE_DESCRIPTION, rtcp.GOODBYE, 192, 207, 223):
        assert rtcp.is_rtcp(bytes((0x80, kind, 0, 0)))
    for payload_type in (*range(64), *range(96, 128)):
        for marker in (False, True):
            packet = RtpPacket(payload_type, 1, 160, 7, MULAW, marker)
            assert not rtcp.is_rtcp(packet.serialize())
    assert not rtcp.is_rtcp(b"")
    assert not rtcp.is_rtcp(b"\x80")
