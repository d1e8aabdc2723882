"""A datagram socket that hands each packet on at once, without a task or a queue between."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable

from connector.udp.latch import Address

LARGEST = 2048
"""Octets read of a datagram; RTP and RTCP stay below an Ethernet frame."""
BATCH = 64
"""Datagrams drained at a time, so that a flood does not keep the event loop from its other work."""
EXPEDITED_FORWARDING = 46 << 2
"""DSCP EF in the TOS octet: what networks give to voice (RFC 4594 section 4.1)."""


class UdpSocket(ABC):
    """A non-blocking UDP socket that is read on the running event loop until closed."""

    def __init__(
        self, address: str, prepare: Callable[[socket.socket], None], on_datagram: Callable[[bytes, Address], None]
    ) -> None:
        """`prepare` sets options, and binds or connects; the family is that of `address`.

        `on_datagram(data, source)` must not raise. Raises the `OSError` of `prepare`.
        """
        self._on_datagram = on_datagram
        self.unsent = 0
        """Datagrams that the network stack refused."""
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            prepare(self._socket)
        except OSError:
            self._socket.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._readable)

    @abstractmethod
    def _readable(self) -> object:
        """Hands on what has arrived, or a part of it: the event loop comes again while there is more."""

    @property
    def local(self) -> Address:
        """Address and port that it is bound to."""
        address, port = self._socket.getsockname()[:2]
        return address, port

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._socket.fileno() < 0

    def close(self) -> None:
        """Stops reading and frees the port. Idempotent."""
        if not self.closed:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _receive(self, largest: int) -> bool:
        """Hands on one datagram of up to `largest` octets; whether there may be another."""
        try:
            data, source = self._socket.recvfrom(largest)
        except BlockingIOError:
            return False
        except OSError:  # an ICMP error about something that we sent: this address may answer yet
            return True
        self._on_datagram(data, source[:2])
        return True


class DatagramSocket(UdpSocket):
    """A socket for media: one datagram at a time, marked for expedited forwarding."""

    def __init__(self, address: str, port: int, on_datagram: Callable[[bytes, Address], None]) -> None:
        """Binds `address`:`port`; raises `OSError` where that cannot be."""

        def prepare(made: socket.socket) -> None:
            if made.family == socket.AF_INET:
                made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, EXPEDITED_FORWARDING)
            else:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, EXPEDITED_FORWARDING)
            made.bind((address, port))

        super().__init__(address, prepare, on_datagram)

    def drain(self) -> None:
        """Hands on what has arrived."""
        for _ in range(BATCH):
            if self.closed or not self._readable():
                return

    def _readable(self) -> bool:
        return self._receive(LARGEST)

    def send(self, data: bytes, destination: Address) -> None:
        """Sends one datagram or, where the network stack cannot take it, drops it: late audio is worthless."""
        try:
            self._socket.sendto(data, destination)
        except OSError:
            self.unsent += 1
