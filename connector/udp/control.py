"""A datagram socket for signalling: large datagrams, several read at a time."""

from __future__ import annotations

import socket
from collections.abc import Callable

from connector.udp.latch import Address
from connector.udp.socket import UdpSocket

LARGEST = 65_535
"""Octets of a datagram."""

BATCH = 8
"""Datagrams read in a row. asyncio's own transports read one in each turn of the event loop: where many media
sockets make its turns long, signalling falls behind by seconds. More in a row would make audio wait."""


class ControlSocket(UdpSocket):
    """A socket for signalling, bound, or connected to its only peer."""

    def __init__(
        self,
        on_datagram: Callable[[bytes, Address], None],
        *,
        local: Address | None = None,
        remote: Address | None = None,
        buffer: int = 0,
    ) -> None:
        """Binds to `local`, or connects to `remote`, so that the kernel drops what comes from anybody else.

        `buffer`: octets that may wait to be read, 0 for the system's default. Raises `OSError`.
        """
        address = local or remote
        if address is None:
            raise ValueError("a control socket needs an address")

        def prepare(made: socket.socket) -> None:
            if buffer:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            (made.connect if local is None else made.bind)(address)

        super().__init__(address[0], prepare, on_datagram)

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

    def _readable(self) -> None:
        for _ in range(BATCH):
            if self.closed or not self._receive(LARGEST):
                return
