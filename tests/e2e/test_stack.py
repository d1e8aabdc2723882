"""The stack as `voxtrunk stack up` runs it, with SIPp as PBX: one call, and those that get none."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from connector.cli.phone.caller import Caller
from connector.cli.phone.own import own_phone
from connector.config.model import split_address
from connector.errors import CallFailed, MiError
from connector.sip.message import Address, hostport
from tests.e2e import command, sipp
from tests.e2e.opensips import Installed, Stack, configured, installations, running, site
from tests.fakes.engines import tone
from tests.fakes.homer import capturing

pytestmark = [
    pytest.mark.skipif(sipp.missing_reason() is not None, reason=str(sipp.missing_reason())),
    pytest.mark.parametrize("installed", installations(), ids=str),
]


async def status_of(target: Address, method: str, source: str = "127.0.0.1") -> tuple[int, str] | None:
    """Status and whole text of the final response to `method`; None where there is none within 4 s."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind((source, 0))
        phone.setblocking(False)
        port = phone.getsockname()[1]
        request = (
            f"{method} sip:1000@{target[0]}:{target[1]} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {source}:{port};branch=z9hG4bK{port};rport\r\n"
            f"From: <sip:probe@{source}>;tag={port}\r\nTo: <sip:1000@{target[0]}>\r\n"
            f"Call-ID: {method}-{port}\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n"
            f"Contact: <sip:probe@{source}:{port}>\r\nContent-Length: 0\r\n\r\n"
        )
        await loop.sock_sendto(phone, request.encode(), target)
        try:
            async with asyncio.timeout(4):
                while True:
                    response = (await loop.sock_recv(phone, 65_535)).decode()
                    if (status := int(response.split()[1])) >= 200:
                        return status, response
        except TimeoutError:
            return None


@asynccontextmanager
async def calling(stack: Stack, number: str = "1000") -> AsyncIterator[Caller]:
    """A call to `number`, answered."""
    async with own_phone(stack.clock, stack.edge[0]) as phone:
        leg = await phone.dial(f"sip:{number}@{hostport(stack.edge)}", calling="alice")
        async with Caller(leg, stack.clock) as caller:
            yield caller


async def hears_itself(caller: Caller) -> None:
    """`echo` returns what the caller says."""
    said = await caller.say(tone(700, 0.5).samples)
    assert await caller.wait_for_speech(3, after=said.start) is not None


async def only_one_peer(stack: Stack) -> None:
    """All of loopback may call a stack on loopback; from now on 127.0.0.1 alone."""
    table = stack.site.run / "address"
    columns = (await asyncio.to_thread(table.read_text)).splitlines()[0]
    await asyncio.to_thread(table.write_text, f"{columns}\n1:1:127.0.0.1:32:0:any::\n")
    await stack.mi("edge", "address_reload")


async def test_a_call_is_answered_and_leaves_nothing_behind(installed: Installed, tmp_path: Path) -> None:
    async with running(installed, tmp_path) as stack:
        before = await stack.counters()
        await sipp.call("routed", stack.edge, header="Subject: none")
        async with calling(stack) as caller:
            await hears_itself(caller)
            assert len(await stack.media()) == 1
        await stack.settled(before)
        _, cdr = stack.cdrs()
        assert cdr["called"] == "1000"
        assert cdr["disposition"] == "answered"


@pytest.mark.slow
async def test_a_call_over_ipv6(installed: Installed, tmp_path: Path) -> None:
    """All but the UA's events, which OpenSIPS sends over IPv4 alone."""
    text = json.dumps(site()).replace("127.0.0.1", "[::1]")
    opensips = json.loads(re.sub(r'("events": ")\[::1\]', r"\g<1>127.0.0.1", text))
    opensips["rtpengine"] |= {"external": "::1", "internal": "::1"}
    opensips["pairs"][0]["media"] = "::1"
    async with running(installed, tmp_path, opensips=opensips) as stack:
        before = await stack.counters()
        async with calling(stack) as caller:
            await hears_itself(caller)
        async with calling(stack) as caller:
            done = await command.run("calls", "hangup", "--all", "--yes", cwd=tmp_path)
            assert done.status == 0, done.errors
            assert await caller.wait_for_end(5)
        await stack.settled(before)
        for cdr in stack.cdrs():
            assert cdr["peer"].startswith("[::1]:")


@pytest.mark.slow
async def test_strangers_get_403_and_no_answer_to_anything_else(installed: Installed, tmp_path: Path) -> None:
    async with running(installed, tmp_path) as stack:
        await only_one_peer(stack)
        refused = await status_of(stack.edge, "INVITE", "127.0.0.9")
        assert refused is not None
        assert refused[0] == 403
        assert await status_of(stack.edge, "OPTIONS", "127.0.0.9") is None
        allowed = await status_of(stack.edge, "OPTIONS")
        assert allowed is not None
        assert allowed[0] == 200


