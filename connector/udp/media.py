"""Sockets for media, all of them read in one go at each tick.

Audio is delivered by ticks, so that nothing is gained by waking the event loop for each packet; at a hundred calls
these five thousand wake-ups a second would cost more than all else. When a packet came is told by the kernel.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from typing import Any

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

Received = tuple[bytes, list[tuple[int, int, bytes]], int, Any]
"""What `recvmsg` returns."""
OnDatagram = Callable[[bytes, Address, float], None]
"""Called with a datagram, its source, and the clock time at which the kernel got it; must not raise."""


class MediaSockets:
    """The sockets of all legs, served together: at each tick all packets leave in one go, and all that came is read.

    The system calls follow one another without our own work in between: so the processor's caches hold what they
    need, and they cost a third of what they cost one by one.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, MediaSocket] = {}
        self._outbox: list[tuple[MediaSocket, bytes, Address]] = []

    def add(self, member: MediaSocket, descriptor: int) -> None:
        """Serves `member`, an open socket, from now on."""
        self._sockets[descriptor] = member
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        """Leaves it alone; to be called before it is closed."""
        del self._sockets[descriptor]
        self._epoll.unregister(descriptor)

    def post(self, member: MediaSocket, data: bytes, destination: Address) -> None:
        """Has `member` send one datagram at the next `send`."""
        self._outbox.append((member, data, destination))

    def send(self) -> None:
        """Sends what was posted, in its order."""
        outbox, self._outbox = self._outbox, []
        for member, data, destination in outbox:
            member.send(data, destination)

    def read(self, now: float, wall: float) -> None:
        """Hands on what has come, each socket's datagrams in their order. `now`, `wall`: the clock's times."""
        sockets = self._sockets
        for _ in range(MOST):
            # A datagram of each at a time. Looking again costs less than asking each for one more in vain.
            ready = self._epoll.poll(0, len(sockets) or 1)
            if not ready:
                return
            came = [(member, member.receive()) for member in [sockets[descriptor] for descriptor, _ in ready]]
            for member, received in came:
                if received is not None:
                    member.hand_on(received, now, now - wall)


class MediaSocket(UdpSocket):
    """A socket marked for expedited forwarding, read by `MediaSockets` until closed."""

    def __init__(self, address: str, port: int, sockets: MediaSockets, on_datagram: OnDatagram) -> None:
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
        self._sockets = sockets
        self._on_datagram = on_datagram
        sockets.add(self, self._socket.fileno())

    def receive(self) -> Received | None:
        """One datagram as the kernel gives it, or None."""
        try:
            return self._socket.recvmsg(LARGEST, _ANCILLARY)
        except OSError:  # an ICMP error about something that we sent: the peer may answer yet
            return None

    def hand_on(self, received: Received, now: float, epoch: float) -> None:
        """Hands on a datagram. `epoch`: what added to the kernel's wall time gives clock time."""
        data, ancillary, _, source = received
        seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
        arrival = seconds + nanoseconds * 1e-9 + epoch
        if not now - OLDEST_SECONDS < arrival <= now:
            arrival = now
        self._on_datagram(data, source if len(source) == 2 else source[:2], arrival)

    def post(self, data: bytes, destination: Address) -> None:
        """Sends one datagram with those of all others, at this tick."""
        self._sockets.post(self, data, destination)

    def send(self, data: bytes, destination: Address) -> None:
        """Sends one datagram or, where the network stack cannot take it, drops it: late audio is worthless."""
        try:
            self._socket.sendto(data, destination)
        except OSError:
            self.unsent += 1

    def close(self) -> None:
        """Stops reading and frees the port. Idempotent."""
        if not self.closed:
            self._on_datagram = _ignore  # what was read before
            self._sockets.remove(self._socket.fileno())
            self._socket.close()


def _ignore(data: bytes, source: Address, arrival: float) -> None:
    """Nobody listens any more."""
