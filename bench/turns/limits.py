"""What must hold, and the table that tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Summary = Mapping[str, Any]
"""One system's figures, as `figures.summary` names them."""


@dataclass(frozen=True)
class Limit:
    """The most that a figure may be."""

    figure: str
    title: str
    most: float


LIMITS: Sequence[Limit] = (
    Limit("v2v_p50", "silence before an answer, median, ms", 600),
    Limit("v2v_p95", "95th percentile", 700),
    Limit("cutoffs", "callers cut off", 0),
    Limit("stale", "stale answers", 0),
    Limit("no_answer", "no answer", 0),
    Limit("cutoffs_of_4_0.7", "cut off in a pause of 0.7 s, of 4", 1),
    Limit("cutoffs_of_4_1.0", "cut off in a pause of 1.0 s, of 4", 1),
    Limit("barge_in_p50", "barge-in, until the voice is silent, median, ms", 110),
    Limit("barge_in_max", "longest", 160),
    Limit("barge_in_missed", "not noticed", 0),
    Limit("echo_disturbed", "replies disturbed by their own echo", 0),
    Limit("backchannel_stopped_of_20", "replies given up for a backchannel or a noise, of 20", 2),
    Limit("backchannel_silence_max", "longest silence of the others, ms", 1000),
    Limit("interruption_missed", "real interruptions missed", 0),
    Limit("history_words_off_max", "history, words off what was heard, at most", 1),
    Limit("pacing_p99", "pacing, 99th percentile, ms", 3),
    Limit("cpu_seconds_per_minute", "CPU, seconds per minute of call", 3),
)


@dataclass(frozen=True)
class Verdict:
    """A figure beside its limit."""

    limit: Limit
    value: float

    @property
    def held(self) -> bool:
        return self.value <= self.limit.most


def judged(summary: Summary) -> list[Verdict]:
    """The limits of what was measured."""
    values = [(limit, summary.get(limit.figure)) for limit in LIMITS]
    return [Verdict(limit, value) for limit, value in values if value is not None]


def missed(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if not verdict.held]


def table(summaries: Mapping[str, Summary]) -> str:
    """The systems side by side as Markdown; the verdict is on the first one."""
    first, *_ = summaries.values()
    lines = [f"| figure | limit | {' | '.join(summaries)} | |", "| --- " * (len(summaries) + 3) + "|"]
    for verdict in judged(first):
        values = [_cell(summary.get(verdict.limit.figure)) for summary in summaries.values()]
        word = "ok" if verdict.held else "**missed**"
        lines.append(f"| {verdict.limit.title} | {verdict.limit.most:g} | {' | '.join(values)} | {word} |")
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
