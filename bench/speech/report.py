"""The figures, for programs and for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.speech.network import BURST
from bench.speech.verdict import CLEAN_LINE_P50, Comparison, Figures, Row, figures


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that a run found. `clean_p50`, `clean_p95`: seconds that our receive path adds on a clean line."""

    sentences: int
    voices: Sequence[str]
    speech_seconds: float
    seeds: Sequence[int]
    rows: Sequence[Row]
    clean_p50: float
    clean_p95: float
    comparisons: Sequence[Comparison]

    @property
    def behind(self) -> list[Comparison]:
        """Where ours is not ahead."""
        return [one for one in self.comparisons if not one.ahead]

    @property
    def good(self) -> bool:
        """Ours is ahead in every lossy row, and quick on a clean line."""
        return not self.behind and self.clean_p50 <= CLEAN_LINE_P50


def as_json(result: Result) -> dict[str, Any]:
    """For programs: seconds became milliseconds."""
    return {
        "sentences": result.sentences,
        "voices": list(result.voices),
        "speech_seconds": round(result.speech_seconds, 1),
        "seeds": list(result.seeds),
        "mean_burst_packets": BURST,
        "rows": [
            {
                "loss": row.impairment.loss,
                "bursty": row.impairment.bursty,
                "jitter_ms": round(1000 * row.impairment.jitter, 1),
                "packets": row.packets,
                "lost": row.lost,
                "reordered": row.reordered,
                "systems": {
                    system: {
                        **_figures(figures(scores)),
                        "stoi_by_seed": [round(score.stoi, 4) for score in scores],
                        "errors_by_seed": [score.errors for score in scores],
                    }
                    for system, scores in row.scores.items()
                },
            }
            for row in result.rows
        ],
        "clean_line_ms": {"p50": round(1000 * result.clean_p50, 1), "p95": round(1000 * result.clean_p95, 1)},
        "all_with_loss": {
            name: {"stoi": round(stoi, 4), "wer": round(wer, 4)} for name, (stoi, wer) in totals(result.rows).items()
        },
        "comparisons": [
            {
                "row": str(one.impairment),
                "peer": one.peer,
                "stoi": round(one.stoi, 4),
                "words_wrong": one.errors,
                "by_chance": one.by_chance,
                "ahead": one.ahead,
            }
            for one in result.comparisons
        ],
        "good": result.good,
    }


def show(result: Result, console: Console) -> None:
    """For people."""
    systems = list(result.rows[0].scores)
    table = Table(
        title="STOI (1 is the best), words wrong in %, delay added in ms (p50-p95)",
        caption=f"{result.sentences} sentences, {result.speech_seconds:.0f} s of speech, seeds "
        f"{', '.join(map(str, result.seeds))}; bursts of {BURST:.0f} packets on average",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("loss, jitter", no_wrap=True)
    for system in systems:
        table.add_column(system, justify="right", no_wrap=True)
    for row in result.rows:
        summed = [figures(scores) for scores in row.scores.values()]
        best = max(one.stoi for one in summed)
        cells = [f"[bold]{_cell(one)}[/]" if one.stoi == best else _cell(one) for one in summed]
        table.add_row(str(row.impairment), *cells)
    table.add_section()
    table.add_row(
        "all with loss", *(f"{stoi:.3f} {100 * wer:4.1f} {'':>7}" for stoi, wer in totals(result.rows).values())
    )
    console.print(table)
    console.print(
        f"clean line: our receive path adds {1000 * result.clean_p50:.1f} ms p50, {1000 * result.clean_p95:.1f} ms p95 "
        f"(at most {1000 * CLEAN_LINE_P50:.0f} ms p50)"
    )
    for line in verdict(result):
        console.print(line)


def verdict(result: Result) -> Iterator[str]:
    """Where ours is ahead, a line per peer."""
    for peer in dict.fromkeys(one.peer for one in result.comparisons):
        lossy = [one for one in result.comparisons if one.peer == peer]
        signs = [(one.errors > 0) - (one.errors < 0) for one in lossy]
        behind = "; ".join(
            f"{one.impairment} (STOI {one.stoi:+.4f}, words wrong {one.errors:+d})" for one in lossy if not one.ahead
        )
        yield (
            f"{peer}: ours has the higher STOI in {sum(one.stoi > 0 for one in lossy)} of {len(lossy)} rows with loss; "
            f"fewer words wrong in {signs.count(-1)}, as many in {signs.count(0)}, more in {signs.count(1)} "
            f"(beyond chance in {sum(one.errors > 0 and not one.by_chance for one in lossy)})"
            f"{'; not ahead in: ' + behind if behind else ''}"
        )


def totals(rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    """Mean STOI and share of words wrong of each system over all rows with loss."""
    lossy = [{name: figures(scores) for name, scores in row.scores.items()} for row in rows if row.impairment.loss]
    return {
        name: (
            sum(row[name].stoi for row in lossy) / len(lossy),
            sum(row[name].errors for row in lossy) / sum(row[name].words for row in lossy),
        )
        for name in (lossy[0] if lossy else ())
    }


def _cell(one: Figures) -> str:
    delays = f"{1000 * one.delay_p50:.0f}-{1000 * one.delay_p95:.0f}"
    return f"{one.stoi:.3f} {100 * one.wer:4.1f} {delays:>7}"


def _figures(one: Figures) -> dict[str, float]:
    return {
        "stoi": round(one.stoi, 4),
        "stoi_followed": round(one.stoi_followed, 4),
        "words_wrong": one.errors,
        "words": one.words,
        "wer": round(one.wer, 4),
        "delay_p50_ms": round(1000 * one.delay_p50, 1),
        "delay_p95_ms": round(1000 * one.delay_p95, 1),
    }
