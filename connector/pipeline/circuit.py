"""Whether an engine is asked at all: a circuit breaker (Nygard, "Release It!", chapter 5), its states as a table.

It is shared by all calls of an engine, so that one call pays for finding out that it is dead, and it is closed by
probes in the background, so that no call pays for finding out that it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from types import MappingProxyType

from connector.errors import EngineBusy, EngineError, EngineLate, EngineMistaken, EngineRefused, ProtocolError

FIRST_REST = 5.0
LONGEST_REST = 60.0
"""Seconds of rest for an engine that passes its probes and fails its calls, doubled from the first to the longest."""

MOST_LAPSES = 2
"""An engine that is late or mistaken so often, without serving a request in between, is broken: one that is busy, or
a model that made something up once, serves some."""


class CircuitState(Enum):
    """Whether calls ask the engine."""

    CLOSED = "closed"
    """They do."""
    OPEN = "open"
    """They do not: it failed, or has not begun to serve."""
    HALF_OPEN = "half-open"
    """They do not yet: a probe is on its way."""


class CircuitEvent(Enum):
    """What is known of the engine."""

    SERVED = "served"
    """A request of a call was answered to its end."""
    DOUBTED = "doubted"
    """It refused a request, or was late or mistaken once, as an engine may be that is well: the probe tells."""
    FAILED = "failed"
    """It failed a request, or was late or mistaken again."""
    PROBE_BEGAN = "probe began"
    PROBE_PASSED = "probe passed"
    PROBE_FAILED = "probe failed"


TRANSITIONS: Mapping[tuple[CircuitState, CircuitEvent], CircuitState] = MappingProxyType(
    {
        (CircuitState.CLOSED, CircuitEvent.SERVED): CircuitState.CLOSED,
        (CircuitState.CLOSED, CircuitEvent.DOUBTED): CircuitState.CLOSED,
        (CircuitState.CLOSED, CircuitEvent.FAILED): CircuitState.OPEN,
        (CircuitState.CLOSED, CircuitEvent.PROBE_BEGAN): CircuitState.CLOSED,
        (CircuitState.CLOSED, CircuitEvent.PROBE_PASSED): CircuitState.CLOSED,
        (CircuitState.CLOSED, CircuitEvent.PROBE_FAILED): CircuitState.OPEN,
        # Requests that began before it opened end after it: only a probe closes it.
        (CircuitState.OPEN, CircuitEvent.SERVED): CircuitState.OPEN,
        (CircuitState.OPEN, CircuitEvent.DOUBTED): CircuitState.OPEN,
        (CircuitState.OPEN, CircuitEvent.FAILED): CircuitState.OPEN,
        (CircuitState.OPEN, CircuitEvent.PROBE_BEGAN): CircuitState.HALF_OPEN,
        # Of a probe that began before the failure: it says nothing of what came after.
        (CircuitState.OPEN, CircuitEvent.PROBE_PASSED): CircuitState.OPEN,
        (CircuitState.OPEN, CircuitEvent.PROBE_FAILED): CircuitState.OPEN,
        (CircuitState.HALF_OPEN, CircuitEvent.SERVED): CircuitState.HALF_OPEN,
        (CircuitState.HALF_OPEN, CircuitEvent.DOUBTED): CircuitState.HALF_OPEN,
        (CircuitState.HALF_OPEN, CircuitEvent.FAILED): CircuitState.HALF_OPEN,
        (CircuitState.HALF_OPEN, CircuitEvent.PROBE_PASSED): CircuitState.CLOSED,
        (CircuitState.HALF_OPEN, CircuitEvent.PROBE_FAILED): CircuitState.OPEN,
    }
)
"""Every (state, event) that may happen, and the state that follows."""


class Circuit:
    """The circuit of the engine `name`, open until a first probe passes.

    `on_trouble` is called when a probe is due: a request has failed, or had nobody to go to.
    """

    def __init__(self, name: str, on_trouble: Callable[[], None]) -> None:
        self.name = name
        self.state = CircuitState.OPEN
        self.cause = ""
        """Why it is not closed, or was not closed last; "" before anything is known."""
        self._on_trouble = on_trouble
        self._fruitless = 0
        """How often requests opened it since one was served."""
        self._lapses = 0
        """How often the engine was late or mistaken since then."""

    @property
    def closed(self) -> bool:
        """Whether calls ask the engine."""
        return self.state is CircuitState.CLOSED

    @property
    def problem(self) -> str:
        """Why it is not asked; "" where it is."""
        return "" if self.closed else self.cause or f"{self.name}: starting"

    @property
    def rest(self) -> float:
        """Seconds until the next probe is due: none after a first failure, since most engines are back at once.

        An engine whose probes pass and whose requests fail rests for longer each time.
        """
        if self._fruitless < 2:
            return 0.0
        return min(FIRST_REST * 2.0 ** (self._fruitless - 2), LONGEST_REST)

    def served(self) -> None:
        """A request of a call was answered to its end."""
        self._apply(CircuitEvent.SERVED)
        if self.closed:
            self._fruitless = self._lapses = 0

    def failed(self, error: EngineError) -> None:
        """A request of a call failed with `error`."""
        if isinstance(error, EngineBusy):
            return  # who says so at once is well: other requests have their places, and a probe would want one
        was_closed = self.closed
        lapse = isinstance(error, (EngineLate, EngineMistaken))
        self._lapses += lapse
        doubtful = isinstance(error, EngineRefused) or (lapse and self._lapses < MOST_LAPSES)
        self._apply(CircuitEvent.DOUBTED if doubtful else CircuitEvent.FAILED)
        if not self.closed and was_closed:
            self._fruitless += 1
            self.cause = str(error)
        if was_closed:
            self._on_trouble()

    def missed(self) -> None:
        """A request found no engine to go to, this one among them."""
        if not self.closed:
            self._on_trouble()

    def probe_began(self) -> None:
        """The engine is being probed."""
        self._apply(CircuitEvent.PROBE_BEGAN)

    def probe_passed(self) -> None:
        """The probe that began last passed."""
        self._apply(CircuitEvent.PROBE_PASSED)

    def probe_failed(self, cause: str) -> None:
        """The probe that began last failed."""
        self._apply(CircuitEvent.PROBE_FAILED)
        self.cause = cause

    def _apply(self, event: CircuitEvent) -> None:
        following = TRANSITIONS.get((self.state, event))
        if following is None:
            raise ProtocolError(f"circuit: {event.value!r} cannot happen while it is {self.state.value}")
        self.state = following


def diagram() -> str:
    """The table as a Mermaid state diagram, without what changes nothing."""
    lines = ["stateDiagram-v2", f"    [*] --> {CircuitState.OPEN.name}"]
    lines += [
        f"    {state.name} --> {following.name}: {event.value}"
        for (state, event), following in TRANSITIONS.items()
        if following is not state
    ]
    return "\n".join(lines) + "\n"
