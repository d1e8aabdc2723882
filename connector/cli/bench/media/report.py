"""The figures as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connector.cli.bench.media.figures import Churn, Peer, Report, Spread, Step
from connector.cli.console import console, print_table

PACING = ("calls", "beside", "CPU per call", "pacing p50 / p99 / p99.9 / max", "lost", "altered")
ECHOES = ("echo", "CPU per call", "ours", "the same, the generator's pacing subtracted", "lost")
THREADS = ("calls", "beside", "thread", "ran, % of a core", "waited for it")
SURROUNDINGS = (
    "calls",
    "beside",
    "memory before / during / after",
    "per call",
    "generator late p50 / p99 / p99.9 / max",
    "over 1 ms",
    "round trip",
    "other programs",
)


def print_report(report: Report) -> None:
    """Prints everything that people want to see."""
    setting = report.setting
    with_what = [word for word in ("vad", "recording") if setting[word]]
    show = console().print
    show(f"{setting['codec']}, {setting['seconds']:g} s each, {' and '.join(with_what) or 'neither VAD nor recording'}")
    show(f"{report.machine['cpu']}, Python {report.machine['python']}")
    for note in report.notes:
        show(f"note: {note}")
    show()
    measured = (*report.steps, *report.disturbed)
    print_table(PACING, [_pacing(step) for step in measured])
    if report.peers:
        show()
        print_table(ECHOES, [_echo(peer) for peer in report.peers])
    show()
    print_table(THREADS, [row for step in measured for row in _threads(step)])
    show()
    print_table(SURROUNDINGS, [_surroundings(step) for step in measured])
    if report.churn is not None:
        show()
        show(_churn(report.churn))
    show()
    print_table(
        ("limit", "at most", "measured", "verdict"),
        [
            (limit.name, f"{limit.limit:g}", _number(limit.measured), "ok" if limit.met else "failed")
            for limit in report.limits
        ],
    )


def _pacing(step: Step) -> Sequence[str]:
    line = step.line
    altered = str(line.audio.packets.get("altered", "–"))
    return str(step.calls), _beside(step), _percent(step.cost.per_call), _spread(line.pacing), str(line.lost), altered


def _echo(peer: Peer) -> Sequence[str]:
    if peer.cost is None or peer.line is None:
        return peer.name, peer.problem, "", "", ""
    pacing = _spread(peer.line.pacing_subtracted)
    return peer.name, _percent(peer.cost.per_call), f"{peer.ratio:g} x", pacing, str(peer.line.lost)


def _threads(step: Step) -> Iterator[Sequence[str]]:
    for index, share in enumerate(step.cost.threads):
        first = (str(step.calls), _beside(step)) if not index else ("", "")
        yield (*first, share.role, _percent(share.ran), _percent(share.waited))


def _surroundings(step: Step) -> Sequence[str]:
    memory, line = step.memory, step.line
    return (
        str(step.calls),
        _beside(step),
        f"{memory.before:g} / {memory.during:g} / {memory.after:g} MiB",
        f"{memory.per_call_kib:g} KiB",
        _spread(line.late),
        _percent(100 * line.late_share),
        f"{_number(line.round_trip.p50)} ms",
        _percent(step.cost.elsewhere),
    )


def _beside(step: Step) -> str:
    return "" if step.disturbance is None else f"{step.disturbance['name']} ({step.disturbance['rounds']} times)"


def _churn(churn: Churn) -> str:
    before, halfway, after = churn.before, churn.halfway, churn.after
    return (
        f"{churn.calls} short calls in {churn.seconds:g} s: memory {before.memory_kib} → {halfway.memory_kib} → "
        f"{after.memory_kib} KiB ({churn.kib_per_call:g} KiB per call of the second half), "
        f"files {before.files} → {after.files}, threads {before.threads} → {after.threads}, "
        f"tasks {before.tasks} → {after.tasks}"
    )


def _spread(spread: Spread) -> str:
    return " / ".join(_number(value) for value in (spread.p50, spread.p99, spread.p999, spread.max)) + " ms"


def _percent(value: float) -> str:
    return f"{value:.2f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
