"""A datagram socket for signalling: large datagrams, several read at a time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from connector.udp.latch import Address

LARGEST = 65_535
"""Octets of a datagram."""

BATCH = 8
"""Datagrams read in a row. asyncio's own transports read one in each turn of the event loop: where many media
sockets make its turns long, signalling falls behind by seconds. More in a row would make audio wait."""


class ControlSocket:
    """Reads on the running event loop until closed. `on_datagram(data, source)` must not raise."""

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
        self._on_datagram = on_datagram
        self.unsent = 0
        """Datagrams that the network stack refused."""
        self._socket = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            if buffer:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            if local is not None:
                self._socket.bind(local)
            else:
                self._socket.connect(address)
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

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._socket.fileno() < 0

    def close(self) -> None:
        """Stops reading and frees the port. Idempotent."""
        if not self.closed:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _read(self) -> None:
        for _ in range(BATCH):
            if self.closed:
                return
            try:
                data, source = self._socket.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except OSError:  # ICMP says that nobody is there: whoever waits has a deadline
                continue
            self._on_datagram(data, source[:2])
