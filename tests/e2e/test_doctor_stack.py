"""`voxtrunk doctor` beside a real stack, with each of its programs alive and dead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connector.app import SystemClock
from connector.cli.phone.own import own_phone
from tests.e2e import command
from tests.e2e.opensips import Installed, Stack, installations, running

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("opensips", installations(), ids=str)]

CLOCK = SystemClock()


async def faults(opensips: Installed, stack: Stack) -> dict[str, tuple[str, str, str]]:
    """Verdict, cause and remedy of every check that is not `ok`, less what depends on the machine alone."""
    assert opensips.opensips is not None
    finished = await command.run(
        *("doctor", "-c", str(stack.settings.file), "--json"), OPENSIPS_BIN=str(opensips.opensips.path)
    )
    report = json.loads(finished.output)
    assert finished.status == (0 if report["ok"] else 1)
    machine = ("clock", "receive buffers", "open files")
    found = [line for line in report["checks"] if line["verdict"] != "ok" and line["check"] not in machine]
    return {line["check"]: (line["verdict"], line["cause"], line["remedy"]) for line in found}


async def test_the_doctor_beside_a_stack(opensips: Installed, tmp_path: Path) -> None:
    """In good health, also in mid-call; then each program is killed in turn, and named with what to do."""
    sections = {"records": {"min_free_mb": 0}, "sip": {"max_calls": 5}}
    async with running(opensips, tmp_path, **sections) as stack:
        assert await faults(opensips, stack) == {}
        async with own_phone(CLOCK) as phone:
            leg = await phone.dial(f"sip:1000@{stack.edge[0]}:{stack.edge[1]}")
            assert await faults(opensips, stack) == {}
            await leg.hang_up()

        await stack.down("rtpengine")
        found = await faults(opensips, stack)
        assert list(found) == ["rtpengine"]
        assert "calls have no audio" in found["rtpengine"][2]
        await stack.up("rtpengine")

        await stack.down("connector-a")
        found = await faults(opensips, stack)
        assert found["connector-a"][0] == "failed"
        assert "`voxtrunk serve --pair a`" in found["connector-a"][2]
        await stack.up("connector-a")

        await stack.down("ua-a")
        found = await faults(opensips, stack)
        assert found["ua-a"][0] == "failed"
        assert "pair a takes no calls" in found["ua-a"][2]
        await stack.up("ua-a")

        await stack.down("edge")
        found = await faults(opensips, stack)
        assert found["edge"][0] == "failed"
        assert "nobody can call" in found["edge"][2]


async def test_the_doctor_before_the_stack_is_started(opensips: Installed, tmp_path: Path) -> None:
    """Nothing runs any more: that is no fault, and its ports are free again."""
    async with running(opensips, tmp_path, records={"min_free_mb": 0}, sip={"max_calls": 5}) as stack:
        pass
    found = await faults(opensips, stack)
    # Other programs of this machine may take one of the many ports.
    found.pop("RTP ports of pair a", None)
    assert found == {"softswitch": ("skipped", "it is not running", "`voxtrunk stack up` starts everything")}
