"""Which source of packets is the peer: symmetric RTP (RFC 4961) with latching.

SDP says where the peer listens, which behind a NAT is not where its packets come from. Media is sent
to where valid packets come from; as anyone may send such to an open port, a better founded source is
never given up for a worse one.
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
"""Packets in sequence that a source elsewhere must send in a row to be taken for the peer behind a NAT."""


class Trust(IntEnum):
    """How well a source is founded, in rising order."""

    NONE = 0
    STRANGER = 1
    """Another address than the negotiated one: a NAT, if nothing better is heard."""
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

    `negotiated`: address and port from SDP, or None where the first valid packet shows the peer.
    `now`: when they were negotiated, clock time.
    """

    def __init__(self, negotiated: Address | None, now: float) -> None:
        self._negotiated = negotiated
        self._since = now
        self._source: Address | None = None
        self._trust = Trust.NONE
        self._candidate: _Candidate | None = None

    def __str__(self) -> str:
        if self._source is None:
            return f"{_text(self._negotiated)}, unheard"
        return f"{_text(self._source)}, {self._trust.name.lower()}"

    @property
    def destination(self) -> Address | None:
        """Where to send to, or None while that is unknown."""
        return self._source or self._negotiated

    @property
    def trust(self) -> Trust:
        """What the present source is founded on."""
        return self._trust

    def accepts(self, source: Address, packet: RtpPacket, now: float) -> bool:
        """Whether a valid packet that came from `source` at clock time `now` is the peer's."""
        if source == self._source:
            return True
        trust = self._trust_of(source)
        if trust <= self._trust:
            return False
        if trust is Trust.STRANGER and not self._proved(source, packet, now):
            return False
        self._source, self._trust, self._candidate = source, trust, None
        return True

    def _trust_of(self, source: Address) -> Trust:
        if self._negotiated is None or source == self._negotiated:
            return Trust.NEGOTIATED
        return Trust.ADDRESS if source[0] == self._negotiated[0] else Trust.STRANGER

    def _proved(self, source: Address, packet: RtpPacket, now: float) -> bool:
        """Whether a stranger has kept up a stream while the negotiated address was silent."""
        candidate = self._candidate
        follows = candidate is not None and candidate[:3] == (source, packet.ssrc, packet.sequence)
        packets = candidate.packets + 1 if candidate is not None and follows else 1
        self._candidate = _Candidate(source, packet.ssrc, (packet.sequence + 1) & 0xFFFF, packets)
        return packets >= PROBATION and now - self._since >= GRACE_SECONDS


def _text(address: Address | None) -> str:
    return "anyone" if address is None else f"{address[0]}:{address[1]}"
