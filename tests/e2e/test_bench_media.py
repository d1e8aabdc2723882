"""`voxtrunk bench media` as a whole: connector, generator and peers as processes. What is measured depends on the
machine; that everything is measured, and that each call heard itself, does not."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.e2e.command import run

SHORT = ("--calls", "4", "--seconds", "1", "--settle", "0.5", "--ramp", "", "--json")
ANY = ("--limit-cpu", "100", "--limit-p99", "1e6", "--limit-p999", "1e6", "--limit-disturbed", "1e6")


async def test_every_call_hears_itself_and_is_recorded_and_a_missed_limit_is_an_exit_status() -> None:
    finished = await run("bench", "media", *SHORT, "--no-peers", "--churn", "0", "--limit-cpu", "0")
    report = json.loads(finished.output)
    [step] = report["steps"]
    line = step["line"]
    assert line["audio"]["deaf"] == line["audio"]["packets"]["other"] == line["lost"] == 0
    assert line["received"] > 100
    assert step["recordings"]["files"] == 4
    for channel in ("caller", "agent"):
        assert step["recordings"][channel]["own"] > 0
        assert step["recordings"][channel]["other"] == 0
    assert {"loop", "disk"} <= {share["role"] for share in step["cost"]["threads"]}
    assert step["cost"]["per_call"] > 0
    assert "CPU per call, % of a core" in [limit["name"] for limit in report["limits"] if not limit["met"]]
    assert not report["ok"]
    assert finished.status == 1


@pytest.mark.slow
async def test_beside_peers_and_disturbances_and_nothing_is_left_of_short_calls() -> None:
    options = ("--disturb", "gc", "--disturb", "json", "--churn", "30", "--limit-leak", "1e6")
    finished = await run("bench", "media", *SHORT, *ANY, *options, seconds=300)
    report = json.loads(finished.output)
    for step in report["disturbed"]:
        assert step["disturbance"]["rounds"] > 1
        assert step["line"]["audio"]["deaf"] == 0
    measured = {peer["name"]: peer for peer in report["peers"]}
    assert measured["asyncio echo"]["ratio"] > 0
    if shutil.which("cc") is not None:
        assert measured["C epoll echo"]["line"]["audio"]["packets"]["other"] == 0
    else:
        assert measured["C epoll echo"]["problem"] == "no C compiler"
    churn = report["churn"]
    for what in ("files", "threads", "tasks"):
        assert churn["after"][what] == churn["before"][what]
    assert finished.status == 0, report["limits"]
