"""The embedded endpoint as caller, against a bare peer that answers exactly as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connector.errors import BadRequest, CallFailed, NotAcceptableHere
from connector.interfaces import Established, Held, Leg, Party, Terminated
from connector.sip.digest import DigestServer, parse_digest
from connector.sip.message import Request
from tests.fakes.sip import Peer, Started, facing, header, next_event, sdp, tag_of


@asynccontextmanager
async def dialling(**options: Any) -> AsyncIterator[tuple[Started, Peer, asyncio.Task[Leg], Request]]:
    """A call on its way to a bare peer: the endpoint, the peer, the task, and the INVITE that came."""
    async with facing() as (caller, phone):
        target = "sip:200@{}:{}".format(*phone.address)
        task = asyncio.create_task(caller.endpoint.dial(target, **options))
        try:
            yield caller, phone, task, await phone.request("INVITE")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_the_invite_says_all_that_it_must() -> None:
    async with dialling(calling="voxtrunk", headers={"Subject": "hello"}) as (caller, phone, _, invite):
        assert str(invite.uri) == "sip:200@{}:{}".format(*phone.address)
        assert tag_of(header(invite, "From"))
        assert not tag_of(header(invite, "To"))
        assert header(invite, "Max-Forwards") == "70"
        assert header(invite, "Subject") == "hello"
        assert header(invite, "Contact") == "<sip:voxtrunk@{}:{}>".format(*caller.address)
        assert header(invite, "Via").partition("branch=")[2].startswith("z9hG4bK")
        assert b"m=audio" in invite.body


async def test_it_is_repeated_until_it_is_heard_of() -> None:
    async with dialling() as (_, phone, task, invite):
        assert bytes(await phone.request("INVITE")) == bytes(invite)
        phone.answer(invite, 100)
        phone.answer(invite, 200, body=sdp())
        leg = await task
        assert await next_event(leg) == Established()
        assert (await phone.request("ACK")).cseq.sequence == invite.cseq.sequence


async def test_every_copy_of_the_200_is_acknowledged() -> None:
    async with dialling() as (_, phone, task, invite):
        for _ in range(3):
            phone.answer(invite, 200, body=sdp())
            await phone.request("ACK")
        await task


async def test_a_bye_right_behind_the_200_finds_the_call() -> None:
    async with dialling() as (_, phone, task, invite):
        phone.answer(invite, 200, body=sdp())
        bye = phone.compose("BYE", to=header(invite, "From"), call_id=invite.call_id)
        phone.send(bye.replace(";tag=phone", ";tag=peer"))
        await phone.response(200, "BYE")
        assert await next_event(await task, Terminated) == Terminated(Party.CALLER, "hung up")


async def test_the_answer_of_a_183_counts_where_the_200_has_none() -> None:
    async with dialling() as (_, phone, task, invite):
        phone.answer(invite, 183, body=sdp(43210, "8"))
        phone.answer(invite, 200)
        leg: Any = await task
        assert (leg.agreement.codec, leg.agreement.port) == ("PCMA", 43210)


@pytest.mark.parametrize(
    ("body", "error"), [("", BadRequest), ("rubbish", BadRequest), (sdp(formats="18"), NotAcceptableHere)]
)
async def test_a_200_without_a_usable_answer_is_acknowledged_and_hung_up_on(body: str, error: type[Exception]) -> None:
    async with dialling() as (caller, phone, task, invite):
        phone.answer(invite, 200, body=body)
        await phone.request("ACK")
        await phone.request("BYE")
        with pytest.raises(error):
            await task
        assert caller.endpoint.calls == 0


async def test_the_second_branch_of_a_fork_is_hung_up_on() -> None:
    async with dialling() as (_, phone, task, invite):
        phone.answer(invite, 200, body=sdp())
        await phone.request("ACK")
        phone.answer(invite, 200, body=sdp(), tag="other-phone")
        await phone.request("ACK")
        bye = await phone.request("BYE")
        assert tag_of(header(bye, "To")) == "other-phone"
        assert await next_event(await task) == Established()


async def test_the_cancel_waits_until_the_peer_was_heard_of() -> None:
    """Section 9.1."""
    async with dialling() as (caller, phone, task, invite):
        task.cancel()
        await asyncio.sleep(0.05)
        assert not [m for m in phone.received if getattr(m, "method", "") == "CANCEL"]
        phone.answer(invite, 180)
        cancel = await phone.request("CANCEL")
        assert header(cancel, "Via") == header(invite, "Via")
        phone.answer(cancel, 200)
        phone.answer(invite, 487)
        ack = await phone.request("ACK")
        assert header(ack, "Via") == header(invite, "Via")
        assert caller.endpoint.calls == 0


@pytest.mark.parametrize(
    ("status", "asks", "answers"),
    [(401, "WWW-Authenticate", "Authorization"), (407, "Proxy-Authenticate", "Proxy-Authorization")],
)
async def test_a_challenge_is_answered_once(status: int, asks: str, answers: str) -> None:
    server = DigestServer("pbx", {"bob": "zanzibar"}, b"s")
    async with dialling(username="bob", password="zanzibar") as (_, phone, task, invite):
        phone.answer(invite, status, {asks: server.challenges(0.0)[0]})
        second = await phone.request("INVITE")
        assert second.cseq.sequence == invite.cseq.sequence + 1
        assert second.call_id == invite.call_id
        assert header(second, "Via") != header(invite, "Via")
        assert server.verify("INVITE", second.headers.getlist(answers), 1.0) == "bob"
        assert parse_digest(header(second, answers))["uri"] == str(second.uri)
        phone.answer(second, status, {asks: server.challenges(0.0)[0]})
        with pytest.raises(CallFailed, match=str(status)):
            await task


async def test_a_challenge_in_mid_call_is_answered_too() -> None:
    server = DigestServer("pbx", {"bob": "zanzibar"}, b"s")
    async with dialling(username="bob", password="zanzibar") as (_, phone, task, invite):
        phone.answer(invite, 200, body=sdp())
        leg = await task
        holding = asyncio.create_task(leg.hold())
        reinvite = await phone.request("INVITE")
        phone.answer(reinvite, 401, {"WWW-Authenticate": server.challenges(0.0)[0]})
        again = await phone.request("INVITE")
        assert server.verify("INVITE", again.headers.getlist("Authorization"), 1.0) == "bob"
        phone.answer(again, 200, body=sdp(direction="recvonly"))
        await holding


@pytest.mark.parametrize("status", [302, 404, 486, 503, 603])
async def test_refusals_are_acknowledged_and_told(status: int) -> None:
    async with dialling() as (_, phone, task, invite):
        phone.answer(invite, status)
        await phone.request("ACK")
        with pytest.raises(CallFailed) as caught:
            await task
        assert caught.value.status == status


async def test_the_other_end_can_hold_us() -> None:
    async with dialling() as (_, phone, task, invite):
        phone.answer(invite, 200, body=sdp())
        leg = await task
        hold = phone.compose(
            "INVITE", to=header(invite, "From"), call_id=invite.call_id, body=sdp(direction="sendonly")
        )
        phone.send(hold.replace(";tag=phone", ";tag=peer"))
        assert b"a=recvonly" in (await phone.response(200)).body
        assert await next_event(leg, Held) == Held()


async def test_a_refused_hold_changes_nothing() -> None:
    async with dialling() as (_, phone, task, invite):
        phone.answer(invite, 200, body=sdp())
        leg: Any = await task
        holding = asyncio.create_task(leg.hold())
        phone.answer(await phone.request("INVITE"), 488)
        with pytest.raises(CallFailed, match="488"):
            await holding
        assert leg.agreement.direction.value == "sendrecv"
        resuming = asyncio.create_task(leg.resume())
        again = await phone.request("INVITE")
        assert b"a=sendrecv" in again.body
        phone.answer(again, 200, body=sdp())
        await resuming
