"""The call's state table."""

from __future__ import annotations

import itertools

import pytest

from connector.call.state import TABLE, CallState, Event, State, mermaid
from connector.errors import ProtocolError


def test_a_usual_call_passes_through_its_states() -> None:
    call = CallState()
    events = (Event.RING, Event.ANSWER, Event.ESTABLISH, Event.HOLD, Event.RESUME, Event.TERMINATE)
    assert [call.apply(event) for event in events] == [
        State.EARLY,
        State.ANSWERED,
        State.CONFIRMED,
        State.HELD,
        State.CONFIRMED,
        State.TERMINATED,
    ]


@pytest.mark.parametrize(("state", "event"), [pair for pair in itertools.product(State, Event) if pair not in TABLE])
def test_an_event_that_the_table_lacks_raises_and_changes_nothing(state: State, event: Event) -> None:
    call = CallState()
    call.state = state
    with pytest.raises(ProtocolError, match=event.value):
        call.apply(event)
    assert call.state is state


def test_every_state_but_the_last_can_end_and_is_reached() -> None:
    reached = {State.NEW, *TABLE.values()}
    assert reached == set(State)
    assert all((state, Event.TERMINATE) in TABLE for state in State if state is not State.TERMINATED)


def test_only_one_final_answer() -> None:
    """RFC 3261 section 13.3.1: after a final response there is no other."""
    finals = {Event.ANSWER, Event.REJECT}
    after = {TABLE[pair] for pair in TABLE if pair[1] in finals}
    assert not [(state, event) for state in after for event in finals if (state, event) in TABLE]


def test_the_diagram_shows_every_arrow() -> None:
    diagram = mermaid()
    assert diagram.startswith("stateDiagram-v2\n    [*] --> NEW\n")
    for (source, event), target in TABLE.items():
        assert f"    {source.name} --> {target.name}: {event.value}\n" in diagram
    assert diagram.endswith("TERMINATED --> [*]")
