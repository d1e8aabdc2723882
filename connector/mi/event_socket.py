"""The UDP socket that OpenSIPS' module event_datagram sends to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from connector.errors import MediaError
from connector.udp.control import ControlSocket
from connector.udp.latch import Address

log = logging.getLogger(__name__)

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


class EventSocket:
    """Hands on the datagrams of `sources`, IP addresses; `on_datagram` must not raise."""

    def __init__(self, address: Address, sources: frozenset[str], on_datagram: Callable[[bytes], None]) -> None:
        self.counts = EventCounts()
        self._address = address
        self._sources = sources
        self._on_datagram = on_datagram
        self._socket: ControlSocket | None = None
        self._strangers: set[str] = set()

    def open(self) -> None:
        """Binds. Raises `MediaError`."""
        try:
            self._socket = ControlSocket(self._received, local=self._address, buffer=RECEIVE_BUFFER)
        except OSError as error:
            host, port = self._address
            raise MediaError(f"events of OpenSIPS: {host} port {port} (UDP): {error.strerror or error}") from error

    def close(self) -> None:
        """Frees the port. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _received(self, data: bytes, source: Address) -> None:
        if source[0] in self._sources:
            self._on_datagram(data)
        else:
            self.counts.strangers += 1
            if source[0] not in self._strangers and len(self._strangers) < MOST_STRANGERS:
                self._strangers.add(source[0])
                expected = ", ".join(sorted(self._sources))
                log.warning("events are dropped: the UA has another address", extra={"of": source[0], "ua": expected})
