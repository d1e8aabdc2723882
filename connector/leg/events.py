"""A leg's events, on their way to the one who reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from connector.interfaces import LegEvent, Terminated


class LegEvents:
    """A queue that ends with `Terminated`: what is emitted after it is dropped."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[LegEvent] = asyncio.Queue()
        self._terminated = False
        self._read_out = False

    @property
    def terminated(self) -> bool:
        """Whether the leg is over, read or not."""
        return self._terminated

    def emit(self, event: LegEvent) -> None:
        """Appends `event`, unless the leg is over."""
        if not self._terminated:
            self._terminated = isinstance(event, Terminated)
            self._queue.put_nowait(event)

    async def read(self) -> AsyncIterator[LegEvent]:
        """Events in order; ends after `Terminated`. One reader at a time."""
        while not self._read_out:
            event = await self._queue.get()
            self._read_out = isinstance(event, Terminated)
            yield event
