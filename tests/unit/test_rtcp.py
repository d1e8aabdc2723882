"""RTCP (RFC 3550 section 6)."""

from __future__ import annotations

import pytest

from connector.errors import RtpError
from connector.rtp import rtcp
from connector.rtp.packet import RtpPacket
from connector.rtp.reporter import Reporter
from connector.rtp.session import PayloadKind, RtpSession

BLOCK = rtcp.ReportBlock(0xCAFE, 64, -3, 70_000, 120, 0x12345678, 65_536)
COMPOUND: list[rtcp.RtcpPacket] = [
    rtcp.SenderReport(1, 0xE0000000_80000000, 160, 50, 8000, (BLOCK,)),
    rtcp.SourceDescription(1, "voxtrunk@127.0.0.1"),
    rtcp.Goodbye((1,)),
]

CAPTURED = bytes.fromhex(
    "81c8000c 00003039 e1c7f1f1 80000000 00027100 00000064 00003e80"
    "0000cafe 40fffffd 00011170 00000078 12345678 00010000"
    "81ca0004 00003039 01 08 61406578 2e6f7267 0000"
)
"""SR with one report block, and SDES with a CNAME."""


def test_a_captured_compound_is_read_part_by_part() -> None:
    report, description = rtcp.parse(CAPTURED)
    assert report == rtcp.SenderReport(12_345, 0xE1C7F1F1_80000000, 160_000, 100, 16_000, (BLOCK,))
    assert description == rtcp.SourceDescription(12_345, "a@ex.org")
    assert rtcp.serialize([report, description]) == CAPTURED


@pytest.mark.parametrize("length", range(1, 20))
def test_names_of_every_length_are_padded_to_words(length: int) -> None:
    description = rtcp.SourceDescription(1, "x" * length)
    data = rtcp.serialize([rtcp.ReceiverReport(1), description])
    assert len(data) % 4 == 0
    assert rtcp.parse(data)[1] == description


def test_what_we_send_is_read_back() -> None:
    assert rtcp.parse(rtcp.serialize(COMPOUND)) == COMPOUND


def test_types_that_we_do_not_know_are_left_out() -> None:
    extended_report = bytes.fromhex("80cf0001 00000001")
    assert rtcp.parse(CAPTURED + extended_report + CAPTURED) == rtcp.parse(CAPTURED) * 2


@pytest.mark.parametrize("length", [length for length in range(len(CAPTURED)) if length != 52])
def test_every_truncation_is_refused(length: int) -> None:
    with pytest.raises(RtpError):
        rtcp.parse(CAPTURED[:length])


def test_the_round_trip_is_what_the_echoed_report_took() -> None:
    here = RtpSession(8000, {0: PayloadKind.AUDIO})
    there = RtpSession(8000, {0: PayloadKind.AUDIO})
    ours, theirs = Reporter(here, "here"), Reporter(there, "there")
    here.receive(RtpPacket(0, 1, 0, there.ssrc, b"\xff"), 0.0)
    there.receive(RtpPacket(0, 1, 0, here.ssrc, b"\xff"), 0.0)
    there.receive(RtpPacket(0, 3, 320, here.ssrc, b"\xff"), 0.0)

    report = ours.report(10.0, 1_700_000_000.0, 160, 2, 320)
    theirs.receive(report, 500.03, 0.0)  # 30 ms on the way; their clocks are their own
    answer = theirs.report(501.03, 1.0, 160, 2, 320)  # answered after one second
    ours.receive(answer, 11.08, 1_700_000_001.08)  # 50 ms on the way back

    assert ours.round_trip == pytest.approx(0.08, abs=0.001)
    assert ours.remote_loss == pytest.approx(1 / 3, abs=0.01)


def test_reports_of_calls_do_not_coincide() -> None:
    intervals = {Reporter.interval() for _ in range(20)}
    assert len(intervals) == 20
    assert all(2.5 <= interval <= 7.5 for interval in intervals)
