"""SIGKILL to each part of the stack in mid-call: nobody is left in silence, nothing is left behind, calls go on.

What is measured is heard at the phone: how long a leg was up without audio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from connector.app import SystemClock
from connector.cli.phone.caller import Caller
from connector.cli.phone.own import own_phone
from connector.errors import CallFailed
from connector.interfaces import LegEvent, Terminated
from connector.leg.embedded import EmbeddedEndpoint
from tests.e2e.opensips import Installed, Stack, installations, running
from tests.fakes.audio import tone

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("opensips", installations(), ids=str)]

SILENT_SECONDS = 10.0
"""The longest that a leg may stay up without audio."""

BUSY_SECONDS = 5.0
"""From the death of a connector to the first refusal of a new call."""

FAILOVER_SECONDS = 3.0
"""From the death of a pair to a new call that another one has answered."""

CLOCK = SystemClock()


@dataclass
class Talker:
    """Somebody who talks without pause to `echo`, and so should hear himself without pause."""

    caller: Caller
    call_id: str
    ended_at: float | None = None

    @property
    def heard_until(self) -> float:
        """When something was heard last, on the clock."""
        until = self.caller.heard.quiet_since
        assert until is not None, "nothing was ever heard"
        return until

    @property
    def silent_for(self) -> float:
        """Seconds since then, while the leg was up."""
        return (self.ended_at or CLOCK.now()) - self.heard_until

    async def hears(self, after: float, within: float) -> None:
        """Waits for sound that was heard after `after`."""
        async with asyncio.timeout(within):
            while self.heard_until <= after:
                assert self.ended_at is None, f"the call ended: {self.caller.ended}"
                await asyncio.sleep(0.05)

    async def is_hung_up_on(self) -> None:
        """Waits for the end, which must come before the silence is too long."""
        while self.ended_at is None:
            assert self.silent_for < SILENT_SECONDS, "the leg is up without audio"
            await asyncio.sleep(0.05)
        assert self.silent_for < SILENT_SECONDS


@asynccontextmanager
async def talking(phone: EmbeddedEndpoint, stack: Stack) -> AsyncIterator[Talker]:
    """A call to 1000 in which sound has been heard."""
    leg = await phone.dial(f"sip:1000@{stack.edge[0]}:{stack.edge[1]}")

    def on_event(event: LegEvent) -> None:
        if isinstance(event, Terminated):
            talker.ended_at = CLOCK.now()

    talker = Talker(Caller(leg, CLOCK, on_event), leg.info.call_id)
    async with talker.caller:
        talker.caller.speak(tone(800, 120).samples)
        assert await talker.caller.wait_for_speech(5, after=0) is not None
        await asyncio.sleep(1)
        yield talker


async def answered(phone: EmbeddedEndpoint, stack: Stack, within: float) -> float:
    """Dials until a call is answered, and hangs up; seconds that it took. Raises `AssertionError` after `within`."""
    began = CLOCK.now()
    while True:
        try:
            async with asyncio.timeout(began + within - CLOCK.now()):
                leg = await phone.dial(f"sip:1000@{stack.edge[0]}:{stack.edge[1]}")
        except CallFailed:
            await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"no answer in {within:g} s") from None
        else:
            took = CLOCK.now() - began
            await leg.hang_up()
            return took


async def cdr(stack: Stack, call_id: str, within: float = 10.0) -> dict[str, Any]:
    """The record of a call, as soon as it is written."""
    async with asyncio.timeout(within):
        while True:
            for record in await asyncio.to_thread(stack.cdrs):
                if record["call_id"] == call_id:
                    return record
            await asyncio.sleep(0.1)


@asynccontextmanager
async def staged(opensips: Installed, folder: Path, pairs: int = 1) -> AsyncIterator[tuple[Stack, EmbeddedEndpoint]]:
    """A stack and a phone; at the end nothing may be left behind."""
    async with running(opensips, folder, pairs) as stack, own_phone(CLOCK) as phone:
        before = await stack.counters()
        yield stack, phone
        await stack.settled(before)


async def test_a_dead_connector(opensips: Installed, tmp_path: Path) -> None:
    """New calls get 503, the call in progress is ended, and the next connector needs nobody's help."""
    async with staged(opensips, tmp_path) as (stack, phone):
        switches = [stack.service(name).pid for name in ("edge", "ua-a")]
        async with talking(phone, stack) as talker:
            died = CLOCK.now()
            await stack.down("connector-a")
            with pytest.raises(CallFailed) as refused:
                await phone.dial(f"sip:1000@{stack.edge[0]}:{stack.edge[1]}")
            assert refused.value.status == 503
            assert CLOCK.now() - died < BUSY_SECONDS
            await talker.is_hung_up_on()
        await stack.up("connector-a")
        assert (await cdr(stack, talker.call_id))["reason"].startswith("cut off")
        await answered(phone, stack, within=10)
        assert switches == [stack.service(name).pid for name in ("edge", "ua-a")]


