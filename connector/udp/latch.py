"""Which source of packets is the peer: symmetric RTP (RFC 4961), and latching only where it is asked for.

Anybody can send to an open port. Who takes such packets for the peer's plays a stranger's audio and keys, and
sends the call's audio to him ("RTP bleed": CVE-2017-14099, CVE-2025-53399). So the address and port of the
SDP alone count. A peer behind a NAT cannot name where its packets come from; where the configuration says that
there may be one, its packets must still come from an address that the call is known by: that of its SDP or that
of its signalling (restricted latching; RFC 7362 section 5 on what latching to others risks).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from connector.rtp.packet import RtpPacket

Address = tuple[str, int]
"""Numeric address and port."""

GRACE_SECONDS = 0.5
"""So long only the negotiated address is listened to: it has had time for a packet if it is no private one."""
PROBATION = 5
"""Packets in sequence that another source must send in a row to be taken for the peer behind a NAT."""


class Trust(IntEnum):
    """How well a source is founded, in rising order."""

    NONE = 0
    SIGNALLING = 1
    """The address that the signalling comes from: a NAT in front of both."""
    ADDRESS = 2
    """The negotiated address from another port: a NAT that keeps the address, or no symmetric RTP."""
    NEGOTIATED = 3


class _Candidate(NamedTuple):
    source: Address
    ssrc: int
    sequence: int
    """The next one."""
    packets: int


class Latch:
    """Decides for every packet whether it is the peer's, and where our packets go.

    `negotiated`: address and port from SDP; None where nobody is known. `now`: when they were negotiated, clock time.
    `signalling`: numeric address that the peer's signalling comes from, where the peer may be behind a NAT; None
    where it is not, and nobody but the negotiated address and port is heard. `learn`: where nobody is known, the
    first valid packet shows the peer.
    """

    def __init__(
        self, negotiated: Address | None, now: float, *, signalling: str | None = None, learn: bool = False
    ) -> None:
        self._negotiated = negotiated
        self._since = now
        self._signalling = signalling
        self._learn = learn and negotiated is None
        self._trust = Trust.NONE
        self._candidate: _Candidate | None = None
        self.source: Address | None = None
        """Whose packets are the peer's; None before the first of them."""

    def __str__(self) -> str:
        if self.source is None:
            return f"{self._expected}, unheard"
        return f"{self.source[0]}:{self.source[1]}, {self._trust.name.lower()}"

    @property
    def destination(self) -> Address | None:
        """Where to send to, or None while that is unknown."""
        return self.source or self._negotiated

    @property
    def trust(self) -> Trust:
        """What the present source is founded on."""
        return self._trust

    def excludes(self, source: Address) -> bool:
        """Whether nothing from `source` is the peer's now, whatever it says: such packets need no parsing."""
        return source != self.source and self._trust_of(source) <= self._trust

    def accepts(self, source: Address, packet: RtpPacket, now: float) -> bool:
        """Whether a valid packet that came from `source` at clock time `now` is the peer's."""
        if source == self.source:
            return True
        trust = self._trust_of(source)
        if trust <= self._trust:
            return False
        if trust is not Trust.NEGOTIATED and not self._proved(source, packet, now):
            return False
        self.source, self._trust, self._candidate = source, trust, None
        return True

    def accepts_control(self, source: Address, port: int | None = None) -> bool:
        """Whether RTCP from `source` is the peer's: from `port`, or the one above RTP's (RFC 3550 section 11).

        A NAT may have given it any port: then from the address that RTP comes from.
        """
        peer = self.destination
        if peer is None or source[0] != peer[0]:
            return False
        return self._signalling is not None or source[1] == (peer[1] + 1 if port is None else port)

    @property
    def _expected(self) -> str:
        if self._negotiated is not None:
            return f"{self._negotiated[0]}:{self._negotiated[1]}"
        return "anyone" if self._learn else "nobody"

    def _trust_of(self, source: Address) -> Trust:
        if self._learn or source == self._negotiated:
            return Trust.NEGOTIATED
        if self._signalling is None or self._negotiated is None:
            return Trust.NONE
        if source[0] == self._negotiated[0]:
            return Trust.ADDRESS
        return Trust.SIGNALLING if source[0] == self._signalling else Trust.NONE

    def _proved(self, source: Address, packet: RtpPacket, now: float) -> bool:
        """Whether a source has kept up a stream while better founded ones were silent."""
        candidate = self._candidate
        follows = candidate is not None and candidate[:3] == (source, packet.ssrc, packet.sequence)
        packets = candidate.packets + 1 if candidate is not None and follows else 1
        self._candidate = _Candidate(source, packet.ssrc, (packet.sequence + 1) & 0xFFFF, packets)
        return packets >= PROBATION and now - self._since >= GRACE_SECONDS
