"""The UDP socket that OpenSIPS' module event_datagram sends to."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from connector.errors import MediaError

log = logging.getLogger(__name__)

Address = tuple[str, int]

MOST_STRANGERS = 100
"""Addresses of strangers that are remembered, so that each is logged once."""

RECEIVE_BUFFER = 4 << 20
"""Octets of events that may wait in the socket: some thousand INVITEs."""


@dataclass(slots=True)
class EventCounts:
    """Datagrams that were dropped: from `strangers`, `malformed` ones, and events of sessions that are `over`."""

    strangers: int = 0
    malformed: int = 0
    over: int = 0


class EventSocket(asyncio.DatagramProtocol):
    """Hands on the datagrams of `sources`, IP addresses; `on_datagram` must not raise."""

    def __init__(self, address: Address, sources: frozenset[str], on_datagram: Callable[[bytes], None]) -> None:
        self.counts = EventCounts()
        self._address = address
        self._sources = sources
        self._on_datagram = on_datagram
        self._transport: asyncio.BaseTransport | None = None
        self._strangers: set[str] = set()

    async def open(self) -> None:
        """Binds. Raises `MediaError`."""
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=self._address)
        except OSError as error:
            host, port = self._address
            raise MediaError(f"events of OpenSIPS: {host} port {port} (UDP): {error.strerror or error}") from error
        self._transport = transport
        receiving = cast(socket.socket, transport.get_extra_info("socket"))
        receiving.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def close(self) -> None:
        """Frees the port. Idempotent."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if addr[0] in self._sources:
            self._on_datagram(data)
        else:
            self.counts.strangers += 1
            if addr[0] not in self._strangers and len(self._strangers) < MOST_STRANGERS:
                self._strangers.add(addr[0])
                expected = ", ".join(sorted(self._sources))
                log.warning("events are dropped: the UA has another address", extra={"of": addr[0], "ua": expected})
