"""The ladder of a call at the embedded endpoint: every message once, with what matters in it."""

from __future__ import annotations

import asyncio

from connector.interfaces import Digit, Leg
from tests.fakes.sip import facing, header, next_event, running, sdp


def lines(leg: Leg) -> list[str]:
    """The ladder as text: `>` from us, `<` from them."""
    return [f"{'>' if step.sent else '<'} {step.message}" for step in leg.signalling]


async def test_a_call_that_comes_is_told_from_its_invite_to_its_bye() -> None:
    async with facing() as (callee, phone):
        leg, to = await phone.call(callee.inbox)
        phone.send(
            phone.compose(
                "INFO", to=to, cseq=2, body="Signal=5\r\n", headers="Content-Type: application/dtmf-relay\r\n"
            )
        )
        assert isinstance(await next_event(leg), Digit)
        phone.send(phone.compose("INVITE", to=to, cseq=3, body=sdp(direction="sendonly")))
        await phone.response(200, "INVITE")
        phone.send(phone.compose("ACK", to=to, cseq=3, branch="z9hG4bK-ack3"))
        phone.send(phone.compose("BYE", to=to, cseq=4))
        await phone.response(200, "BYE")
    assert lines(leg) == [
        "< INVITE",
        "> 100 Trying",
        "> 200 OK",
        "< ACK",
        "< INFO",
        "> 200 OK",
        "< INVITE",
        "> 200 OK",
        "< ACK",
        "< BYE",
        "> 200 OK",
    ]
    notes = [step.note for step in leg.signalling]
    assert notes[0] == "PCMU PCMA TELEPHONE-EVENT sendrecv 127.0.0.1:41000"
    assert notes[2].startswith("PCMU TELEPHONE-EVENT sendrecv 127.0.0.1:")
    assert notes[4] == "Signal=5"
    assert "sendonly" in notes[6]
    assert "recvonly" in notes[7]
    times = [step.at for step in leg.signalling]
    assert times == sorted(times)


async def test_retransmissions_are_not_repeated() -> None:
    async with facing() as (callee, phone):
        invite = phone.compose("INVITE", body=sdp())
        phone.send(invite)
        phone.send(invite)
        leg = await callee.inbox.answered()
        ok = [await phone.response(200) for _ in range(3)]  # nobody acknowledges: it is repeated
        ack = phone.compose("ACK", to=header(ok[0], "To"), branch="z9hG4bKack")
        phone.send(ack)
        phone.send(ack)
        await next_event(leg)
        await asyncio.sleep(0.1)
        assert lines(leg) == ["< INVITE", "> 100 Trying", "> 200 OK", "< ACK"]


async def test_a_cancelled_call_says_so() -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", body=sdp()))
        leg = await callee.inbox.next()
        await leg.ring()
        phone.send(phone.compose("CANCEL", headers='Reason: SIP;cause=200;text="Call completed elsewhere"\r\n'))
        await phone.response(487)
    assert lines(leg) == [
        "< INVITE",
        "> 100 Trying",
        "> 180 Ringing",
        "< CANCEL",
        "> 200 OK",
        "> 487 Request Terminated",
    ]
    assert leg.signalling[3].note == 'Reason: SIP;cause=200;text="Call completed elsewhere"'


async def test_a_call_of_ours_is_told_from_both_ends() -> None:
    async with running() as callee, running() as caller:
        dialling = asyncio.create_task(caller.endpoint.dial(callee.uri()))
        theirs = await callee.inbox.next()
        await theirs.ring()
        await theirs.answer()
        ours = await dialling
        await next_event(theirs)
        await ours.hang_up()
        await next_event(theirs)
        await asyncio.sleep(0.1)
    said = ["> INVITE", "< 100 Trying", "< 180 Ringing", "< 200 OK", "> ACK", "> BYE", "< 200 OK"]
    assert lines(ours) == said
    mirrored = str.maketrans("<>", "><")
    assert lines(theirs) == [line.translate(mirrored) for line in said]
    assert ours.signalling[0].note == theirs.signalling[0].note
