"""RTP packets on the wire (RFC 3550 section 5.1)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from connector.errors import RtpError

VERSION = 2

_FIXED_HEADER = struct.Struct("!BBHII")
_EXTENSION_HEADER = struct.Struct("!HH")


def write_packet(
    payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, marker: bool = False
) -> bytes:
    """The bytes of a packet without options: what we send fifty times a second on each call."""
    return _FIXED_HEADER.pack(VERSION << 6, marker << 7 | payload_type, sequence, timestamp, ssrc) + payload


class Extension(NamedTuple):
    """A header extension (RFC 3550 section 5.3.1). `data`: whole 32-bit words."""

    profile: int
    data: bytes


class RtpPacket(NamedTuple):
    """One RTP packet; `serialize` gives back exactly the bytes that `parse` was given.

    `timestamp`, `ssrc` and every `csrc` have 32 bits, `sequence` has 16, `payload_type` 7. `padding`: the
    padding octets as they were sent, the count octet last.
    """

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False
    csrc: tuple[int, ...] = ()
    extension: Extension | None = None
    padding: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> RtpPacket:
        """Reads one datagram; raises `RtpError` where it is not a whole RTP packet."""
        if len(data) < _FIXED_HEADER.size:
            raise RtpError(f"RTP header truncated: {len(data)} octets")
        flags, second, sequence, timestamp, ssrc = _FIXED_HEADER.unpack_from(data)
        if flags >> 6 != VERSION:
            raise RtpError(f"RTP version is {flags >> 6}, not {VERSION}")
        if not flags & 0x3F:  # the usual packet: no padding, no extension, no CSRC
            return cls(second & 0x7F, sequence, timestamp, ssrc, data[12:], second >= 0x80)
        return cls._parse_options(data, flags, second, sequence, timestamp, ssrc)

    @classmethod
    def _parse_options(
        cls, data: bytes, flags: int, second: int, sequence: int, timestamp: int, ssrc: int
    ) -> RtpPacket:
        csrc_count = flags & 0x0F
        start = _FIXED_HEADER.size + 4 * csrc_count
        if len(data) < start:
            raise RtpError(f"RTP packet of {len(data)} octets ends within its {csrc_count} CSRCs")
        csrc = struct.unpack_from(f"!{csrc_count}I", data, _FIXED_HEADER.size)

        extension = None
        if flags & 0x10:
            if len(data) < start + _EXTENSION_HEADER.size:
                raise RtpError("RTP header extension truncated")
            profile, words = _EXTENSION_HEADER.unpack_from(data, start)
            begin, start = start + 4, start + 4 + 4 * words
            if len(data) < start:
                raise RtpError(f"RTP header extension of {words} words exceeds the packet")
            extension = Extension(profile, data[begin:start])

        end = len(data)
        if flags & 0x20:
            count = data[-1]
            if not 1 <= count <= end - start:
                raise RtpError(f"RTP padding of {count} octets in {end - start} octets of payload")
            end -= count
        return cls(
            second & 0x7F, sequence, timestamp, ssrc, data[start:end], second >= 0x80, csrc, extension, data[end:]
        )

    def serialize(self) -> bytes:
        """The packet's bytes."""
        flags = VERSION << 6 | len(self.csrc)
        options = struct.pack(f"!{len(self.csrc)}I", *self.csrc) if self.csrc else b""
        if self.extension is not None:
            flags |= 0x10
            profile, data = self.extension
            options += _EXTENSION_HEADER.pack(profile, len(data) // 4) + data
        if self.padding:
            flags |= 0x20
        header = _FIXED_HEADER.pack(
            flags, self.marker << 7 | self.payload_type, self.sequence, self.timestamp, self.ssrc
        )
        return header + options + self.payload + self.padding