@pytest.mark.slow
async def test_the_edge_alone_says_who_called(installed: Installed, tmp_path: Path) -> None:
    async with running(installed, tmp_path) as stack:
        await sipp.call("routed", stack.edge, header="x-voxtrunk-peer: 198.51.100.1:5060")
        (cdr,) = await recorded(stack, 1)
        assert cdr["peer"].startswith("127.0.0.1:")


@pytest.mark.slow
async def test_a_dead_pair_costs_a_new_call_three_seconds_at_most(installed: Installed, tmp_path: Path) -> None:
    async with running(installed, tmp_path, 2) as stack:
        await stack.down("ua-a")
        for _ in range(3):
            began = stack.clock.now()
            async with calling(stack) as caller:
                assert stack.clock.now() - began < 3
                await hears_itself(caller)


@pytest.mark.slow
async def test_without_rtpengine_there_is_no_call_until_it_is_back(installed: Installed, tmp_path: Path) -> None:
    async with running(installed, tmp_path) as stack:
        before = await stack.counters()
        await stack.down("rtpengine")
        with pytest.raises(CallFailed) as refused:
            async with calling(stack):
                pass
        assert refused.value.status == 503
        await stack.up("rtpengine")
        # The edge looks for it every second, and leaves it alone for one after a failure.
        await asyncio.sleep(3)
        async with calling(stack) as caller:
            await hears_itself(caller)
        await stack.settled(before)


@pytest.mark.slow
async def test_every_message_of_a_call_reaches_homer(installed: Installed, tmp_path: Path) -> None:
    async with capturing() as homer:
        async with running(installed, tmp_path, opensips=site(hep=f"udp:127.0.0.1:{homer.port}")) as stack:
            await sipp.call("routed", stack.edge, header="Subject: none")
            ua = split_address(stack.pairs[0].listen)
            for wanted in (stack.edge, ua):
                assert await homer.saw(lambda packets, to=wanted: any(one.target == to for one in packets))
        assert not homer.malformed


@pytest.mark.slow
async def test_methods_that_mean_nothing_here_are_refused(installed: Installed, tmp_path: Path) -> None:
    async with running(installed, tmp_path) as stack:
        refused = await status_of(stack.edge, "MESSAGE")
        assert refused is not None
        assert refused[0] == 405
        assert "INVITE" in refused[1]


@pytest.mark.slow
async def test_all_pairs_down_is_503_at_once_with_retry_after(installed: Installed, tmp_path: Path) -> None:
    async with running(installed, tmp_path) as stack:
        await stack.down("connector-a")
        await pair_is(stack, "Probing")
        began = asyncio.get_running_loop().time()
        refused = await status_of(stack.edge, "INVITE")
        assert refused is not None
        assert refused[0] == 503
        assert re.search(r"^Retry-After: \d+\r$", refused[1], re.MULTILINE)
        assert asyncio.get_running_loop().time() - began < 0.5
        await stack.up("connector-a")
        async with calling(stack) as caller:
            await hears_itself(caller)


@pytest.mark.slow
async def test_a_reload_lets_one_more_peer_call_while_a_call_goes_on(installed: Installed, tmp_path: Path) -> None:
    section = site()
    async with running(installed, tmp_path, opensips=section) as stack:
        await only_one_peer(stack)
        refused = await status_of(stack.edge, "INVITE", "127.0.0.9")
        assert refused is not None
        assert refused[0] == 403
        section["edge"]["calls_per_second"] = 900
        settings = await asyncio.to_thread(configured, tmp_path, section)
        async with calling(stack) as caller:
            await hears_itself(caller)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "connector.cli", "stack", "reload", "--json", "-c", str(settings.file)),
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await process.communicate()
            assert process.returncode == 0
            await hears_itself(caller)
        assert set(json.loads(output)["changed"]) >= {"address", "edge-site.cfg"}
        answered = await status_of(stack.edge, "OPTIONS", "127.0.0.9")
        assert answered is not None
        assert answered[0] == 200
        assert (await stack.mi("edge", "shv_get", name="calls_per_second"))["VAR"]["value"] == 900


async def recorded(stack: Stack, calls: int) -> list[dict[str, Any]]:
    """The records of `calls` calls, once they are there."""
    async with asyncio.timeout(10):
        while len(found := await asyncio.to_thread(stack.cdrs)) < calls:  # noqa: ASYNC110 - files have no event
            await asyncio.sleep(0.1)
    return found


async def pair_is(stack: Stack, state: str) -> None:
    """Waits until the edge has the first pair in `state`."""
    async with asyncio.timeout(15):
        while True:
            try:
                listed = await stack.mi("edge", "ds_list")
            except MiError:
                listed = None
            if listed and listed["PARTITIONS"][0]["SETS"][0]["Destinations"][0]["state"] == state:
                return
            await asyncio.sleep(0.1)
