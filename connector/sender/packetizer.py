"""Numbers our packets (RFC 3550 section 5.1)."""

from __future__ import annotations

import random

from connector.rtp.packet import write_packet
from connector.rtp.session import RtpSession


class Packetizer:
    """Sequence numbers and timestamps that begin at random and go on without a gap.

    One call of `audio` or `event` per frame. The marker is set on the first packet after a time in which
    nothing was sent, and only there: we do not suppress silence (RFC 3551 section 4.1).
    """

    def __init__(self, session: RtpSession) -> None:
        self._session = session
        self._sequence = random.getrandbits(16)
        self._pausing = True
        self.timestamp = random.getrandbits(32)
        """Of the next frame."""
        self.packets = 0
        """Sent so far (RFC 3550 section 6.4.1)."""
        self.octets = 0
        """Of their payloads."""

    def __str__(self) -> str:
        return f"RTP as {self._session.ssrc:08x}"

    def audio(self, payload_type: int, payload: bytes, duration: int) -> bytes:
        """The packet of a frame that lasts `duration` timestamp units."""
        packet = self._packet(payload_type, self.timestamp, payload, self._pausing)
        self._advance(duration)
        return packet

    def event(self, payload_type: int, payload: bytes, offset: int, marker: bool, duration: int) -> bytes:
        """The packet of a frame within an event that began `offset` timestamp units ago (RFC 4733 section 2.5.1.2)."""
        packet = self._packet(payload_type, (self.timestamp - offset) & 0xFFFFFFFF, payload, marker)
        self._advance(duration)
        return packet

    def restart(self) -> None:
        """The timestamps' unit changes: from here on it is another stream, of another SSRC (RFC 7160 section 4.1)."""
        self._session.ssrc = random.getrandbits(32)
        self.timestamp = random.getrandbits(32)
        self._pausing = True

    def skip(self, duration: int) -> None:
        """Time passes in which nothing is sent."""
        self._advance(duration)
        self._pausing = True

    def _packet(self, payload_type: int, timestamp: int, payload: bytes, marker: bool) -> bytes:
        packet = write_packet(payload_type, self._sequence, timestamp, self._session.ssrc, payload, marker)
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._pausing = False
        self.packets += 1
        self.octets += len(payload)
        return packet

    def _advance(self, duration: int) -> None:
        self.timestamp = (self.timestamp + duration) & 0xFFFFFFFF
