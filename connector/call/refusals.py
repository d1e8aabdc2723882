"""Calls that were refused at the door: counted, and logged as far as the log bears."""

from __future__ import annotations

import logging
from collections.abc import Callable

from connector.interfaces import Clock
from connector.leg.endpoint import Refusal

log = logging.getLogger(__name__)

BURST = 5
"""Refusals with one status that are logged at once."""

SECONDS_PER_LINE = 10.0
"""Each so many seconds one more may be."""


class Throttle:
    """Lets the first `burst` of a kind through, and then one each `seconds`; counts what it holds back."""

    def __init__(self, burst: int = BURST, seconds: float = SECONDS_PER_LINE) -> None:
        self._burst = burst
        self._seconds = seconds
        self._spent = 0.0
        self._at = 0.0
        self._held_back = 0

    def admit(self, now: float) -> int | None:
        """None: hold this one back. Otherwise how many were held back since the last one that went through."""
        self._spent = max(0.0, self._spent - (now - self._at) / self._seconds)
        self._at = now
        if self._spent > self._burst - 1:
            self._held_back += 1
            return None
        self._spent += 1
        held_back, self._held_back = self._held_back, 0
        return held_back


class Refusals:
    """Takes an endpoint's refusals: `count` gets the status of each, the log as many as a scanner must not exceed."""

    def __init__(self, count: Callable[[int], None], clock: Clock) -> None:
        self._count = count
        self._clock = clock
        self._throttles: dict[int, Throttle] = {}

    def __call__(self, refusal: Refusal) -> None:
        self._count(refusal.status)
        unlogged = self._throttles.setdefault(refusal.status, Throttle()).admit(self._clock.now())
        if unlogged is None:
            return
        log.warning(
            "call refused at the door",
            extra={
                "status": refusal.status,
                "reason": refusal.reason,
                "peer": refusal.info.peer,
                "called": refusal.info.called,
                "call_id": refusal.info.call_id,
                "unlogged": unlogged,
            },
        )
