"""Who sends on an RTP session, and what: SSRCs, sequences and payload types (RFC 3550 section 8, appendix A.1)."""

from __future__ import annotations

import random
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from connector.rtp.packet import RtpPacket
from connector.rtp.sequence import SequenceTracker, extend
from connector.rtp.statistics import ReceptionStatistics


class PayloadKind(Enum):
    """What a payload type carries."""

    AUDIO = "audio"
    EVENT = "telephone-event"
    COMFORT_NOISE = "comfort noise"


COMFORT_NOISE_TYPE = 13
"""Static payload type of comfort noise (RFC 3389), which senders may use without negotiation."""


class Arrival(NamedTuple):
    """A packet put in order. `sequence`, `timestamp`: extended. `restarted`: nothing before it continues here."""

    kind: PayloadKind
    sequence: int
    timestamp: int
    restarted: bool


class RtpSession:
    """Our SSRC and the far end's stream.

    A new SSRC or a jump of the sequence replaces the stream once two packets in a row belong to it,
    so that a stray packet does not (RFC 3550 appendix A.1).
    """

    def __init__(self, clock_rate: int, payloads: Mapping[int, PayloadKind]) -> None:
        self._clock_rate = clock_rate
        self._tracker = SequenceTracker()
        self._timestamp = 0
        self._candidate: tuple[int, int] | None = None
        self._collided = False
        self._past_received = self._past_lost = 0
        self.payloads = payloads
        """Payload types that belong to the session."""
        self.ssrc = random.getrandbits(32)
        """Ours."""
        self.remote: int | None = None
        """The far end's SSRC."""
        self.statistics = ReceptionStatistics(clock_rate)
        """Of the far end's current stream."""
        self.streams = 0
        """Streams (SSRCs) of the far end that were followed so far, one after the other."""
        self.unknown = 0
        """Packets whose payload type nobody negotiated."""

    def __str__(self) -> str:
        return "RTP" if self.remote is None else f"RTP from {self.remote:08x}"

    @property
    def clock_rate(self) -> int:
        """Of the audio's timestamps, Hz; another codec may have another one in mid-stream."""
        return self._clock_rate

    @clock_rate.setter
    def clock_rate(self, clock_rate: int) -> None:
        if clock_rate != self._clock_rate:
            self._clock_rate = clock_rate
            self.statistics.change_clock(clock_rate)

    @property
    def received(self) -> int:
        """Packets of all streams so far."""
        return self._past_received + self.statistics.received

    @property
    def lost(self) -> int:
        """Packets lost of all streams so far."""
        return self._past_lost + self.statistics.lost

    def receive(self, packet: RtpPacket, arrival: float) -> Arrival | None:
        """Sorts a packet that came at `arrival` (seconds); None where it is not, or not yet, part of the session."""
        kind = self.payloads.get(packet.payload_type)
        if kind is None:
            self.unknown += 1
            return None
        if packet.ssrc != self.remote and not self._follow(packet):
            return None
        numbered = self._tracker.update(packet.sequence)
        if numbered is None:
            return None
        sequence, restarted = numbered
        if restarted:
            self._past_received += self.statistics.received
            self._past_lost += self.statistics.lost
            self.statistics = ReceptionStatistics(self._clock_rate, sequence)
            self._timestamp = packet.timestamp
        timestamp = extend(packet.timestamp, self._timestamp, 32)
        if kind is PayloadKind.AUDIO:
            self._timestamp = timestamp
            self.statistics.take(sequence, timestamp, arrival)
        else:
            # An event's packets repeat its first timestamp, which would read as jitter.
            self.statistics.count(sequence)
        return Arrival(kind, sequence, timestamp, restarted)

    def _follow(self, packet: RtpPacket) -> bool:
        """Whether the stream of `packet`, whose SSRC is new, is the session's from now on."""
        if self.remote is not None and self._candidate != (packet.ssrc, packet.sequence):
            self._candidate = (packet.ssrc, (packet.sequence + 1) & 0xFFFF)
            return False
        self.remote = packet.ssrc
        self.streams += 1
        self._candidate = None
        self._tracker = SequenceTracker()
        if packet.ssrc == self.ssrc:
            self.collide()
        return True

    def collide(self) -> None:
        """Two sources have our number: we take another, once (section 8.2).

        A peer that reflects our own packets collides again with the new one; that is a loop, and fleeing it
        would never end.
        """
        if not self._collided:
            self._collided = True
            self.ssrc = random.getrandbits(32)
