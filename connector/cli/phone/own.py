"""Our own user agent as a phone: the embedded endpoint, dialling."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

from connector.config.model import MediaSettings, SipSettings
from connector.interfaces import Clock, Leg
from connector.leg.embedded import EmbeddedEndpoint
from connector.sip.message import hostport
from connector.udp.ports import PortPool
from connector.udp.ticker import Ticker

PORTS = (50_000, 59_998)
"""Where a phone's RTP may lie, away from the connector's own default range."""

SHARE = 1_000
"""Ports that one phone looks at: two calls to one phone rarely meet those of another phone on the machine."""


@asynccontextmanager
async def own_phone(clock: Clock, address: str = "127.0.0.1") -> AsyncIterator[EmbeddedEndpoint]:
    """The endpoint on a free port of `address`. Raises `MediaError`."""
    ticker = Ticker(clock)
    first = random.randrange(*PORTS, SHARE)
    ports = PortPool(first, first + SHARE - 1)

    def refuse(leg: Leg) -> None:
        """This phone only dials."""
        endpoint.spawn(leg.reject(480, "Temporarily Unavailable"))

    endpoint = EmbeddedEndpoint(
        # Whom to let in must be said off loopback; nobody but ourselves.
        SipSettings(listen=hostport((address, 0)), allow=(ip_network(address),)),
        MediaSettings(codecs=("PCMU", "PCMA")),  # a telephone line: what it hears and says is at 8 kHz
        clock=clock,
        ticker=ticker,
        ports=ports,
        on_call=refuse,
    )
    ticking = asyncio.create_task(ticker.run(), name="phone: ticker")
    try:
        await endpoint.start()
        yield endpoint
    finally:
        await endpoint.aclose()
        ticking.cancel()
        await asyncio.wait({ticking})
