"""RTCP (RFC 3550 section 6)."""

from __future__ import annotations

import pytest

from connector.errors import RtpError
from connector.rtp import rtcp

BLOCK = rtcp.ReportBlock(0xCAFE, 64, -3, 70_000, 120, 0x12345678, 65_536)
COMPOUND: list[rtcp.RtcpPacket] = [
    rtcp.SenderReport(1, 0xE0000000_80000000, 160, 50, 8000, (BLOCK,)),
    rtcp.SourceDescription(1, "voxtrunk@127.0.0.1"),
    rtcp.Goodbye((1,), "hung up"),
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


@pytest.mark.parametrize("length", range(9))
def test_reasons_of_every_length_are_padded_to_words(length: int) -> None:
    goodbye = rtcp.Goodbye((1, 2), "x" * length)
    data = rtcp.serialize([rtcp.ReceiverReport(1), goodbye])
    assert len(data) % 4 == 0
    assert rtcp.parse(data)[1] == goodbye


@pytest.mark.parametrize("length", [length for length in range(len(CAPTURED)) if length != 52])
def test_every_truncation_is_refused(length: int) -> None:
    with pytest.raises(RtpError):
        rtcp.parse(CAPTURED[:length])
