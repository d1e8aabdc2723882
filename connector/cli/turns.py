"""The turns of a call as tables: what was said, what the caller waited for, and what it took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from connector.cli.console import console, print_table
from connector.cli.logs import printable
from connector.interfaces import EngineKind, ServiceOutcome
from connector.record import Latency, Service, Turn, percentiles

HEARD = 60
"""Characters of what was said that a row of the table shows."""

PARTS = ("end_of_turn", "stt", "llm", "sentence", "tts", "held", "playout")
"""Fields of `Parts`, in the order in which they follow one another."""


def print_turns(turns: Sequence[Turn]) -> None:
    """Prints what was said, what it was waited for, and what it took; nothing where there was no turn."""
    if turns:
        print_table(("turn", "heard", "spoken"), [(str(turn.number), *_words(turn)) for turn in turns])
        print_latency(turns)
        print_services([service for turn in turns for service in turn.services])


def print_latency(turns: Sequence[Turn]) -> None:
    """Prints the silence before each answer and its parts; nothing where there was no answer."""
    rows = latency_rows(turns)
    if rows:
        console().print("\nsilence on the wire before each answer, and its parts, which add up to it (ms)")
        print_table(("turn", "silence", "decided after", *(part.replace("_", " ") for part in PARTS)), rows)


def latency_rows(turns: Sequence[Turn]) -> list[tuple[str, ...]]:
    """A row for each turn in which something was heard, and those of the percentiles of each column.

    Percentiles are of the turns that answered speech; of different columns they need not be of the same turn.
    """
    figures = {turn.number: _figures(turn.latency) for turn in turns}
    rows = [(str(number), *map(_cell, row)) for number, row in figures.items() if any(ms is not None for ms in row)]
    answers = [row for row in figures.values() if row[0] is not None]
    columns = [percentiles(column) for column in zip(*answers, strict=True)]
    for index, label in enumerate(("p50", "p95")):
        if columns:
            rows.append((label, *(_cell(column[index]) for column in columns)))
    return rows


def print_services(services: Sequence[Service]) -> None:
    """Prints what was asked of each engine; nothing where nothing was."""
    if services:
        console().print("\nrequests to engines (times in ms, p50 / p95)")
        outcomes = (outcome.value for outcome in ServiceOutcome)
        columns = ("", "engine", "requests", *outcomes, "first", "total", "characters", "tokens", "audio")
        print_table(columns, service_rows(services))


def service_rows(services: Iterable[Service]) -> list[tuple[str, ...]]:
    """A row for each engine: its requests by outcome, its times, and what went in and came out.

    Engines that succeed one another have their number before the name.
    """

    order = list(EngineKind)

    def engine(service: Service) -> tuple[int, int, str]:
        return order.index(service.kind), service.rung or 0, service.engine

    rows = []
    for (kind, rung, name), group in groupby(sorted(services, key=engine), engine):
        asked = list(group)
        rows.append(
            (
                order[kind].value,
                f"{rung}. {printable(name)}" if rung else printable(name),
                str(len(asked)),
                *(str(sum(one.outcome is outcome for one in asked) or "") for outcome in ServiceOutcome),
                _span(one.first_ms for one in asked),
                _span(one.total_ms for one in asked),
                _flow(sum(one.characters_in for one in asked), sum(one.characters_out for one in asked)),
                _flow(sum(one.tokens_in for one in asked), sum(one.tokens_out for one in asked)),
                _flow(sum(one.audio_in for one in asked), sum(one.audio_out for one in asked), ".1f", " s"),
            )
        )
    return rows


def _figures(latency: Latency) -> tuple[int | None, ...]:
    return latency.silence_ms, latency.decided_ms, *(getattr(latency.parts_ms, part) for part in PARTS)


def _cell(milliseconds: int | None) -> str:
    return "" if milliseconds is None else str(milliseconds)


def _span(values: Iterable[int | None]) -> str:
    """`120 / 180`."""
    return " / ".join(_cell(value) for value in percentiles(values) if value is not None)


def _flow(given: float, came: float, form: str = "d", unit: str = "") -> str:
    """`12 in, 140 out`."""
    return ", ".join(f"{amount:{form}}{unit} {way}" for amount, way in ((given, "in"), (came, "out")) if amount)


def _words(turn: Turn) -> tuple[str, str]:
    return _short(turn.heard), _short(turn.spoken) + (" (interrupted)" if turn.interrupted else "")


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= HEARD else text[: HEARD - 1].rstrip() + "…"
