"""Figures of a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.turns.manners import Backchannel, Echoed, Interruption
from bench.turns.phone import Packet
from bench.turns.scripts import CHAIN, BargeIn, Exchange

BURST_GAP = 0.3
"""Seconds without an audible packet that end a talk burst."""

STEADY = ("turns", "barge")
"""Scripts whose talk bursts have no pauses that are meant, and which tell of pacing and CPU."""

Outcome = Exchange | BargeIn | Echoed | Backchannel | Interruption
"""What a script gives, one for each thing that the caller did."""

_OneOutcome = TypeVar("_OneOutcome", Exchange, BargeIn, Echoed, Backchannel, Interruption)


@dataclass(frozen=True)
class Call:
    """What one call gave. `cpu_seconds`: of the system under test and its children."""

    script: str
    seconds: float
    cpu_seconds: float
    memory_mb: float
    pacing: Sequence[float]
    """|interval to the next packet - duration of the packet|, milliseconds, within talk bursts."""
    late: float
    """99th percentile of the caller's own lateness, milliseconds."""
    outcomes: Sequence[Outcome]

    def __str__(self) -> str:
        return ", ".join(map(_brief, self.outcomes))


def _brief(outcome: Outcome) -> str:
    match outcome:
        case Exchange():
            return "cut off" if outcome.cut else "stale" if outcome.stale else _ms(outcome.v2v)
        case BargeIn():
            return _ms(outcome.wire)
        case Echoed():
            return f"{outcome.echo}: {'disturbed' if outcome.disturbed else 'well'}"
        case Backchannel():
            return f"{outcome.sound}: {'stopped' if outcome.stopped else _ms(outcome.silence)}"
        case Interruption():
            off = "" if outcome.off is None else f" {outcome.off:+d} words"
            asked = "" if outcome.understood else f", asked {outcome.asked!r}"
            return f"{outcome.text} {_ms(outcome.silent)}{asked}{off}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"


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


def summary(calls: Sequence[Call]) -> dict[str, Any]:
    """The figures of all calls; milliseconds where a name does not say otherwise, None where there is nothing."""
    steady = [call for call in calls if call.script.startswith(STEADY)] or calls
    minutes = sum(call.seconds for call in steady) / 60
    deviations = [deviation for call in steady for deviation in call.pacing]
    return {
        **_turns([call for call in calls if call.script == "turns"]),
        **_pauses([call for call in calls if call.script.startswith("turns:")]),
        **_barge_ins(_all(calls, BargeIn)),
        **_manners(calls),
        "pacing_p50": percentile(deviations, 50, digits=2),
        "pacing_p99": percentile(deviations, 99, digits=2),
        "pacing_p999": percentile(deviations, 99.9, digits=2),
        "caller_late_p99": round(max((call.late for call in calls), default=0.0), 2),
        "cpu_seconds_per_minute": round(sum(call.cpu_seconds for call in steady) / minutes, 2) if minutes else None,
        "memory_mb": round(max((call.memory_mb for call in calls), default=0.0)),
    }


def _turns(calls: Sequence[Call]) -> dict[str, Any]:
    exchanges = _all(calls, Exchange)
    if not exchanges:
        return {}
    valid = [exchange for exchange in exchanges if exchange.valid]
    v2v = [exchange.v2v for exchange in valid]
    return {
        "turns": len(exchanges),
        "valid": len(valid),
        "v2v_p50": percentile(v2v, 50),
        "v2v_p95": percentile(v2v, 95),
        "v2v_min": percentile(v2v, 0),
        "v2v_max": percentile(v2v, 100),
        "cutoffs": sum(exchange.cut for exchange in exchanges),
        "stale": sum(exchange.stale for exchange in exchanges),
        "early": sum(exchange.early for exchange in exchanges),
        "no_answer": sum(exchange.v2v is None for exchange in exchanges),
        "fillers": sum(exchange.fillers for exchange in exchanges),
        "questions_per_turn": round(sum(exchange.questions for exchange in exchanges) / len(exchanges), 2),
        "chain_p50": {kind: percentile([exchange.chain.get(kind) for exchange in valid], 50) for kind in CHAIN},
    }


def _pauses(calls: Sequence[Call]) -> dict[str, Any]:
    """By the length of the pause."""
    found: dict[str, Any] = {}
    for pause in dict.fromkeys(call.script.removeprefix("turns:") for call in calls):
        exchanges = _all([call for call in calls if call.script == f"turns:{pause}"], Exchange)
        found |= {
            f"turns_{pause}": len(exchanges),
            f"cutoffs_{pause}": sum(exchange.cut for exchange in exchanges),
            f"cutoffs_of_4_{pause}": round(4 * sum(exchange.cut for exchange in exchanges) / max(1, len(exchanges)), 1),
            f"stale_{pause}": sum(exchange.stale for exchange in exchanges),
            f"v2v_p50_{pause}": percentile([exchange.v2v for exchange in exchanges if exchange.valid], 50),
        }
    return found


def _barge_ins(stopped: Sequence[BargeIn]) -> dict[str, Any]:
    if not stopped:
        return {}
    wire = [barge_in.wire for barge_in in stopped]
    return {
        "barge_ins": len(stopped),
        "barge_in_missed": sum(milliseconds is None for milliseconds in wire),
        "barge_in_p50": percentile(wire, 50),
        "barge_in_max": percentile(wire, 100),
        "barge_in_played_p50": percentile([barge_in.played for barge_in in stopped], 50),
    }


def _manners(calls: Sequence[Call]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if echoed := _all(calls, Echoed):
        found |= {"echoes": len(echoed), "echo_disturbed": sum(reply.disturbed for reply in echoed)}
    if sounds := _all(calls, Backchannel):
        resumed = [sound.silence for sound in sounds if not sound.stopped]
        found |= {
            "backchannels": len(sounds),
            "backchannel_stopped_of_20": round(20 * sum(sound.stopped for sound in sounds) / len(sounds), 1),
            "backchannel_silence_p50": percentile(resumed, 50),
            "backchannel_silence_max": percentile(resumed, 100),
        }
    if spoken := _all(calls, Interruption):
        off = [abs(words.off) for words in spoken if words.off is not None]
        found |= {
            "interruptions": len(spoken),
            "interruption_missed": sum(not words.taken for words in spoken),
            "interruption_silent_p50": percentile([words.silent for words in spoken], 50),
            "interruption_silent_max": percentile([words.silent for words in spoken], 100),
            "history_words_off_max": max(off, default=None),
        }
    return found


def _all(calls: Iterable[Call], kind: type[_OneOutcome]) -> list[_OneOutcome]:
    return [outcome for call in calls for outcome in call.outcomes if isinstance(outcome, kind)]


def percentile(values: Iterable[float | None], percent: float, digits: int = 0) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.percentile(known, percent)), digits) if known else None


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
