"""RTP on the wire (RFC 3550 section 5.1)."""

from __future__ import annotations

import pytest

from connector.errors import RtpError
from connector.rtp.packet import Extension, RtpPacket

PLAIN = bytes.fromhex("8080 04d2 000186a0 deadbeef") + b"\xff" * 160
"""PCMU with marker, as a telephone begins a call."""
WITH_CSRC = bytes.fromhex("8208 0001 000000a0 0000cafe 11111111 22222222") + b"\xd5" * 80
"""PCMA of a conference bridge that names two contributing sources."""
WITH_EXTENSION = bytes.fromhex("9000 0001 000000a0 0000cafe bede0001 10 aa 00 00") + b"\x7f" * 160
"""A one-byte-header extension (RFC 8285): client-to-mixer audio level, as browsers send it."""
WITH_PADDING = bytes.fromhex("a000 0001 000000a0 0000cafe 01020304 00000004")
WITH_ODD_PADDING = bytes.fromhex("a000 0001 000000a0 0000cafe 01 abcd03")
"""Padding octets that are not zero: RFC 3550 does not say that they are."""
WITH_ALL = bytes.fromhex("b1 e5 ffff ffffffff 00000001 00000007 0000 0002 0011223344556677 0506 0002")
EMPTY = bytes.fromhex("8000 0001 000000a0 0000cafe")


@pytest.mark.parametrize(
    ("data", "packet"),
    [
        (PLAIN, RtpPacket(0, 1234, 100_000, 0xDEADBEEF, b"\xff" * 160, marker=True)),
        (WITH_CSRC, RtpPacket(8, 1, 160, 0xCAFE, b"\xd5" * 80, csrc=(0x11111111, 0x22222222))),
        (
            WITH_EXTENSION,
            RtpPacket(0, 1, 160, 0xCAFE, b"\x7f" * 160, extension=Extension(0xBEDE, b"\x10\xaa\0\0")),
        ),
        (WITH_PADDING, RtpPacket(0, 1, 160, 0xCAFE, b"\1\2\3\4", padding=b"\0\0\0\4")),
        (WITH_ODD_PADDING, RtpPacket(0, 1, 160, 0xCAFE, b"\1", padding=b"\xab\xcd\3")),
        (
            WITH_ALL,
            RtpPacket(
                101,
                0xFFFF,
                0xFFFFFFFF,
                1,
                b"\5\6",
                marker=True,
                csrc=(7,),
                extension=Extension(0, bytes.fromhex("0011223344556677")),
                padding=b"\0\2",
            ),
        ),
        (EMPTY, RtpPacket(0, 1, 160, 0xCAFE, b"")),
    ],
    ids=["plain", "csrc", "extension", "padding", "odd padding", "all", "empty"],
)
def test_every_part_is_read_and_written_back_byte_for_byte(data: bytes, packet: RtpPacket) -> None:
    assert RtpPacket.parse(data) == packet
    assert packet.serialize() == data


@pytest.mark.parametrize("data", [PLAIN, WITH_CSRC, WITH_EXTENSION, WITH_ALL])
def test_every_truncation_within_the_header_is_refused(data: bytes) -> None:
    packet = RtpPacket.parse(data)
    header = len(data) - len(packet.payload) - len(packet.padding)
    for length in range(header):
        with pytest.raises(RtpError):
            RtpPacket.parse(data[:length])


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"\x40" + PLAIN[1:], "version is 1"),
        (WITH_PADDING[:-1] + b"\x00", "padding of 0"),
        (WITH_PADDING[:-1] + b"\x09", "padding of 9"),
        (bytes([EMPTY[0] | 0x20]) + EMPTY[1:], "padding"),
        (bytes.fromhex("9000 0001 000000a0 0000cafe bede00ff") + b"\0" * 160, "extension of 255 words"),
        (bytes.fromhex("8f00 0001 000000a0 0000cafe") + b"\0" * 20, "15 CSRCs"),
    ],
)
def test_what_is_not_rtp_is_refused_with_the_cause(data: bytes, cause: str) -> None:
    with pytest.raises(RtpError, match=cause):
        RtpPacket.parse(data)
