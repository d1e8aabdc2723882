"""The turns of a call as a table: what was said, and what the caller waited for."""

from __future__ import annotations

from collections.abc import Sequence

from connector.cli.console import print_table
from connector.cli.logs import printable
from connector.record import Turn

HEARD = 60
"""Characters of what was said that a row of the table shows."""


def print_turns(turns: Sequence[Turn]) -> None:
    """Prints the table; nothing where there was no turn."""
    if turns:
        print_table(
            ("turn", "heard", "spoken", "silence", "end of turn", "stt", "llm", "tts", "playout"),
            [_row(turn) for turn in turns],
        )


def _row(turn: Turn) -> tuple[str, ...]:
    parts = turn.latency.parts_ms
    numbers = (turn.latency.silence_ms, parts.end_of_turn, parts.stt, parts.llm, parts.tts, parts.playout)
    spoken = _short(turn.spoken) + (" (interrupted)" if turn.interrupted else "")
    return (str(turn.number), _short(turn.heard), spoken, *("" if ms is None else f"{ms} ms" for ms in numbers))


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= HEARD else text[: HEARD - 1].rstrip() + "…"
