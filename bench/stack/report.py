"""The figures, for programs and for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.stack.processes import totals
from bench.stack.verdict import Phase

PHASES = ("rate", "concurrent")

ERRORS = 500
"""Characters of SIPp's errors that people are shown."""

BUSIEST = 4
"""Threads that a summary names."""


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """p50, p95, p99 and the greatest, in milliseconds; None where there is nothing."""
    if not values:
        return None
    points = np.percentile(values, (50, 95, 99, 100))
    return {
        name: round(float(point) * 1000, 2) for name, point in zip(("p50", "p95", "p99", "max"), points, strict=True)
    }


def summary(phase: Phase) -> dict[str, Any]:
    """Of one phase: counts, milliseconds, and per cent of one core."""
    return {
        "rate": phase.rate,
        "seconds": phase.seconds,
        "hold": phase.hold,
        "calls": phase.calls,
        "set_up": phase.set_up,
        "heard": phase.heard,
        "retransmissions": phase.retransmissions,
        "ringing_ms": percentiles(phase.ringing),
        "answered_ms": percentiles(phase.answered),
        "generator_late_ms": {"calls": percentiles(phase.late_calls), "packets": percentiles(phase.late_packets)},
        "cpu_percent": {name: round(100 * share.ran, 1) for name, share in totals(phase.shares).items()},
        "waited_percent": {name: round(100 * share.waited, 1) for name, share in totals(phase.shares).items()},
        "busiest": [
            {
                "component": share.component,
                "thread": share.name,
                "cpu_percent": round(100 * share.ran, 1),
                "waited_percent": round(100 * share.waited, 1),
            }
            for share in phase.shares[:BUSIEST]
        ],
        "queues": {name: {"most_bytes": one.waiting, "dropped": one.dropped} for name, one in phase.pressure.items()},
        "machine_idle_percent": round(100 * phase.idle, 1),
        "others_percent": round(100 * phase.others, 1),
        "errors": phase.errors,
    }


def report(figures: Mapping[str, Any]) -> str:
    """Markdown."""
    machine, versions = figures["machine"], figures["versions"]
    programs = sorted(figures["rate"]["cpu_percent"])
    names = f"OpenSIPS {versions['opensips']}, rtpengine {versions['rtpengine']}"
    lines = [
        f"{names}; {machine['cores']} cores {machine['processor']}, load {machine['load_before']} before",
        "",
        *_table(
            ("phase", "calls", "set up", "heard", "180 p50/p95/p99 ms", "200 p50/p95/p99 ms", "sent again", "idle"),
            [_row(name, figures[name]) for name in PHASES],
        ),
        "",
        *_table(
            ("CPU, % of a core", *programs, "others"),
            [
                (
                    name,
                    *(figures[name]["cpu_percent"].get(one, "–") for one in programs),
                    figures[name]["others_percent"],
                )
                for name in PHASES
            ],
        ),
        "",
        *_table(
            ("busiest threads, % of a core", "ran", "waited to run"),
            [
                (f"{name}: {one['component']}, {one['thread']}", one["cpu_percent"], one["waited_percent"])
                for name in PHASES
                for one in figures[name]["busiest"]
            ],
        ),
        "",
        *_table(
            ("generator late, ms", "calls p50/p95/p99", "packets p50/p95/p99"),
            [
                (name, *(_points(figures[name]["generator_late_ms"][what]) for what in ("calls", "packets")))
                for name in PHASES
            ],
        ),
        "",
        *_table(
            ("counter", "before", "after"),
            [(name, one["before"], one["after"]) for name, one in figures["counters"].items()],
        ),
        "",
        *_table(
            ("memory, MB", "before", "after"),
            [(name, one["before"], one["after"]) for name, one in figures["memory_mb"].items()],
        ),
        "",
        f"left behind: {', '.join(f'{name} +{more}' for name, more in figures['left_behind'].items()) or 'nothing'}",
        f"crashed: {', '.join(figures['crashed']) or 'nothing'}",
    ]
    if figures["ramp"]["steps"]:
        lines += ["", *_ramp(figures["ramp"])]
    for name in PHASES:
        if figures[name]["errors"]:
            lines += ["", f"{name}, SIPp says: {figures[name]['errors'][:ERRORS]}"]
    return "\n".join(lines)


def _ramp(ramp: Mapping[str, Any]) -> list[str]:
    columns = (
        "calls/s",
        "calls",
        "set up",
        "180 p50/p95/p99 ms",
        "200 p50/p95/p99 ms",
        "sent again",
        "busiest",
        "idle",
    )
    rows = [
        (
            step["rate"],
            step["calls"],
            step["set_up"],
            _points(step["ringing_ms"]),
            _points(step["answered_ms"]),
            step["retransmissions"],
            ", ".join(f"{one['component']} {one['thread']} {one['cpu_percent']:.0f} %" for one in step["busiest"][:2]),
            f"{step['machine_idle_percent']:.0f} %",
        )
        for step in ramp["steps"]
    ]
    first = f"first to saturate: {ramp['limit'] or 'none'}: {ramp['evidence']}"
    return [*_table(columns, rows), "", f"carried: {ramp['carried']} calls per second; {first}"]


def _row(name: str, phase: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        name,
        phase["calls"],
        phase["set_up"],
        phase["heard"],
        _points(phase["ringing_ms"]),
        _points(phase["answered_ms"]),
        phase["retransmissions"],
        f"{phase['machine_idle_percent']:.0f} %",
    )


def _points(points: Mapping[str, float] | None) -> str:
    return "–" if points is None else " / ".join(f"{points[name]:.1f}" for name in ("p50", "p95", "p99"))


def _table(columns: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    head = [str(column) for column in columns]
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]
