"""RTCP compound packets (RFC 3550 section 6)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from connector.errors import RtpError

SENDER_REPORT, RECEIVER_REPORT, SOURCE_DESCRIPTION, GOODBYE = 200, 201, 202, 203
"""Packet types (RFC 3550 section 12.1)."""

CNAME = 1
"""SDES item: canonical name (section 6.5.1)."""

NTP_EPOCH = 2_208_988_800
"""Seconds from 1900, where NTP time begins, to the epoch of `Clock.wall`."""

_FIRST_MULTIPLEXED, _LAST_MULTIPLEXED = 192, 223
"""Packet types that no RTP packet has in that place: payload types 64 to 95 with a marker (RFC 5761 section 4)."""

_HEADER = struct.Struct("!BBH")
_BLOCK = struct.Struct("!IIIIII")
_SENDER = struct.Struct("!IQIII")


class ReportBlock(NamedTuple):
    """What a receiver says of one source (section 6.4.1).

    `fraction_lost`: 1/256. `lost`: cumulative, signed. `highest`: extended sequence number. `jitter`: timestamp units.
    `last_report`: middle 32 bits of the source's latest SR. `delay`: since that SR, in 1/65536 s.
    """

    ssrc: int
    fraction_lost: int
    lost: int
    highest: int
    jitter: int
    last_report: int = 0
    delay: int = 0

    @classmethod
    def parse(cls, data: bytes, offset: int) -> ReportBlock:
        ssrc, loss, highest, jitter, last_report, delay = _BLOCK.unpack_from(data, offset)
        lost = (loss & 0xFFFFFF) - ((loss & 0x800000) << 1)
        return cls(ssrc, loss >> 24, lost, highest, jitter, last_report, delay)

    def serialize(self) -> bytes:
        lost = max(-0x800000, min(0x7FFFFF, self.lost)) & 0xFFFFFF
        return _BLOCK.pack(
            self.ssrc,
            self.fraction_lost << 24 | lost,
            self.highest & 0xFFFFFFFF,
            self.jitter & 0xFFFFFFFF,
            self.last_report,
            self.delay & 0xFFFFFFFF,
        )


class SenderReport(NamedTuple):
    """SR (section 6.4.1). `ntp`: 64-bit NTP time of the report; `timestamp`: RTP time of the same moment."""

    ssrc: int
    ntp: int
    timestamp: int
    packets: int
    octets: int
    blocks: tuple[ReportBlock, ...] = ()

    def serialize(self) -> bytes:
        body = _SENDER.pack(
            self.ssrc, self.ntp, self.timestamp, self.packets & 0xFFFFFFFF, self.octets & 0xFFFFFFFF
        ) + b"".join(block.serialize() for block in self.blocks)
        return _packet(SENDER_REPORT, len(self.blocks), body)


class ReceiverReport(NamedTuple):
    """RR (section 6.4.2)."""

    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()

    def serialize(self) -> bytes:
        body = struct.pack("!I", self.ssrc) + b"".join(block.serialize() for block in self.blocks)
        return _packet(RECEIVER_REPORT, len(self.blocks), body)


class SourceDescription(NamedTuple):
    """SDES with the canonical name of one source (section 6.5)."""

    ssrc: int
    cname: str

    def serialize(self) -> bytes:
        name = self.cname.encode()[:255]
        items = struct.pack("!IBB", self.ssrc, CNAME, len(name)) + name
        return _packet(SOURCE_DESCRIPTION, 1, items + bytes(4 - len(items) % 4))


class Goodbye(NamedTuple):
    """BYE (section 6.6). `reason`: for leaving, in words; "" for none."""

    ssrcs: tuple[int, ...]
    reason: str = ""

    def serialize(self) -> bytes:
        body = struct.pack(f"!{len(self.ssrcs)}I", *self.ssrcs)
        if self.reason:
            text = self.reason.encode()[:255]
            body += bytes((len(text),)) + text + bytes(-(len(text) + 1) % 4)
        return _packet(GOODBYE, len(self.ssrcs), body)


RtcpPacket = SenderReport | ReceiverReport | SourceDescription | Goodbye


def serialize(packets: Sequence[RtcpPacket]) -> bytes:
    """A compound packet: a report first, then a SDES (section 6.1)."""
    return b"".join(packet.serialize() for packet in packets)


def is_rtcp(data: bytes) -> bool:
    """Whether a datagram on a port that RTP and RTCP share is RTCP (RFC 5761 section 4)."""
    return len(data) > 1 and _FIRST_MULTIPLEXED <= data[1] <= _LAST_MULTIPLEXED


def parse(data: bytes) -> list[RtcpPacket]:
    """Reads a compound packet; types unknown to us are left out.

    Raises `RtpError` for the whole of it where any part is not as appendix A.2 asks: nothing of a malformed
    one counts. A SDES may be missing, which some phones save themselves.
    """
    packets: list[RtcpPacket] = []
    offset = 0
    while offset < len(data) or not offset:
        if len(data) < offset + _HEADER.size:
            raise RtpError("RTCP header truncated")
        flags, kind, words = _HEADER.unpack_from(data, offset)
        end = offset + 4 + 4 * words
        if flags >> 6 != 2:
            raise RtpError(f"RTCP version is {flags >> 6}, not 2")
        if not offset and kind not in (SENDER_REPORT, RECEIVER_REPORT):
            raise RtpError(f"RTCP begins with type {kind}, not with a report")
        if len(data) < end:
            raise RtpError(f"RTCP packet of {4 + 4 * words} octets exceeds the datagram")
        body = data[offset + 4 : end]
        if flags & 0x20:
            if end < len(data):
                raise RtpError("RTCP padding before the last packet")
            body = _without_padding(body)
        packet = _parse_body(kind, flags & 0x1F, body)
        if packet is not None:
            packets.append(packet)
        offset = end
    return packets


def ntp_time(wall: float) -> int:
    """64-bit NTP time (32.32 fixed point) of `wall`, seconds since the epoch (section 4)."""
    return int((wall + NTP_EPOCH) * (1 << 32)) & 0xFFFF_FFFF_FFFF_FFFF


def middle(ntp: int) -> int:
    """The middle 32 bits of an NTP time: 16.16 fixed point seconds (section 4)."""
    return ntp >> 16 & 0xFFFFFFFF


def _packet(kind: int, count: int, body: bytes) -> bytes:
    return _HEADER.pack(2 << 6 | count, kind, len(body) // 4) + body


def _without_padding(body: bytes) -> bytes:
    count = body[-1] if body else 0
    if not 1 <= count <= len(body) or count % 4:
        raise RtpError(f"RTCP padding of {count} octets in {len(body)}")
    return body[:-count]


def _parse_body(kind: int, count: int, body: bytes) -> RtcpPacket | None:
    if kind == SENDER_REPORT:
        blocks = _parse_blocks(body, _SENDER.size, count)
        ssrc, ntp, timestamp, packets, octets = _SENDER.unpack_from(body)
        return SenderReport(ssrc, ntp, timestamp, packets, octets, blocks)
    if kind == RECEIVER_REPORT:
        blocks = _parse_blocks(body, 4, count)
        return ReceiverReport(int.from_bytes(body[:4]), blocks)
    if kind == SOURCE_DESCRIPTION:
        return _parse_description(body) if count else None
    if kind == GOODBYE:
        return _parse_goodbye(count, body)
    return None


def _parse_blocks(body: bytes, start: int, count: int) -> tuple[ReportBlock, ...]:
    if len(body) < start + count * _BLOCK.size:
        raise RtpError(f"RTCP report ends within its {count} blocks")
    return tuple(ReportBlock.parse(body, start + index * _BLOCK.size) for index in range(count))


def _parse_description(body: bytes) -> SourceDescription | None:
    """The first chunk's CNAME; other items and chunks (mixers) are of no use to us."""
    if len(body) < 4:
        raise RtpError("RTCP SDES truncated")
    offset = 4
    while offset < len(body) and body[offset]:
        if len(body) < offset + 2 or len(body) < offset + 2 + body[offset + 1]:
            raise RtpError("RTCP SDES item truncated")
        text = body[offset + 2 : offset + 2 + body[offset + 1]]
        if body[offset] == CNAME:
            return SourceDescription(int.from_bytes(body[:4]), text.decode(errors="replace"))
        offset += 2 + len(text)
    return None


def _parse_goodbye(count: int, body: bytes) -> Goodbye:
    if len(body) < 4 * count:
        raise RtpError(f"RTCP BYE ends within its {count} SSRCs")
    ssrcs = struct.unpack_from(f"!{count}I", body)
    text = body[4 * count :]
    if text and len(text) < 1 + text[0]:
        raise RtpError("RTCP BYE ends within its reason")
    return Goodbye(ssrcs, text[1 : 1 + text[0]].decode(errors="replace") if text else "")
