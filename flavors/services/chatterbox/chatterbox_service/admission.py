"""Who may speak now, who waits for a moment, and who is told to come back."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_SOONEST, _LATEST = 1, 30
"""Bounds of `Retry-After`, seconds."""
_FIRST_GUESS_SECONDS = 3.0
"""How long a stream lasts, before one has ended."""
_MEMORY = 0.9
"""Share of the past in the mean length of streams."""


class Overloaded(Exception):
    """No place was free in time. `retry_after`: seconds after which one may be."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"all streams are taken; try again in {retry_after} s")
        self.retry_after = retry_after


@dataclass(eq=False, slots=True)
class _Ticket:
    client: str
    granted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Admission:
    """Gives out `capacity` places, and lets `queue` requests wait for one, up to `patience` seconds each.

    Places go to the client that has the fewest, among equals in order of arrival. Where the queue is full, a
    newcomer takes the place of the latest request of the client that fills it most, unless that is its own.
    So no client can keep others out, however many requests it sends. `now` is a monotonic clock, in seconds.
    """

    def __init__(self, capacity: int, queue: int, patience: float, now: Callable[[], float]) -> None:
        self._capacity = capacity
        self._queue = queue
        self._patience = patience
        self._now = now
        self._taken: Counter[str] = Counter()
        self._waiting: list[_Ticket] = []
        self._mean_seconds = _FIRST_GUESS_SECONDS

    @property
    def active(self) -> int:
        """Places taken."""
        return self._taken.total()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self, client: str) -> AsyncGenerator[None, None]:
        """A place for as long as the context lasts; raises `Overloaded`."""
        await self._enter(client)
        began = self._now()
        try:
            yield
        finally:
            self._mean_seconds += (1 - _MEMORY) * (self._now() - began - self._mean_seconds)
            self._leave(client)

    async def _enter(self, client: str) -> None:
        self._forget_cancelled()
        if self.active < self._capacity and not self._waiting:
            self._taken[client] += 1
            return
        if len(self._waiting) >= self._queue:
            self._make_room(client)
        ticket = _Ticket(client)
        self._waiting.append(ticket)
        try:
            async with asyncio.timeout(self._patience):
                await ticket.granted
        except TimeoutError:
            self._withdraw(ticket)
            raise self._overloaded() from None
        except asyncio.CancelledError:
            self._withdraw(ticket)
            raise

    def _make_room(self, client: str) -> None:
        shares = Counter(ticket.client for ticket in self._waiting)
        greediest, most = max(shares.items(), key=lambda share: share[1], default=(client, 0))
        if most <= shares[client] + 1:
            raise self._overloaded()
        latest = next(ticket for ticket in reversed(self._waiting) if ticket.client == greediest)
        self._waiting.remove(latest)
        latest.granted.set_exception(self._overloaded())

    def _withdraw(self, ticket: _Ticket) -> None:
        """The request is given up, perhaps in the very moment that it was granted or refused."""
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        elif ticket.granted.done() and not ticket.granted.cancelled() and ticket.granted.exception() is None:
            self._leave(ticket.client)

    def _leave(self, client: str) -> None:
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]
        self._forget_cancelled()
        while self._waiting and self.active < self._capacity:
            # `min` takes the first of equals, and they are in order of arrival.
            ticket = min(self._waiting, key=lambda one: self._taken[one.client])
            self._waiting.remove(ticket)
            self._taken[ticket.client] += 1
            ticket.granted.set_result(None)

    def _forget_cancelled(self) -> None:
        """A request that was cancelled just now has not run since, and is still in the queue."""
        self._waiting = [ticket for ticket in self._waiting if not ticket.granted.done()]

    def _overloaded(self) -> Overloaded:
        seconds = self._mean_seconds * (len(self._waiting) + 1) / self._capacity
        return Overloaded(min(max(math.ceil(seconds), _SOONEST), _LATEST))
