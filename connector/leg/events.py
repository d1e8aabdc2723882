"""A leg's events, on their way to the one who reads them, and the ladder of its SIP messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from connector.interfaces import Clock, LegEvent, SignallingStep, Terminated

LONGEST_LADDER = 500
"""Steps of one leg that are kept: a far end that re-INVITEs for ever fills no memory."""


LONGEST_TEXT = 200
"""Characters of a message and of a note that are kept."""


class Ladder:
    """What a leg said and heard, step by step. Of more than `LONGEST_LADDER` steps the first ones are kept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._steps: list[SignallingStep] = []

    @property
    def steps(self) -> Sequence[SignallingStep]:
        """So far, oldest first."""
        return tuple(self._steps)

    def sent(self, message: str, note: str = "") -> None:
        """We sent `message`."""
        self._add(True, message, note)

    def received(self, message: str, note: str = "") -> None:
        """The far end sent `message`."""
        self._add(False, message, note)

    def _add(self, sent: bool, message: str, note: str) -> None:
        if len(self._steps) < LONGEST_LADDER:
            step = SignallingStep(self._clock.now(), sent, message[:LONGEST_TEXT], note[:LONGEST_TEXT])
            self._steps.append(step)


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
