"""Whole calls between two embedded endpoints over real UDP on loopback: our user agent as phone and as server."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
import pytest

from connector.audio import Audio, Frame
from connector.errors import BadRequest, CallFailed, ConfigError, MediaError, ProtocolError
from connector.interfaces import (
    CallInfo,
    Digit,
    Diversion,
    Established,
    Held,
    Leg,
    MediaTimeout,
    Party,
    Resumed,
    Terminated,
)
from connector.leg.embedded_leg import EmbeddedLeg
from connector.sip.sdp import Direction
from tests.fakes.sip import Started, facing, free_udp_port, next_event, running


async def call(caller: Started, callee: Started, user: str = "1000", **options: Any) -> tuple[Leg, Leg]:
    """An established call: (the caller's leg, the callee's)."""
    dialling = asyncio.create_task(caller.endpoint.dial(callee.uri(user), **options))
    theirs = await callee.inbox.answered()
    ours = await dialling
    assert await next_event(theirs) == Established()
    assert await next_event(ours) == Established()
    return ours, theirs


def direction(leg: Leg) -> Direction:
    agreement = cast(EmbeddedLeg, leg).agreement
    assert agreement is not None
    return agreement.direction


class Ear:
    """Listens until a leg has heard five loud frames in a row."""

    def __init__(self, leg: Leg) -> None:
        self._loud = 0
        self._heard = asyncio.Event()
        leg.audio.listen(self._take)

    def _take(self, frame: Frame) -> None:
        self._loud = self._loud + 1 if np.abs(frame.samples).max() > 1000 else 0
        if self._loud >= 5:
            self._heard.set()

    async def hears_something(self) -> None:
        self._heard.clear()
        async with asyncio.timeout(3):
            await self._heard.wait()


def tone(seconds: float) -> Audio:
    time = np.arange(int(8000 * seconds)) / 8000
    return Audio((8000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16), 8000)


async def test_a_call_carries_its_facts_and_audio_both_ways() -> None:
    async with running() as caller, running() as callee:
        seen: list[int] = []
        ours, theirs = await call(
            caller,
            callee,
            "+49 30*1".replace(" ", ""),
            calling="200",
            headers={
                "X-Campaign": "spring",
                "P-Asserted-Identity": '"Ada" <tel:+1-201-555-0123>',
                "Diversion": "<sip:2001@pbx>;reason=away",
            },
            on_provisional=lambda status, reason: seen.append(status),
        )
        info: CallInfo = theirs.info
        assert (info.called, info.calling, info.headers["X-Campaign"]) == ("+4930*1", "200", "spring")
        assert (info.called_number, info.calling_number, info.asserted) == ("", "+12015550123", "+12015550123")
        assert (info.calling_name, info.diversions) == ("Ada", (Diversion("2001", "away"),))
        assert info.call_id == ours.info.call_id
        assert info.peer == "{}:{}".format(*caller.address)
        for speaker, listener in ((ours, theirs), (theirs, ours)):
            ear = Ear(listener)
            speaker.audio.write(1, tone(2.0))
            speaker.audio.finish(1)
            await ear.hears_something()
        await ours.hang_up("done")
        assert await next_event(theirs) == Terminated(Party.CALLER, "hung up")
        assert await next_event(ours) == Terminated(Party.AGENT, "done")
        assert (caller.endpoint.calls, callee.endpoint.calls) == (0, 0)


@pytest.mark.parametrize("callee_hangs_up", [False, True])
async def test_either_side_hangs_up_and_may_do_so_twice(callee_hangs_up: bool) -> None:
    async with running() as caller, running() as callee:
        legs = await call(caller, callee)
        await legs[callee_hangs_up].hang_up()
        await legs[callee_hangs_up].hang_up()
        assert await next_event(legs[not callee_hangs_up]) == Terminated(Party.CALLER, "hung up")


async def test_both_hang_up_at_once() -> None:
    async with running() as caller, running() as callee:
        ours, theirs = await call(caller, callee)
        await ours.hang_up()
        await theirs.hang_up()
        assert (await next_event(ours), await next_event(theirs)) == (Terminated(Party.AGENT, ""),) * 2
        await asyncio.sleep(0.05)
        assert not caller.endpoint._dialogs
        assert not callee.endpoint._dialogs


async def test_ringing_is_seen_before_the_answer() -> None:
    async with running() as caller, running() as callee:
        seen: list[tuple[int, str]] = []
        dialling = asyncio.create_task(
            caller.endpoint.dial(callee.uri(), on_provisional=lambda status, reason: seen.append((status, reason)))
        )
        leg = await callee.inbox.next()
        await leg.ring()
        await leg.answer()
        await dialling
        assert seen == [(180, "Ringing")]


async def test_a_refusal_reaches_the_caller_with_status_and_reason() -> None:
    async with running() as caller, running() as callee:
        dialling = asyncio.create_task(caller.endpoint.dial(callee.uri("9999")))
        leg = await callee.inbox.next()
        await leg.reject(404, "Not Found")
        with pytest.raises(CallFailed, match="404 Not Found") as caught:
            await dialling
        assert caught.value.status == 404
        assert await next_event(leg) == Terminated(Party.AGENT, "Not Found", 404)
        assert caller.endpoint.calls == callee.endpoint.calls == 0


async def test_cancelling_dial_cancels_the_ringing() -> None:
    async with running() as caller, running() as callee:
        dialling = asyncio.create_task(caller.endpoint.dial(callee.uri()))
        leg = await callee.inbox.next()
        await leg.ring()
        await asyncio.sleep(0.05)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        assert await next_event(leg) == Terminated(Party.CALLER, "cancelled", 487)
        with pytest.raises(ProtocolError):
            await leg.answer()
        await leg.reject(404, "Not Found")
        assert callee.endpoint.calls == 0


async def test_an_answer_that_crosses_the_cancel_is_hung_up_on() -> None:
    async with running() as caller, running() as callee:
        dialling = asyncio.create_task(caller.endpoint.dial(callee.uri()))
        leg = await callee.inbox.next()
        await leg.answer()
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling
        assert isinstance(await next_event(leg, Terminated), Terminated)
        assert caller.endpoint.calls == 0


async def test_hold_and_resume_from_the_caller() -> None:
    async with running() as caller, running() as callee:
        ours, theirs = await call(caller, callee)
        ear = Ear(ours)
        theirs.audio.write(1, tone(10.0))
        await ear.hears_something()
        await ours.hold()
        assert await next_event(theirs) == Held()
        assert (direction(ours), direction(theirs)) == (Direction.SENDONLY, Direction.RECVONLY)
        await ours.resume()
        assert await next_event(theirs) == Resumed()
        assert (direction(ours), direction(theirs)) == (Direction.SENDRECV, Direction.SENDRECV)
        await ear.hears_something()


async def test_hold_from_the_callee_and_both_at_once() -> None:
    async with running() as caller, running() as callee:
        ours, theirs = await call(caller, callee)
        await theirs.hold()
        await ours.hold()
        assert {direction(ours), direction(theirs)} == {Direction.INACTIVE}
        await theirs.resume()
        assert (direction(ours), direction(theirs)) == (Direction.SENDONLY, Direction.RECVONLY)
        await ours.resume()
        assert {direction(ours), direction(theirs)} == {Direction.SENDRECV}


async def test_glare_two_holds_that_cross_both_come_through() -> None:
    """RFC 3261 section 14.2: 491, and both try again after times of their own."""
    async with running() as caller, running() as callee:
        ours, theirs = await call(caller, callee)
        await asyncio.gather(ours.hold(), theirs.hold())
        assert {direction(ours), direction(theirs)} == {Direction.INACTIVE}


async def test_keys_are_heard() -> None:
    async with running() as caller, running() as callee:
        ours, theirs = await call(caller, callee)
        await ours.send_dtmf("1#")
        digits = [await next_event(theirs, Digit) for _ in range(2)]
        assert [digit.digit for digit in digits if isinstance(digit, Digit)] == ["1", "#"]


async def test_digest_credentials_open_the_door_and_wrong_ones_do_not() -> None:
    settings = {"users": [{"name": "bob", "password": "zanzibar"}]}
    async with running() as caller, running(settings=settings) as callee:
        ours, _ = await call(caller, callee, username="bob", password="zanzibar")
        await ours.hang_up()
        for credentials in ({}, {"username": "bob", "password": "wrong"}, {"username": "eve", "password": "zanzibar"}):
            with pytest.raises(CallFailed) as caught:
                await caller.endpoint.dial(callee.uri(), **credentials)
            assert caught.value.status == 401
        assert callee.inbox.legs.empty()


async def test_a_network_on_the_allow_list_needs_no_credentials() -> None:
    settings = {"users": [{"name": "bob", "password": "zanzibar"}], "allow": ["127.0.0.0/8"]}
    async with running() as caller, running(settings=settings) as callee:
        await call(caller, callee)


async def test_over_the_cap_is_503_with_retry_after_and_room_comes_back() -> None:
    async with running() as caller, running(settings={"max_calls": 1, "retry_after": 7}) as callee:
        ours, _ = await call(caller, callee)
        with pytest.raises(CallFailed) as caught:
            await caller.endpoint.dial(callee.uri())
        assert caught.value.status == 503
        await ours.hang_up()
        await asyncio.sleep(0.05)
        await call(caller, callee)


async def test_nobody_there_is_408() -> None:
    async with running() as caller:
        with pytest.raises(CallFailed) as caught:
            await caller.endpoint.dial(f"sip:1000@127.0.0.1:{free_udp_port()}")
        assert caught.value.status == 408


@pytest.mark.parametrize("uri", ["1000", "sips:1000@127.0.0.1", "sip:1000@127.0.0.1;transport=tcp", "tel:+1", "sip:"])
async def test_what_cannot_be_called_is_said_so(uri: str) -> None:
    async with running() as caller:
        with pytest.raises(BadRequest):
            await caller.endpoint.dial(uri)


async def test_a_host_that_does_not_exist_is_said_so() -> None:
    async with running() as caller:
        with pytest.raises(CallFailed, match=r"no-such-host\.invalid"):
            await caller.endpoint.dial("sip:1000@no-such-host.invalid")


async def test_transfer_ends_the_call_once_the_target_answered() -> None:
    async with facing() as (callee, phone):
        leg, to = await phone.call(callee.inbox)
        transferring = asyncio.create_task(leg.transfer("2000"))
        refer = await phone.request("REFER")
        assert refer.headers["Refer-To"] == f"<sip:2000@127.0.0.1:{phone.address[1]}>"
        phone.answer(refer, 202)
        for cseq, status in ((2, "100 Trying"), (3, "200 OK")):
            headers = "Event: refer\r\nSubscription-State: active\r\nContent-Type: message/sipfrag\r\n"
            phone.send(phone.compose("NOTIFY", to=to, cseq=cseq, headers=headers, body=f"SIP/2.0 {status}\r\n"))
            await phone.response(200, "NOTIFY")
        await phone.request("BYE")
        await transferring
        assert await next_event(leg) == Terminated(Party.AGENT, "transferred")


@pytest.mark.parametrize("refusal", ["603 at once", "486 later"])
async def test_a_transfer_that_fails_keeps_the_call(refusal: str) -> None:
    async with facing() as (callee, phone):
        leg, to = await phone.call(callee.inbox)
        transferring = asyncio.create_task(leg.transfer("sip:2000@pbx"))
        refer = await phone.request("REFER")
        if refusal.startswith("603"):
            phone.answer(refer, 603)
        else:
            phone.answer(refer, 202)
            headers = "Event: refer;id=2\r\nContent-Type: message/sipfrag\r\n"
            phone.send(phone.compose("NOTIFY", to=to, cseq=2, headers=headers, body="SIP/2.0 486 Busy Here\r\n"))
        with pytest.raises(CallFailed) as caught:
            await transferring
        assert str(caught.value.status) == refusal[:3]
        phone.send(phone.compose("OPTIONS", to=to, cseq=3))
        await phone.response(200, "OPTIONS")


async def test_silence_on_the_line_is_told_but_not_on_hold() -> None:
    async with facing(media_timeout=0.2) as (callee, phone):
        leg, _ = await phone.call(callee.inbox)
        event = await next_event(leg, MediaTimeout)
        assert isinstance(event, MediaTimeout)
        assert event.seconds >= 0.2


async def test_closing_the_endpoint_hangs_up_on_everybody() -> None:
    async with running() as caller:
        async with running() as callee:
            ours, theirs = await call(caller, callee)
        assert await next_event(theirs) == Terminated(Party.AGENT, "shutdown")
        assert await next_event(ours) == Terminated(Party.CALLER, "hung up")


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
async def test_strangers_are_not_let_in_by_accident(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"sip\.listen.*sip\.allow"):
        async with running(settings={"listen": listen}):
            raise AssertionError("it started")


@pytest.mark.parametrize(
    ("listen", "message"), [("192.0.2.77:5060", "cannot assign|not available|assign"), ("taken", "in use")]
)
async def test_a_socket_that_cannot_be_had_is_named(listen: str, message: str) -> None:
    async with running() as other:
        listen = f"127.0.0.1:{other.address[1]}" if listen == "taken" else listen
        with pytest.raises(MediaError, match=f"(?i){listen.split(':')[0]}.*({message})"):
            async with running(settings={"listen": listen, "allow": ["127.0.0.0/8"]}):
                raise AssertionError("it started")


async def test_on_a_wide_address_the_sdp_never_names_loopback_to_others_nor_the_wildcard() -> None:
    settings = {"listen": "0.0.0.0:0", "allow": ["127.0.0.0/8"]}
    async with facing(settings=settings) as (callee, phone):
        await phone.call(callee.inbox)
        body = phone.last_body
        assert "0.0.0.0" not in body
        assert "c=IN IP4 127.0.0.1" in body  # to a peer on this machine


async def test_the_advertised_address_is_what_sdp_and_contact_say() -> None:
    async with facing(settings={"advertise": "203.0.113.9"}) as (callee, phone):
        await phone.call(callee.inbox)
        assert "c=IN IP4 203.0.113.9" in phone.last_body
        assert "127.0.0.1" not in phone.last_body
        assert f"@203.0.113.9:{callee.address[1]}" in phone.last_contact
