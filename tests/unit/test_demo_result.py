"""What the demo makes of a call: rows, and everything that should have been otherwise."""

from __future__ import annotations

from datetime import UTC, datetime

from connector.cli.demo import Outcome, Said, failures_of, rows_of
from connector.cli.phone.caller import Spurt
from connector.cli.phone.plan import Line
from connector.interfaces import Party, TimingSource
from connector.record import CallRecord, Disposition, Files, Latency, Parts, Turn

ANSWERED = 1000.0
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def turn(number: int, heard: str, intent: str | None, start: float, *, interrupted: bool = False) -> Turn:
    return Turn(
        number=number, heard=heard, reply=f"Reply {number}.", spoken=f"Reply {number}.", interrupted=interrupted,
        intent=intent, caller_start=start if heard else None, caller_end=start + 2 if heard else None,
        agent_start=start + 3, agent_end=start + 6, latency=Latency(silence_ms=1000, parts_ms=Parts()),
    )  # fmt: skip


def record(*turns: Turn) -> CallRecord:
    return CallRecord(
        call_id="demo", called="1000", calling="voxtrunk", peer="127.0.0.1:5060", flavor="offline", route="number 1000",
        disposition=Disposition.ANSWERED, ended_by=Party.AGENT, reason="completed", status=None, setup=NOW,
        answered=NOW, ended=NOW, setup_seconds=0.1, duration_seconds=40.0, timing=TimingSource.WIRE, media=None,
        turns=list(turns), errors=[], files=Files(cdr="demo.cdr.json"),
    )  # fmt: skip


def said(text: str, intent: str, start: float, *, interrupts: bool = False) -> Said:
    """Said `start` seconds after the answer, answered a second after its end."""
    spurt = Spurt(ANSWERED + start, ANSWERED + start + 2)
    return Said(Line(text, intent, "", interrupts=interrupts), spurt, v2v=1.0)


def outcome(*lines: Said, turns: tuple[Turn, ...]) -> Outcome:
    return Outcome("demo", ANSWERED, list(lines), [], record(*turns))


GREETING = turn(0, "", None, 0.0)


def test_a_call_as_it_should_be_has_a_row_for_each_line_and_no_failures() -> None:
    result = outcome(
        said("when are you open", "hours", 7.0),
        said("Play some jazz.", "", 12.0, interrupts=True),
        turns=(
            GREETING,
            turn(1, "when are you open", "hours", 7.0, interrupted=True),
            turn(2, "ray sum chess", "", 12.1),
        ),
    )
    rows = rows_of(result)
    assert [(row.said, row.heard, row.intent_ok, row.v2v_ms, row.interrupted) for row in rows] == [
        ("when are you open", "when are you open", True, 1000, True),
        ("Play some jazz.", "ray sum chess", True, 1000, False),
    ]
    assert failures_of(result, rows) == []


def test_an_answer_to_what_nobody_could_understand_is_a_failure() -> None:
    result = outcome(said("Play some jazz.", "", 7.0), turns=(GREETING, turn(1, "parking please", "parking", 7.0)))
    (failure,) = failures_of(result, rows_of(result))
    assert failure == "wrong intent for: Play some jazz. (heard: parking please)"


def test_a_line_that_no_turn_heard_is_a_failure() -> None:
    result = outcome(said("when are you open", "hours", 20.0), turns=(GREETING, turn(1, "hello", "hello", 7.0)))
    (row,) = rows_of(result)
    assert (row.heard, row.reply, row.intent_ok) == ("", "", False)
    assert failures_of(result, [row]) == ["wrong intent for: when are you open (heard: nothing)"]


def test_the_record_must_know_of_the_interruption_and_of_no_other() -> None:
    lines = (said("when are you open", "hours", 7.0), said("parking please", "parking", 12.0, interrupts=True))
    heard = turn(1, "when are you open", "hours", 7.0), turn(2, "parking please", "parking", 12.0, interrupted=True)
    result = outcome(*lines, turns=(GREETING, *heard))
    assert failures_of(result, rows_of(result)) == [
        "by the record, the reply to 'when are you open' was heard in full",
        "by the record, the reply to 'parking please' was interrupted, by nobody",
    ]


def test_a_step_that_did_not_happen_stays_a_failure() -> None:
    result = Outcome(failures=["no greeting was heard"])
    assert failures_of(result, rows_of(result)) == ["no greeting was heard"]
