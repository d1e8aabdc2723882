"""The embedded endpoint against SIPp: calls both ways, and everything that can go wrong with them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from connector.errors import CallFailed
from connector.interfaces import Established, Held, Leg, LegEvent, Party, Resumed, Terminated
from tests.e2e import sipp
from tests.fakes.sip import QUICK, next_event, running

pytestmark = pytest.mark.skipif(sipp.missing_reason() is not None, reason=str(sipp.missing_reason()))

RTP = "RTP/AVP 0 101"


class Desk:
    """Takes calls, does `treat` with each, and keeps what happened to them."""

    def __init__(self, treat: Callable[[Leg], Awaitable[None]]) -> None:
        self._treat = treat
        self.events: list[list[LegEvent]] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def __call__(self, leg: Leg) -> None:
        self.tasks.add(asyncio.create_task(self._take(leg)))

    async def _take(self, leg: Leg) -> None:
        events: list[LegEvent] = []
        self.events.append(events)
        await self._treat(leg)
        events.extend([event async for event in leg.events()])

    async def done(self) -> None:
        async with asyncio.timeout(10):
            await asyncio.gather(*self.tasks)


async def ring_and_answer(leg: Leg) -> None:
    await leg.ring()
    await leg.answer()


HUNG_UP: list[LegEvent] = [Established(), Terminated(Party.CALLER, "hung up")]


async def test_twenty_calls_of_sipps_own_scenario() -> None:
    desk = Desk(ring_and_answer)
    async with running(on_call=desk) as callee:
        await sipp.call("uac", callee.address, "-d", "300", calls=20, rate=40)
        await desk.done()
        assert desk.events == [HUNG_UP] * 20
        assert callee.endpoint.calls == 0


@pytest.mark.parametrize("scenario", ["lost_ack", "repeated_invite"])
async def test_what_gets_lost_on_the_way_makes_no_second_call_and_no_second_answer(scenario: str) -> None:
    async def take_time(leg: Leg) -> None:
        await asyncio.sleep(0.3)
        await ring_and_answer(leg)

    desk = Desk(take_time)
    async with running(on_call=desk) as callee:
        await sipp.call(scenario, callee.address, sipp.EVERY_COPY)
        await desk.done()
        assert desk.events == [HUNG_UP]


async def test_an_ack_that_never_comes_ends_the_call() -> None:
    desk = Desk(ring_and_answer)
    async with running(on_call=desk) as callee:
        await sipp.call("no_ack", callee.address)
        await desk.done()
        assert desk.events == [[Terminated(Party.SYSTEM, "the answer was not acknowledged", 408)]]


async def test_cancel_while_ringing() -> None:
    desk = Desk(lambda leg: leg.ring())
    async with running(on_call=desk) as callee:
        await sipp.call("cancel", callee.address)
        await desk.done()
        assert desk.events == [[Terminated(Party.CALLER, "cancelled", 487)]]


async def test_hold_and_resume() -> None:
    desk = Desk(ring_and_answer)
    async with running(on_call=desk) as callee:
        await sipp.call("hold", callee.address)
        await desk.done()
        assert desk.events == [
            [Established(), Held(), Resumed(), Held(), Resumed(), Terminated(Party.CALLER, "hung up")]
        ]


async def test_the_callee_hangs_up() -> None:
    async def greet(leg: Leg) -> None:
        await leg.answer()
        await next_event(leg)
        await leg.hang_up("bye")

    desk = Desk(greet)
    async with running(on_call=desk) as callee:
        await sipp.call("callee_hangs_up", callee.address)
        await desk.done()
        assert desk.events == [[Terminated(Party.AGENT, "bye")]]


@pytest.mark.parametrize(
    ("status", "formats"),
    [(488, "RTP/AVP 18"), (488, "RTP/SAVP 0"), (488, "RTP/AVP 96"), (400, ""), (404, RTP)],
)
async def test_refusals(status: int, formats: str) -> None:
    desk = Desk(lambda leg: leg.reject(404, "Not Found"))
    async with running(on_call=desk) as callee:
        await sipp.call("refused", callee.address, status=status, formats=formats)
        await desk.done()
        assert callee.endpoint.calls == 0


async def test_over_the_cap_is_503() -> None:
    async with running(settings={"max_calls": 1}) as callee, running() as other:
        dialling = asyncio.create_task(other.endpoint.dial(callee.uri()))
        await callee.inbox.answered()
        await dialling
        await sipp.call("refused", callee.address, status=503, formats=RTP)


async def test_from_a_stranger_is_403() -> None:
    async with running(settings={"listen": "0.0.0.0:0", "allow": ["192.0.2.0/24"]}) as callee:
        await sipp.call("refused", ("127.0.0.1", callee.address[1]), status=403, formats=RTP)


@pytest.mark.parametrize(("password", "status"), [("zanzibar", 200), ("wrong", 401)])
async def test_digest(password: str, status: int) -> None:
    settings = {"users": [{"name": "bob", "password": "zanzibar"}]}
    desk = Desk(ring_and_answer)
    async with running(settings=settings, on_call=desk) as callee:
        await sipp.call("digest", callee.address, password=password, status=status)
        assert len(desk.events) == (status == 200)
    await desk.done()


# ---------------------------------------------------------------- SIPp as callee


async def test_calling_sipps_own_callee() -> None:
    async with running() as caller, sipp.answering("uas", calls=3) as uri:
        legs = [await caller.endpoint.dial(uri) for _ in range(3)]
        for leg in legs:
            await leg.hang_up()


async def test_each_200_is_acknowledged() -> None:
    async with running() as caller, sipp.answering("repeats_200", sipp.EVERY_COPY) as uri:
        leg = await caller.endpoint.dial(uri)
        await asyncio.sleep(0.3)
        await leg.hang_up()


@pytest.mark.parametrize("status", ["486 Busy Here", "404 Not Found", "302 Moved Temporarily", "603 Decline"])
async def test_a_refusal_is_acknowledged_and_told(status: str) -> None:
    async with running(timing=QUICK) as caller, sipp.answering("refuses", status=status) as uri:
        with pytest.raises(CallFailed, match=status):
            await caller.endpoint.dial(uri)


async def test_giving_up_while_it_rings() -> None:
    async with running() as caller, sipp.answering("cancelled") as uri:
        ringing = asyncio.Event()
        dialling = asyncio.create_task(caller.endpoint.dial(uri, on_provisional=lambda status, reason: ringing.set()))
        await asyncio.wait_for(ringing.wait(), 5)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
