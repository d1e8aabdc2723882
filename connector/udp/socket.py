"""What every UDP socket of ours has: non-blocking, and of the family of its address."""

from __future__ import annotations

import socket
from collections.abc import Callable

from connector.udp.latch import Address


class UdpSocket:
    """A non-blocking UDP socket. `prepare` sets options, and binds or connects; raises its `OSError`."""

    def __init__(self, address: str, prepare: Callable[[socket.socket], None]) -> None:
        self.unsent = 0
        """Datagrams that the network stack refused."""
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            prepare(self._socket)
        except OSError:
            self._socket.close()
            raise

    @property
    def local(self) -> Address:
        """Address and port that it is bound to."""
        address, port = self._socket.getsockname()[:2]
        return address, port

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._socket.fileno() < 0
