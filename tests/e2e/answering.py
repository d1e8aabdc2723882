"""Somebody to call: our endpoint, which answers every call, echoes, and notes what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from connector.audio import Audio
from connector.config.model import MediaSettings, SipSettings
from connector.interfaces import Clock, Leg, LegEvent
from connector.leg.embedded import EmbeddedEndpoint
from connector.sip.message import hostport
from connector.udp.ports import PortPool
from connector.udp.ticker import Ticker


@dataclass
class Answering:
    """`legs`: every call; `events`: what the legs reported; `answers` False lets calls ring, `rejects` refuses them."""

    uri: str = ""
    answers: bool = True
    rejects: tuple[int, str] | None = None
    legs: list[Leg] = field(default_factory=list)
    events: list[LegEvent] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def saw(self, kind: type[LegEvent], count: int = 1) -> list[LegEvent]:
        """Waits until `count` events of `kind` were reported, and returns them."""
        async with asyncio.timeout(15):
            while len(found := [event for event in self.events if isinstance(event, kind)]) < count:
                self.changed.clear()
                await self.changed.wait()
        return found

    async def serve(self, leg: Leg) -> None:
        """Takes one call."""
        self.legs.append(leg)
        if self.rejects is not None:
            await leg.reject(*self.rejects)
            return
        await leg.ring()
        if self.answers:
            leg.audio.listen(lambda frame: leg.audio.write(1, Audio(frame.samples, frame.rate)))
            await leg.answer()
        async for event in leg.events():
            self.events.append(event)
            self.changed.set()


@asynccontextmanager
async def answering(clock: Clock, sip: SipSettings | None = None) -> AsyncIterator[Answering]:
    """Runs it on a free port of loopback."""
    callee = Answering()
    ticker = Ticker(clock)
    tasks: list[asyncio.Task[None]] = [asyncio.create_task(ticker.run())]
    endpoint = EmbeddedEndpoint(
        sip or SipSettings(listen="127.0.0.1:0"),
        MediaSettings(),
        clock=clock,
        ticker=ticker,
        ports=PortPool(30_000, 30_998),
        on_call=lambda leg: tasks.append(asyncio.create_task(callee.serve(leg))),
    )
    await endpoint.start()
    callee.uri = f"sip:1000@{hostport(endpoint.local)}"
    try:
        yield callee
    finally:
        await endpoint.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
