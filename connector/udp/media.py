"""Sockets for media, all of them read in one go at each tick.

Audio is delivered by ticks, so that nothing is gained by waking the event loop for each packet; at a hundred calls
these five thousand wake-ups a second would cost more than all else. When a packet came is told by the kernel.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable

from connector.udp.latch import Address
from connector.udp.socket import UdpSocket

LARGEST = 2048
"""Octets read of a datagram; RTP and RTCP stay below an Ethernet frame."""
MOST = 256
"""Datagrams read of one socket per tick (12,800 a second): a flood neither stops the other calls nor hides the peer's
own packets among those that overflow the socket's buffer."""
BUFFER_OCTETS = 1 << 19
"""Asked of the kernel (which gives at most net.core.rmem_max) for what comes between two ticks."""
EXPEDITED_FORWARDING = 46 << 2
"""DSCP EF in the TOS octet: what networks give to voice (RFC 4594 section 4.1)."""
SO_TIMESTAMPNS = 35
"""Of Linux' asm-generic/socket.h; Python has no name for it."""
OLDEST_SECONDS = 1.0
"""No packet waits longer between two ticks: a greater age is a wall clock that was set meanwhile, or is no real one."""

_ANCILLARY = socket.CMSG_SPACE(16)
_TIMESPEC = struct.Struct("qq")

OnDatagram = Callable[[bytes, Address, float], None]
"""Called with a datagram, its source, and the clock time at which the kernel got it; must not raise."""


class MediaReader:
    """Reads the sockets of all legs: one look at all of them, then those in which something waits."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, MediaSocket] = {}

    def add(self, member: MediaSocket, descriptor: int) -> None:
        """Reads `member` from now on; the reader must be open."""
        self._sockets[descriptor] = member
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """Leaves it alone; to be called before it is closed."""
        del self._sockets[descriptor]
        self._epoll.unregister(descriptor)

    def read(self, now: float, wall: float) -> None:
        """Hands on what has come, each socket's datagrams in their order. `now`, `wall`: the clock's times."""
        sockets = self._sockets
        epoch = now - wall
        for _ in range(MOST):
            # A datagram of each at a time. Looking again costs less than asking each for one more in vain.
            ready = self._epoll.poll(0, len(sockets) or 1)
            if not ready:
                return
            for descriptor, _ in ready:
                member = sockets.get(descriptor)
                if member is not None:  # else closed by what an earlier one has brought
                    member.receive(now, epoch)

    def close(self) -> None:
        """Ends it; sockets that are still open are not read any more."""
        self._sockets.clear()
        self._epoll.close()


class MediaSocket(UdpSocket):
    """A socket marked for expedited forwarding, read by a `MediaReader` until closed."""

    def __init__(self, address: str, port: int, reader: MediaReader, on_datagram: OnDatagram) -> None:
        """Binds `address`:`port`; raises `OSError` where that cannot be."""

        def prepare(made: socket.socket) -> None:
            if made.family == socket.AF_INET:
                made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, EXPEDITED_FORWARDING)
            else:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, EXPEDITED_FORWARDING)
            made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_OCTETS)
            made.bind((address, port))

        super().__init__(address, prepare)
        self._reader = reader
        self._on_datagram = on_datagram
        reader.add(self, self._socket.fileno())

    def receive(self, now: float, epoch: float) -> None:
        """Hands on one datagram. `epoch`: what added to the kernel's wall time gives clock time."""
        try:
            data, ancillary, _, source = self._socket.recvmsg(LARGEST, _ANCILLARY)
        except OSError:  # nothing there, or an ICMP error about something that we sent: the peer may answer yet
            return
        seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
        arrival = seconds + nanoseconds * 1e-9 + epoch
        if not now - OLDEST_SECONDS < arrival <= now:
            arrival = now
        self._on_datagram(data, source if len(source) == 2 else source[:2], arrival)

    def send(self, data: bytes, destination: Address) -> None:
        """Sends one datagram or, where the network stack cannot take it, drops it: late audio is worthless."""
        try:
            self._socket.sendto(data, destination)
        except OSError:
            self.unsent += 1

    def close(self) -> None:
        """Stops reading and frees the port. Idempotent."""
        if not self.closed:
            self._reader.remove(self._socket.fileno())
            self._socket.close()