async def test_a_dead_ua(opensips: Installed, tmp_path: Path) -> None:
    """Its sessions are gone: the edge ends their calls, the connector its legs, and the new UA takes calls."""
    async with staged(opensips, tmp_path) as (stack, phone):
        async with talking(phone, stack) as talker:
            stack.kill("ua-a")
            await talker.is_hung_up_on()
        record = await cdr(stack, talker.call_id)
        assert record["ended_by"] == "system"
        await answered(phone, stack, within=15)


async def test_a_ua_that_stays_dead(opensips: Installed, tmp_path: Path) -> None:
    async with staged(opensips, tmp_path) as (stack, phone):
        async with talking(phone, stack) as talker:
            await stack.down("ua-a")
            await talker.is_hung_up_on()
        assert (await cdr(stack, talker.call_id, within=30))["disposition"] == "answered"
        await stack.up("ua-a")
        await answered(phone, stack, within=15)


async def test_a_restarted_rtpengine(opensips: Installed, tmp_path: Path) -> None:
    """The call lives on: the connector's re-INVITE builds its media anew."""
    async with staged(opensips, tmp_path) as (stack, phone):
        async with talking(phone, stack) as talker:
            died = CLOCK.now()
            stack.kill("rtpengine")
            await talker.hears(after=died + 1, within=SILENT_SECONDS + 1)
            assert await stack.media() == [talker.call_id]
        assert (await cdr(stack, talker.call_id))["reason"] == "hung up"


async def test_an_rtpengine_that_stays_dead(opensips: Installed, tmp_path: Path) -> None:
    async with staged(opensips, tmp_path) as (stack, phone):
        async with talking(phone, stack) as talker:
            await stack.down("rtpengine")
            await talker.is_hung_up_on()
            with pytest.raises(CallFailed) as refused:
                await phone.dial(f"sip:1000@{stack.edge[0]}:{stack.edge[1]}")
            assert refused.value.status == 503
        assert (await cdr(stack, talker.call_id))["ended_by"] == "system"
        await stack.up("rtpengine")
        await answered(phone, stack, within=10)


async def test_a_restarted_edge(opensips: Installed, tmp_path: Path) -> None:
    """Audio does not pass through it: the call goes on, and ends as if nothing had been."""
    async with staged(opensips, tmp_path) as (stack, phone):
        async with talking(phone, stack) as talker:
            stack.kill("edge")
            await stack.service("edge").ready()
            await talker.hears(after=CLOCK.now(), within=1)
        record = await cdr(stack, talker.call_id)
        assert record["reason"] == "hung up"
        await answered(phone, stack, within=10)


async def test_a_caller_who_hangs_up_while_there_is_no_edge(opensips: Installed, tmp_path: Path) -> None:
    """Nobody hears his BYE, but his silence is heard."""
    async with staged(opensips, tmp_path) as (stack, phone):
        async with talking(phone, stack) as talker:
            await stack.down("edge")
        hung_up = CLOCK.now()
        record = await cdr(stack, talker.call_id, within=SILENT_SECONDS)
        assert record["ended_by"] == "system"
        assert CLOCK.now() - hung_up < SILENT_SECONDS
        await stack.up("edge")
        await answered(phone, stack, within=10)


@pytest.mark.parametrize("dead", ["connector-a", "ua-a"])
async def test_one_of_two_pairs(opensips: Installed, tmp_path: Path, dead: str) -> None:
    """New calls go to the other, and so does the very first: its caller waits 3 s at most."""
    async with staged(opensips, tmp_path, pairs=2) as (stack, phone):
        async with talking(phone, stack) as one, talking(phone, stack) as other:
            await stack.down(dead)
            died = CLOCK.now()
            took = [await answered(phone, stack, within=FAILOVER_SECONDS) for _ in range(4)]
            assert max(took) < FAILOVER_SECONDS
            async with asyncio.timeout(SILENT_SECONDS):
                while one.ended_at is None and other.ended_at is None:  # noqa: ASYNC110 - heard by the phone
                    await asyncio.sleep(0.05)
            survivor, cut = (one, other) if other.ended_at is not None else (other, one)
            assert cut.silent_for < SILENT_SECONDS
            await survivor.hears(after=died + SILENT_SECONDS, within=SILENT_SECONDS + 1)
        await stack.up(dead)
        assert (await cdr(stack, cut.call_id, within=30))["ended_by"] == "system"
