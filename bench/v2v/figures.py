"""Figures of a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.v2v.phone import Packet
from bench.v2v.scripts import CHAIN, SHORT_PAUSE, Exchange, Interruption

BURST_GAP = 0.3
"""Seconds without an audible packet that end a talk burst."""


@dataclass(frozen=True)
class Call:
    """What one call gave. `cpu_seconds`: of the system under test and its children."""

    script: str
    pause: float | None
    seconds: float
    cpu_seconds: float
    memory_mb: float
    pacing: Sequence[float]
    """|interval to the next packet - duration of the packet|, milliseconds, within talk bursts."""
    late: float
    """99th percentile of the caller's own lateness, milliseconds."""
    exchanges: Sequence[Exchange] = field(default_factory=list)
    interruptions: Sequence[Interruption] = field(default_factory=list)

    def __str__(self) -> str:
        heard = [exchange.v2v for exchange in self.exchanges] + [barge_in.wire for barge_in in self.interruptions]
        return " ".join("–" if value is None else f"{value:.0f}" for value in heard) + " ms"


def pacing(packets: Iterable[Packet]) -> list[float]:
    """How far packets of a talk burst are from being a packet's duration apart, milliseconds."""
    deviations: list[float] = []
    before: Packet | None = None
    for packet in packets:
        if not packet.loud:
            continue
        if before is not None and packet.at - before.at - before.seconds < BURST_GAP:
            deviations.append(abs(packet.at - before.at - before.seconds) * 1000)
        before = packet
    return deviations


def summary(name: str, calls: Sequence[Call]) -> dict[str, Any]:
    """The figures of all calls; milliseconds where a name does not say otherwise, None where there is nothing."""
    short = [exchange for call in calls if call.pause == SHORT_PAUSE for exchange in call.exchanges]
    long = [exchange for call in calls if call.pause != SHORT_PAUSE for exchange in call.exchanges]
    barged = [interruption for call in calls for interruption in call.interruptions]
    v2v = [exchange.v2v for exchange in short if exchange.valid]
    wire = [interruption.wire for interruption in barged]
    deviations = [deviation for call in calls for deviation in call.pacing]
    minutes = sum(call.seconds for call in calls) / 60
    return {
        "name": name,
        "turns": len(short),
        "valid": len(v2v),
        "v2v_p50": percentile(v2v, 50),
        "v2v_p95": percentile(v2v, 95),
        "v2v_min": percentile(v2v, 0),
        "v2v_max": percentile(v2v, 100),
        "cutoffs": sum(exchange.cut for exchange in short),
        "stale": sum(exchange.stale for exchange in short),
        "early": sum(exchange.early for exchange in short),
        "no_answer": sum(exchange.v2v is None for exchange in short),
        "fillers": sum(exchange.fillers for exchange in short),
        "long_turns": len(long),
        "long_cutoffs": sum(exchange.cut for exchange in long),
        "long_stale": sum(exchange.stale for exchange in long),
        "long_v2v_p50": percentile([exchange.v2v for exchange in long if exchange.valid], 50),
        "barge_ins": len(barged),
        "barge_stopped": sum(interruption.wire is not None for interruption in barged),
        "barge_wire_p50": percentile(wire, 50),
        "barge_wire_max": percentile(wire, 100),
        "barge_played_p50": percentile([interruption.played for interruption in barged], 50),
        "pacing_p50": percentile(deviations, 50, digits=2),
        "pacing_p99": percentile(deviations, 99, digits=2),
        "pacing_p999": percentile(deviations, 99.9, digits=2),
        "caller_late_p99": round(max((call.late for call in calls), default=0.0), 2),
        "cpu_seconds_per_minute": round(sum(call.cpu_seconds for call in calls) / minutes, 2) if minutes else None,
        "memory_mb": round(max((call.memory_mb for call in calls), default=0.0)),
        "questions_per_turn": round(sum(exchange.questions for exchange in short) / max(1, len(short)), 2),
        "chain_p50": {
            kind: percentile([exchange.chain.get(kind) for exchange in short if exchange.valid], 50) for kind in CHAIN
        },
    }


def percentile(values: Iterable[float | None], percent: float, digits: int = 0) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.percentile(known, percent)), digits) if known else None


COLUMNS = {
    "name": "system",
    "v2v_p50": "v2v p50",
    "v2v_p95": "p95",
    "valid": "valid",
    "turns": "of",
    "cutoffs": "cut off",
    "stale": "stale",
    "early": "asked early",
    "long_cutoffs": "cut off (1 s)",
    "barge_wire_p50": "barge-in p50",
    "barge_wire_max": "max",
    "pacing_p50": "pacing p50",
    "pacing_p99": "p99",
    "caller_late_p99": "caller late p99",
    "cpu_seconds_per_minute": "CPU s/min",
    "memory_mb": "MB",
}


def table(summaries: Sequence[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "| --- " * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(_cell(summary[column]) for column in COLUMNS) + " |" for summary in summaries]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def as_json(calls: Sequence[Call]) -> list[dict[str, Any]]:
    return [asdict(call) for call in calls]


def cpu_seconds(process: int) -> float:
    """User and system time of `process` and its living descendants."""
    total, pending = 0.0, [process]
    while pending:
        current = Path(f"/proc/{pending.pop()}")
        try:
            fields = (current / "stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            for thread in (current / "task").iterdir():
                pending += [int(child) for child in (thread / "children").read_text().split()]
        except OSError:
            continue  # it has just ended
    return total


def memory_mb(process: int) -> float:
    """Resident memory of `process` alone."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
