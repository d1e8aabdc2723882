"""The one 20 ms clock of the process: an absolute schedule that drives every RTP leg."""

from __future__ import annotations

import logging
from collections.abc import Callable

from connector.audio import FRAME_SECONDS
from connector.interfaces import Clock
from connector.udp.media import MediaSockets

log = logging.getLogger(__name__)

CATCH_UP = 10
"""Ticks made up after a stall: 200 ms, what a usual jitter buffer bridges."""

WORTH_WAITING_SECONDS = 0.001
"""Less is not felt, and waiting costs a wake-up of the event loop."""

Tick = Callable[[float], None]
"""Called with the time at which the tick was due (not the time at which it runs)."""


class Schedule:
    """Times on an absolute grid: tick n is due at `start + n * period`, however late its forerunners ran.

    After a stall the missed ticks are due at once, so that no audio is lost in either direction and
    RTP timestamps stay true. Of a longer stall only the last `catch_up` ticks are made up: a far end
    has given up on older packets, and a burst of them would only delay what is new. The others are
    `skipped`; a leg sees that by the distance between two ticks.
    """

    def __init__(self, start: float, period: float = FRAME_SECONDS, catch_up: int = CATCH_UP) -> None:
        self._start = start
        self._period = period
        self._catch_up = catch_up
        self._tick = 0
        self.skipped = 0
        """Ticks that were never run."""

    @property
    def next(self) -> float:
        """When the next tick is due."""
        return self._start + self._tick * self._period

    def due(self, now: float) -> list[float]:
        """The times of all ticks due until `now`, oldest first; each is returned once."""
        # The 1 µs forgives a timer that fires a rounding error early, which would cost a second wake-up.
        last = int((now - self._start + 1e-6) // self._period)
        first = max(self._tick, last + 1 - self._catch_up)
        self.skipped += first - self._tick
        self._tick = max(self._tick, last + 1)
        return [self._start + tick * self._period for tick in range(first, last + 1)]


class Evenness:
    """How long after a tick's time its packets leave, so that they do so evenly.

    To make them takes a while that varies. They leave when in 99 of 100 ticks all of them are made: a 99th percentile,
    followed by a step up where it was too short and a 99th of it down where it was not (Robbins and Monro 1951).
    """

    STEP_SECONDS = 0.0001
    MOST_SECONDS = 0.005
    """Of delay that is added for it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """After the tick's time."""

    def take(self, seconds: float) -> None:
        """The packets of a tick were made so long after its time."""
        if seconds > self.seconds:
            self.seconds = min(self.seconds + self.STEP_SECONDS, self.MOST_SECONDS)
        else:
            self.seconds = max(self.seconds - self.STEP_SECONDS / 99, 0.0)


class Ticker:
    """Each 20 ms: those go who come `first`, then packets leave and what has arrived is read, then all others go.

    Everybody keeps the place in which they were added, so that no leg's packets leave earlier once and
    later once. A callback that raises is removed and its `on_failure` is told; the other legs do not notice.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._schedule = Schedule(clock.now())
        self._first: _Callbacks = {}
        self._then: _Callbacks = {}
        self._evenness = Evenness()
        self.sockets = MediaSockets()
        """The media sockets of all legs."""
        self.sent_at = clock.now()
        """Clock time at which the packets of the latest tick had left."""
        self.lag = 0.0
        """Seconds by which the latest tick ran late: the event loop's saturation."""

    @property
    def skipped(self) -> int:
        """Ticks that were given up after stalls."""
        return self._schedule.skipped

    def add(
        self, callback: Tick, on_failure: Callable[[Exception], None] | None = None, *, first: bool = False
    ) -> Callable[[], None]:
        """Calls `callback(due)` at every tick until the returned function is called (idempotent).

        `first` is for what must be even: it waits for nobody's work but that of others who go first.
        """
        callbacks = self._first if first else self._then
        key = object()
        callbacks[key] = (callback, on_failure)

        def remove() -> None:
            callbacks.pop(key, None)

        return remove

    async def run(self) -> None:
        """Ticks until cancelled."""
        self._schedule = Schedule(self._clock.now())
        while True:
            await self._clock.sleep_until(self._schedule.next)
            now = self._clock.now()
            ticks = self._schedule.due(now)
            for due in ticks[:-1]:
                self.tick(due)
            for due in ticks[-1:]:
                self.lag = now - due
                _call(self._first, due)
                await self._until_even(due)
                self._exchange(due)

    def tick(self, due: float) -> None:
        """One tick, as `run` makes them but for waiting: for those who keep time themselves."""
        _call(self._first, due)
        self._exchange(due)

    async def _until_even(self, due: float) -> None:
        """Waits until packets of this tick are as late as those of the others."""
        made = self._clock.now()
        self._evenness.take(made - due)
        at = due + self._evenness.seconds
        if at - made > WORTH_WAITING_SECONDS:
            await self._clock.sleep_until(at)

    def _exchange(self, due: float) -> None:
        self.sockets.send()
        self.sent_at = self._clock.now()
        self.sockets.read(self.sent_at, self._clock.wall())
        _call(self._then, due)


_Callbacks = dict[object, tuple[Tick, Callable[[Exception], None] | None]]


def _call(callbacks: _Callbacks, due: float) -> None:
    for key, (callback, on_failure) in tuple(callbacks.items()):
        if key not in callbacks:  # an earlier callback of this tick removed it
            continue
        try:
            callback(due)
        except Exception as error:
            # The one boundary between legs, whose callbacks end in listeners and taps of all kinds: whatever
            # one of them raises, the others must go on sounding.
            del callbacks[key]
            if on_failure is None:
                log.exception("a tick failed and is not called again")
            else:
                on_failure(error)
