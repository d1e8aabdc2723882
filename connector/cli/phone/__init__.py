"""A caller's phone: user agents that dial, and a caller who talks and measures on any `Leg`."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, Protocol

from connector.interfaces import Clock, Leg
from connector.sip.message import DEFAULT_PORT


class PhoneKind(Enum):
    """Which user agent dials."""

    AUTO = "auto"
    """pjsua2 where it is installed, else our own."""
    PJSUA2 = "pjsua2"
    OWN = "own"


class Phone(Protocol):
    """A SIP user agent that makes calls."""

    def dial(
        self, uri: str, *, calling: str = "voxtrunk", username: str | None = None, password: str | None = None
    ) -> Coroutine[Any, Any, Leg]:
        """Calls `uri`; returns once it was answered. Raises `CallFailed`; cancelling gives the call up."""


def resolve(kind: PhoneKind) -> PhoneKind:
    """The kind that `AUTO` stands for on this machine."""
    if kind is not PhoneKind.AUTO:
        return kind
    return PhoneKind.PJSUA2 if importlib.util.find_spec("pjsua2") else PhoneKind.OWN


def address_towards(host: str) -> str:
    """Our address on the way to `host`, a name or an IP address. Blocking where it is a name. Raises `OSError`."""
    family, _, _, _, peer = socket.getaddrinfo(host, DEFAULT_PORT, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(peer)
        address: str = probe.getsockname()[0]
        return address


@asynccontextmanager
async def open_phone(kind: PhoneKind, clock: Clock, address: str = "127.0.0.1") -> AsyncIterator[Phone]:
    """A phone at the local `address`. Leaving hangs up what is still up. Raises `PackageMissing`, `MediaError`."""
    if resolve(kind) is PhoneKind.PJSUA2:
        from connector.cli.phone.pjsua import PjsuaPhone

        pjsua = PjsuaPhone(address)
        try:
            await pjsua.start()
            yield pjsua
        finally:
            await pjsua.aclose()
    else:
        from connector.cli.phone.own import own_phone

        async with own_phone(clock, address) as own:
            yield own
