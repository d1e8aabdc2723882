"""All calls of the process: admission, list, drain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from connector.call.call import Call
from connector.call.containment import outcome
from connector.call.pressure import Pressure
from connector.errors import Overloaded
from connector.interfaces import Party

log = logging.getLogger(__name__)


GOODBYE_SECONDS = 2.0
"""How long stopping waits for the far ends to acknowledge the end of their calls."""


class Registry:
    """Runs calls, each in a task of its own.

    `cap`: calls at once; `retry_after`: seconds told to one more, which is refused also while `pressure` is too high.
    """

    def __init__(self, cap: int, retry_after: int, pressure: Pressure | None = None) -> None:
        self._cap = cap
        self._retry_after = retry_after
        self._pressure = pressure or Pressure()
        self._tasks: set[asyncio.Task[object]] = set()
        self._calls: list[Call] = []
        self._draining = False

    @property
    def calls(self) -> Sequence[Call]:
        """Calls that have a place, oldest first."""
        return tuple(self._calls)

    @property
    def draining(self) -> bool:
        """Whether new calls are refused because the process is about to stop."""
        return self._draining

    @contextmanager
    def admit(self, call: Call) -> Iterator[None]:
        """A place for `call`; raises `Overloaded` where there is none."""
        if self._draining:
            raise Overloaded("shutting down", self._retry_after)
        if len(self._calls) >= self._cap:
            raise Overloaded(f"all {self._cap} calls are taken", self._retry_after)
        if self._pressure.too_high:
            late = f"{self._pressure.late * 1000:.0f} ms"
            raise Overloaded(f"the machine does not keep up: audio leaves {late} late", self._retry_after)
        self._calls.append(call)
        try:
            yield
        finally:
            self._calls.remove(call)

    def take(self, call: Call) -> None:
        """Runs `call` from now on."""
        task: asyncio.Task[object] = asyncio.create_task(call.run(), name=f"call {call.info.call_id}")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def hang_up(self, call: Call, reason: str) -> None:
        """Ends `call` politely, beside."""
        task: asyncio.Task[object] = asyncio.create_task(call.end(Party.SYSTEM, reason), name="hang up")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def drain(self, seconds: float) -> None:
        """Takes no more calls, gives those in progress `seconds` to end, then hangs up. Returns when all are over."""
        self._draining = True
        if self._tasks and seconds > 0:
            await asyncio.wait(self._tasks, timeout=seconds)
        await self.stop()

    async def stop(self) -> None:
        """Hangs up all calls; those whose far end does not answer are dropped. All records are written."""
        self._draining = True
        goodbyes = [asyncio.create_task(outcome(call.end(Party.SYSTEM, "shutting down"))) for call in self.calls]
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GOODBYE_SECONDS)
        for task in (*goodbyes, *self._tasks):
            task.cancel()
        if goodbyes or self._tasks:
            await asyncio.wait({*goodbyes, *self._tasks})

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("bug at the end of a call", exc_info=error)
