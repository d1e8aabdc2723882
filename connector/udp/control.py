"""A datagram socket for signalling: large datagrams, read as they come, several at a time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from connector.udp.latch import Address
from connector.udp.socket import UdpSocket

LARGEST = 65_535
"""Octets of a datagram."""

BATCH = 8
"""Datagrams read in a row. asyncio's own transports read one in each turn of the event loop: where the turns are long,
signalling falls behind by seconds. More in a row would make audio wait."""


class ControlSocket(UdpSocket):
    """A socket for signalling, bound, or connected to its only peer; read on the running event loop until closed."""

    def __init__(
        self,
        on_datagram: Callable[[bytes, Address], None],
        *,
        local: Address | None = None,
        remote: Address | None = None,
        buffer: int = 0,
    ) -> None:
        """Binds to `local`, or connects to `remote`, so that the kernel drops what comes from anybody else.

        `on_datagram(data, source)` must not raise. `buffer`: octets that may wait to be read, 0 for the system's
        default. Raises `OSError`.
        """
        address = local or remote
        if address is None:
            raise ValueError("a control socket needs an address")

        def prepare(made: socket.socket) -> None:
            if buffer:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            (made.connect if local is None else made.bind)(address)

        super().__init__(address[0], prepare)
        self._on_datagram = on_datagram
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def send(self, data: bytes, destination: Address | None = None) -> None:
        """Sends one datagram, to the connected peer or to `destination`.

        What the network stack refuses is lost, as a datagram may be: retransmissions and deadlines see to that.
        """
        try:
            if destination is None:
                self._socket.send(data)
            else:
                self._socket.sendto(data, destination)
        except OSError:
            self.unsent += 1

    def close(self) -> None:
        """Stops reading and frees the port. Idempotent."""
        if not self.closed:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        """Hands on a part of what has arrived: the event loop comes again while there is more."""
        for _ in range(BATCH):
            if self.closed:
                return
            try:
                data, source = self._socket.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error about something that we sent: this address may answer yet
                continue
            self._on_datagram(data, source[:2])
