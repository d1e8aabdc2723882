"""A far end on a real loopback socket that sends what a test says and keeps what it gets."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import numpy as np

from connector.audio import Samples
from connector.codec.registry import make_codec
from connector.interfaces import Clock
from connector.rtp.packet import RtpPacket


class RtpPeer:
    """`local`: its address. Usable in virtual time: loopback delivers at once."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((address, port))
        self.local: tuple[str, int] = self._socket.getsockname()[:2]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, packet: RtpPacket | bytes, to: tuple[str, int]) -> None:
        """Sends one datagram."""
        self._socket.sendto(packet if isinstance(packet, bytes) else packet.serialize(), to)

    async def stream(self, packets: Iterable[RtpPacket], to: tuple[str, int], clock: Clock) -> None:
        """Sends a packet each 20 ms."""
        for packet in packets:
            self.send(packet, to)
            await clock.sleep(0.02)

    def datagrams(self) -> list[bytes]:
        """What has come since the last call."""
        found: list[bytes] = []
        while True:
            try:
                found.append(self._socket.recv(2048))
            except BlockingIOError:
                return found

    def traffic_classes(self) -> list[int]:
        """The TOS octet (IPv6: traffic class) of each datagram that comes from now on, until nothing more waits.

        To be called twice: the kernel tells it of datagrams that come after it was asked.
        """
        ipv6 = self._socket.family == socket.AF_INET6
        level, ask = (socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS) if ipv6 else (socket.IPPROTO_IP, socket.IP_RECVTOS)
        self._socket.setsockopt(level, ask, 1)
        found: list[int] = []
        while True:
            try:
                _, ancillary, _, _ = self._socket.recvmsg(2048, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return found
            found += [data[0] for _, _, data in ancillary]

    def packets(self) -> list[RtpPacket]:
        """The RTP packets that have come since the last call."""
        return [RtpPacket.parse(data) for data in self.datagrams()]

    def heard(self, codec: str = "PCMU", payload_type: int = 0) -> Samples:
        """The audio that has come since the last call."""
        decoder = make_codec(codec)
        pieces = [decoder.decode(packet.payload) for packet in self.packets() if packet.payload_type == payload_type]
        return np.concatenate(pieces) if pieces else np.empty(0, np.int16)
