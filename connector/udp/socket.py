"""A datagram socket that hands each packet on at once, without a task or a queue between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from connector.udp.latch import Address

LARGEST = 2048
"""Octets read of a datagram; RTP and RTCP stay below an Ethernet frame."""
BATCH = 64
"""Datagrams drained at a time, so that a flood does not keep the event loop from its other work."""
EXPEDITED_FORWARDING = 46 << 2
"""DSCP EF in the TOS octet: what networks give to voice (RFC 4594 section 4.1)."""


class DatagramSocket:
    """Reads on the running event loop until closed. `on_datagram(data, source)` must not raise."""

    def __init__(self, address: str, port: int, on_datagram: Callable[[bytes, Address], None]) -> None:
        """Binds `address`:`port`; raises `OSError` where that cannot be."""
        self._on_datagram = on_datagram
        self.unsent = 0
        """Datagrams that the network stack refused."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            if family == socket.AF_INET:
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, EXPEDITED_FORWARDING)
            else:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, EXPEDITED_FORWARDING)
            self._socket.bind((address, port))
        except OSError:
            self._socket.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._read)

    @property
    def local(self) -> Address:
        """Address and port that it is bound to."""
        address, port = self._socket.getsockname()[:2]
        return address, port

    def drain(self) -> None:
        """Hands on what has arrived."""
        for _ in range(BATCH):
            if self.closed or not self._read():
                return

    def _read(self) -> bool:
        """Hands on one datagram; whether there may be another. The event loop comes again while there is."""
        try:
            data, source = self._socket.recvfrom(LARGEST)
        except BlockingIOError:
            return False
        except OSError:  # an ICMP error about something that we sent: this address may answer yet
            return True
        self._on_datagram(data, source[:2])
        return True

    def send(self, data: bytes, destination: Address) -> None:
        """Sends one datagram or, where the network stack cannot take it, drops it: late audio is worthless."""
        try:
            self._socket.sendto(data, destination)
        except OSError:
            self.unsent += 1

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._socket.fileno() < 0

    def close(self) -> None:
        """Stops reading and frees the port. Idempotent."""
        if not self.closed:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
