"""What the measurement of the stack reads, counts and concludes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.stack.phones import decoded, frequency, sound, tone
from bench.stack.processes import Queue, Share, Task, idle_share, queues, shares, totals
from bench.stack.report import percentiles, report, summary
from bench.stack.sipp import Call, Log, lateness, statistics
from bench.stack.verdict import GENERATOR, Phase, Pressure, broke, left_behind, saturated, slowest

# --------------------------------------------------------------------------------------- SIPp


def test_a_log_is_read_as_it_grows(tmp_path: Path) -> None:
    """Half a line waits for its other half."""
    file = tmp_path / "log"
    log = Log(file)
    assert log.more() == []
    stamp = "2026-11-20\t12:00:00.5\t"
    file.write_text(f"sent 1 {stamp}100.5\nsent 2 {stamp}101.0\nringing 1 {stamp}100.6\nanswered 1 30000 {stamp}10")
    assert log.more() == []
    with file.open("a") as more:
        more.write(f"0.75\nringing 1 {stamp}100.9\n")
    ((number, call),) = log.more()
    assert (number, call) == (1, Call(sent=100.5, ringing=100.6, answered=100.75, port=30000))
    with file.open("a") as more:
        more.write(f"over 1 {stamp}104.75\n")
    assert log.more() == []
    assert log.calls == {1: Call(100.5, 100.6, 100.75, 104.75, 30000), 2: Call(101.0)}


def test_lateness_counts_from_the_call_that_was_the_earliest() -> None:
    calls = [Call(sent) for sent in (10.02, 10.1, 10.25)]
    assert lateness(calls, 10) == pytest.approx([0.02, 0.0, 0.05])
    assert lateness([], 10) == []


def test_the_last_line_of_the_statistics_counts(tmp_path: Path) -> None:
    file = tmp_path / "statistics.csv"
    assert statistics(file) == {}
    file.write_text("TargetRate;Retransmissions(C);\n10;1;\n10;7;\n")
    assert statistics(file)["Retransmissions(C)"] == "7"


# --------------------------------------------------------------------------------------- processes


def test_shares_are_what_was_used_meanwhile() -> None:
    """A thread that began meanwhile counts from its beginning, one that ended does not count."""
    before = [Task("edge", 1, 1, "SIP receiver", 10.0, 1.0), Task("edge", 1, 2, "timer", 5.0, 0.0)]
    after = [Task("edge", 1, 1, "SIP receiver", 11.0, 1.5), Task("ua", 3, 3, "SIP receiver", 1.5, 0.0)]
    found = shares(before, after, 2.0)
    assert found == [Share("ua", "SIP receiver", 0.75, 0.0), Share("edge", "SIP receiver", 0.5, 0.25)]
    assert totals([*found, Share("ua", "timer", 0.25, 0.5)]) == {
        "ua": Share("ua", "", 1.0, 0.5),
        "edge": Share("edge", "", 0.5, 0.25),
    }


def test_idle_time_of_the_machine() -> None:
    """Waiting for disks is idle, too."""
    before, after = "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1", "cpu  150 0 75 880 70 10 10 5 0 0\ncpu0 1"
    assert idle_share(before, after) == pytest.approx(0.5)


def test_queues_of_sockets() -> None:
    head = "sl local_address rem_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode ref pointer drops"
    table = f"{head}\n 9641: 0100007F:13C4 00000000:0000 07 00000000:00000900 00:00000000 00000000 0 0 1 2 0 3\n"
    assert list(queues(table)) == [Queue(("127.0.0.1", 5060), 0x900, 3)]


# --------------------------------------------------------------------------------------- tones


@pytest.mark.parametrize("call", [0, 1, 49])
def test_a_tone_is_recognised(call: int) -> None:
    samples = decoded(tone(frequency(call), 2.0))
    heard = sound(np.concatenate([np.zeros(4000, np.int16), samples, np.zeros(4000, np.int16)]))
    assert heard.is_tone(frequency(call), 2.0)
    assert not heard.is_tone(frequency(call + 1), 2.0)
    assert not heard.is_tone(frequency(call), 3.0)


def test_what_is_no_tone() -> None:
    """Silence, a click, and two calls in one ear."""
    both = (decoded(tone(frequency(1), 2.0)) // 2 + decoded(tone(frequency(9), 2.0)) // 2).astype(np.int16)
    click = np.zeros(8000, np.int16)
    click[4000] = 20_000
    for samples in (np.zeros(8000, np.int16), np.empty(0, np.int16), click, both):
        heard = sound(samples)
        assert not any(heard.is_tone(frequency(call), 2.0) for call in range(12))


# --------------------------------------------------------------------------------------- conclusions


def phase(**changes: Any) -> Phase:
    """A phase without a fault."""
    values: dict[str, Any] = {
        "rate": 30,
        "seconds": 10.0,
        "hold": 4.0,
        "calls": 300,
        "set_up": 300,
        "heard": 300,
        "retransmissions": 0,
        "ringing": [0.01] * 300,
        "answered": [0.02] * 300,
        "late_calls": [0.001] * 300,
        "late_packets": [0.0005] * 300,
        "shares": [Share("connector-a", "event loop", 0.4, 0.05)],
        "idle": 0.5,
    }
    return Phase(**{**values, **changes})


def test_what_is_too_much() -> None:
    """Calls that fail, or callers that wait so long that they ask again."""
    assert broke(phase()) == ""
    assert broke(phase(set_up=297)) == "3 of 300 calls failed"
    assert slowest(phase(answered=[])) == 0.0
    slow = [0.02] * 280 + [0.9] * 20
    assert broke(phase(answered=slow)) == "a call in twenty waited 900 ms or longer for its answer"


@pytest.mark.parametrize(
    ("shares", "changes", "component", "evidence"),
    [
        ([Share("connector-a", "event loop", 0.97, 0.01)], {}, "connector-a", "connector-a, event loop: ran 97%"),
        # What wants to run and may not has no more to give, either.
        ([Share("ua-a", "SIP receiver", 0.6, 0.35)], {}, "ua-a", "ua-a, SIP receiver: ran 60% and waited 35%"),
        (
            [Share("ua-a", "SIP receiver", 0.91, 0.0), Share("edge", "timer", 0.7, 0.28)],
            {},
            "edge",
            "edge, timer: ran 70% and waited 28%",
        ),
        (
            [Share("edge", "SIP receiver", 0.3, 0.0)],
            {"pressure": {"ua-a": Pressure(90_000, 0), "edge": Pressure(200_000, 41)}},
            "edge",
            "its sockets dropped 41 datagrams",
        ),
        (
            [Share("connector-a", "event loop", 0.8, 0.05), Share("rtpengine", "poller", 0.5, 0.3)],
            {"idle": 0.01},
            "connector-a",
            "no CPU was left on the machine, connector-a, event loop",
        ),
        # Where others take the CPU, having to wait says nothing.
        ([Share("ua-a", "SIP receiver", 0.6, 0.39)], {"idle": 0.0, "others": 1.1}, "", "other programs used 1.1 cores"),
        ([Share("ua-a", "SIP receiver", 0.93, 0.0)], {"idle": 0.0, "others": 0.6}, "ua-a", "ran 93%"),
        ([Share("edge", "SIP receiver", 0.3, 0.0)], {}, "", "no thread was busy all the time, edge, SIP receiver"),
        ([], {}, "", "no thread was busy all the time"),
        # The generator is never blamed on the others, nor they on it.
        (
            [Share(GENERATOR, "sipp", 0.95, 0.0), Share("connector-a", "event loop", 0.93, 0.05)],
            {"idle": 0.0},
            GENERATOR,
            "what the others could do is not known",
        ),
    ],
)
def test_the_first_to_saturate(shares: Sequence[Share], changes: dict[str, Any], component: str, evidence: str) -> None:
    found, why = saturated(phase(shares=shares, **changes))
    assert found == component
    assert evidence in why


def test_what_is_left_behind() -> None:
    before = {"edge: dialogs": 0, "edge: transactions": 3, "connector-a: open files": 20, "ua: sessions": 2}
    after = {"edge: dialogs": 1, "edge: transactions": 9, "connector-a: open files": 24, "ua: sessions": 0}
    allowances = {"edge: transactions": 10, "connector-a: open files": 2}
    assert left_behind(before, after, allowances) == {"edge: dialogs": 1, "connector-a: open files": 4}
    assert left_behind(before, before, {}) == {}


# --------------------------------------------------------------------------------------- reports


def test_percentiles_in_milliseconds() -> None:
    assert percentiles([]) is None
    assert percentiles([value / 1000 for value in range(1, 101)]) == {
        "p50": 50.5,
        "p95": 95.05,
        "p99": 99.01,
        "max": 100.0,
    }


def test_a_report_for_people() -> None:
    """It has the figures of every phase, what was left, and the limit."""
    step = {**summary(phase(rate=160, set_up=290)), "broke": "10 of 300 calls failed"}
    text = report(
        {
            "machine": {"processor": "Z80", "cores": 2, "system": "6.1", "load_before": 0.1},
            "versions": {"opensips": "3.6.8", "rtpengine": "10.5.3.5"},
            "rate": summary(phase()),
            "concurrent": summary(phase(calls=50, set_up=50, heard=49, errors="one was silent")),
            "left_behind": {"ua: sessions": 2},
            "crashed": ["ua-a"],
            "counters": {"ua: sessions": {"before": 0, "after": 2}},
            "memory_mb": {"edge": {"before": 80.0, "after": 81.5}},
            "ramp": {"steps": [step], "carried": 120, "limit": "connector-a", "evidence": "its event loop ran 97 %"},
        }
    )
    assert "OpenSIPS 3.6.8, rtpengine 10.5.3.5; 2 cores Z80, load 0.1 before" in text
    assert "| rate | 300 | 300 | 300 | 10.0 / 10.0 / 10.0 | 20.0 / 20.0 / 20.0 | 0 | 50 % |" in text
    assert "| concurrent | 50 | 50 | 49 |" in text
    assert "left behind: ua: sessions +2" in text
    assert "crashed: ua-a" in text
    assert "carried: 120 calls per second; first to saturate: connector-a: its event loop ran 97 %" in text
    assert "concurrent, SIPp says: one was silent" in text
