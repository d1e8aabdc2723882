"""A call's state table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from connector.errors import ProtocolError


class State(Enum):
    """Where a call is. EARLY and CONFIRMED are the dialog states of RFC 3261 section 12."""

    NEW = "new"
    EARLY = "early"
    """We ring."""
    ANSWERED = "answered"
    """200 OK was sent."""
    CONFIRMED = "confirmed"
    """The answer was acknowledged: we talk."""
    HELD = "held"
    REJECTED = "rejected"
    TERMINATED = "terminated"


class Event(Enum):
    """What changes it: our own verbs, and what the leg reports."""

    RING = "ring"
    ANSWER = "answer"
    REJECT = "reject"
    ESTABLISH = "establish"
    HOLD = "hold"
    RESUME = "resume"
    TERMINATE = "terminate"


TABLE: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.NEW, Event.RING): State.EARLY,
        (State.NEW, Event.ANSWER): State.ANSWERED,
        (State.NEW, Event.REJECT): State.REJECTED,
        (State.NEW, Event.TERMINATE): State.TERMINATED,
        (State.EARLY, Event.ANSWER): State.ANSWERED,
        (State.EARLY, Event.REJECT): State.REJECTED,
        (State.EARLY, Event.TERMINATE): State.TERMINATED,
        (State.ANSWERED, Event.ESTABLISH): State.CONFIRMED,
        (State.ANSWERED, Event.TERMINATE): State.TERMINATED,
        (State.CONFIRMED, Event.HOLD): State.HELD,
        (State.CONFIRMED, Event.TERMINATE): State.TERMINATED,
        (State.HELD, Event.RESUME): State.CONFIRMED,
        (State.HELD, Event.TERMINATE): State.TERMINATED,
        (State.REJECTED, Event.TERMINATE): State.TERMINATED,
    }
)
"""Every event that a state knows, with the state it leads to. What is not here cannot happen."""


class CallState:
    """The state of one call."""

    def __init__(self) -> None:
        self.state = State.NEW

    def allows(self, event: Event) -> bool:
        """Whether the table knows `event` here."""
        return (self.state, event) in TABLE

    def apply(self, event: Event) -> State:
        """Moves on; raises `ProtocolError`, changing nothing, where the table lacks `event`."""
        try:
            self.state = TABLE[self.state, event]
        except KeyError:
            raise ProtocolError(f"a call that is {self.state.value} knows no {event.value}") from None
        return self.state


def mermaid() -> str:
    """The table as a Mermaid state diagram."""
    arrows = [f"    {source.name} --> {target.name}: {event.value}" for (source, event), target in TABLE.items()]
    return "\n".join(["stateDiagram-v2", "    [*] --> NEW", *arrows, "    TERMINATED --> [*]"])
