"""The embedded endpoint against a bare peer that says exactly what a test wants (RFC 3261 as UAS, RFC 3311, 6086)."""

from __future__ import annotations

import asyncio

import pytest

from connector.errors import ProtocolError
from connector.interfaces import Digit, Established, Held, Party, Resumed, Terminated
from connector.leg.endpoint import Refusal
from connector.sip.digest import DigestClient, parse_digest
from connector.sip.message import parse_name_addr
from tests.fakes.sip import Peer, Started, facing, header, next_event, sdp, tag_of


async def establish(callee: Started, phone: Peer, body: str | None = None):
    return await phone.call(callee.inbox, body=body)


# ---------------------------------------------------------------- setting up


async def test_a_call_as_section_24_draws_it() -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", body=sdp(), headers="Record-Route: <sip:127.0.0.1;lr>\r\n"))
        await phone.response(100)
        leg = await callee.inbox.next()
        await leg.ring()
        ringing = await phone.response(180)
        await leg.answer()
        ok = await phone.response(200)
        assert tag_of(header(ringing, "To")) == tag_of(header(ok, "To")) != ""
        assert header(ok, "Record-Route") == "<sip:127.0.0.1;lr>"
        assert parse_name_addr(header(ok, "Contact")).uri.port == callee.address[1]
        assert "INVITE" in header(ok, "Allow")
        assert ok.body.decode().startswith("v=0")


async def test_the_200_is_repeated_until_the_ack_and_then_no_more() -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", body=sdp()))
        leg = await callee.inbox.answered()
        ok = [await phone.response(200) for _ in range(3)]
        assert len({bytes(m) for m in ok}) == 1
        phone.send(phone.compose("ACK", to=header(ok[0], "To"), branch="z9hG4bKack"))
        assert await next_event(leg) == Established()
        count = phone.count(200, "INVITE")
        await asyncio.sleep(0.5)
        assert phone.count(200, "INVITE") == count


async def test_without_any_ack_the_call_ends_with_a_bye() -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", body=sdp()))
        leg = await callee.inbox.answered()
        assert await next_event(leg) == Terminated(Party.SYSTEM, "the answer was not acknowledged", 408)
        await phone.request("BYE")
        assert phone.count(200, "INVITE") > 10


async def test_no_bye_before_the_ack() -> None:
    """Section 15: the BYE of a callee waits for the ACK of its 200."""
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", body=sdp()))
        leg = await callee.inbox.answered()
        ok = await phone.response(200)
        await leg.hang_up()
        assert await next_event(leg) == Terminated(Party.AGENT, "")
        await phone.response(200, "INVITE")
        assert not [m for m in phone.received if getattr(m, "method", "") == "BYE"]
        phone.send(phone.compose("ACK", to=header(ok, "To"), branch="z9hG4bKack"))
        await phone.request("BYE")


async def test_copies_of_the_invite_make_one_call() -> None:
    async with facing() as (callee, phone):
        for _ in range(3):
            phone.send(phone.compose("INVITE", body=sdp()))
        await callee.inbox.answered()
        await phone.response(200)
        phone.send(phone.compose("INVITE", body=sdp()))
        await asyncio.sleep(0.05)
        assert callee.inbox.legs.empty()
        assert callee.endpoint.calls == 1


async def test_a_merged_invite_is_482() -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", body=sdp()))
        phone.send(phone.compose("INVITE", body=sdp(), branch="z9hG4bKanother-way"))
        await phone.response(482)
        await callee.inbox.next()
        assert callee.inbox.legs.empty()


async def test_delayed_offer_ours_goes_in_the_200_and_theirs_comes_in_the_ack() -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE"))
        leg = await callee.inbox.answered()
        ok = await phone.response(200)
        assert b" 0 8 101 " in ok.body
        phone.send(phone.compose("ACK", to=header(ok, "To"), branch="z9hG4bKack", body=sdp(42000, "8 101")))
        assert await next_event(leg) == Established()
        assert leg.agreement is not None
        assert (leg.agreement.codec, leg.agreement.port) == ("PCMA", 42000)


@pytest.mark.parametrize("body", ["", "rubbish", sdp(formats="18")])
async def test_delayed_offer_without_a_usable_answer_ends_the_call(body: str) -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE"))
        leg = await callee.inbox.answered()
        ok = await phone.response(200)
        phone.send(phone.compose("ACK", to=header(ok, "To"), branch="z9hG4bKack", body=body))
        await phone.request("BYE")
        assert await next_event(leg, Terminated) == Terminated(Party.SYSTEM, "unusable answer")


async def test_sdp_inside_a_multipart_body_is_found() -> None:
    text = "--b1\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
    body = f"{text}--b1\r\nContent-Type: application/sdp\r\n\r\n{sdp()}\r\n--b1--\r\n"
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", body=body, headers='Content-Type: multipart/mixed;boundary="b1"\r\n'))
        await callee.inbox.answered()
        assert b"m=audio" in (await phone.response(200)).body


# ---------------------------------------------------------------- refusing


@pytest.mark.parametrize(
    ("status", "headers", "body", "uri", "answer"),
    [
        (400, "", "v=0\r\nrubbish", "", "Warning"),
        (488, "", sdp(formats="18"), "", "Warning"),
        (488, "", sdp().replace("RTP/AVP", "RTP/SAVP"), "", "Warning"),
        (415, "Content-Type: application/isup\r\n", "x", "", "Accept"),
        (415, "Content-Type: application/sdp\r\nContent-Encoding: gzip\r\n", sdp(), "", "Accept"),
        (420, "Require: 100rel, timer\r\n", sdp(), "", "Unsupported"),
        (416, "", sdp(), "mailto:a@b", ""),
        (400, "Content-Type: multipart/mixed\r\n", "x", "", "Warning"),
    ],
)
async def test_an_invite_that_cannot_be_served(status: int, headers: str, body: str, uri: str, answer: str) -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", headers=headers, body=body, uri=uri))
        response = await phone.response(status)
        assert not answer or header(response, answer)
        assert tag_of(header(response, "To"))
        phone.send(phone.compose("ACK", to=header(response, "To"), branch="z9hG4bK-call-1-1-INVITE"))
        await asyncio.sleep(0.15)
        assert phone.count(status, "INVITE") == 1, "the ACK ends the repetition"
        assert callee.inbox.legs.empty()


async def test_100rel_is_refused_politely() -> None:
    async with facing() as (_, phone):
        phone.send(phone.compose("INVITE", headers="Require: 100rel\r\n", body=sdp()))
        assert header(await phone.response(420), "Unsupported") == "100rel"


async def test_supported_100rel_and_timer_do_no_harm() -> None:
    headers = "Supported: 100rel, timer, replaces\r\nSession-Expires: 1800;refresher=uac\r\nMin-SE: 90\r\n"
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", headers=headers, body=sdp()))
        await callee.inbox.answered()
        ok = await phone.response(200)
        assert ok.headers.get("Require") is None


async def test_without_contact_is_400() -> None:
    async with facing() as (_, phone):
        invite = phone.compose("INVITE", body=sdp())
        phone.send("".join(line for line in invite.splitlines(keepends=True) if not line.startswith("Contact")))
        await phone.response(400)


STRANGERS = {"listen": "0.0.0.0:0", "allow": ["192.0.2.0/24"]}
"""Settings that keep 127.0.0.1 out."""


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "REGISTER", "MESSAGE", "INFO", "BYE", "SUBSCRIBE", "WIBBLE"])
@pytest.mark.parametrize(
    ("settings", "status"), [(STRANGERS, 403), ({"users": [{"name": "bob", "password": "x"}]}, 401)]
)
async def test_strangers_may_ask_for_nothing(method: str, settings: dict[str, object], status: int) -> None:
    async with facing(settings=settings) as (callee, phone):
        phone.send(phone.compose(method, body=sdp() if method == "INVITE" else "", headers="Require: wibble\r\n"))
        refused = await phone.response(status, method)
        assert bool(refused.headers.getlist("WWW-Authenticate")) == (status == 401)
        assert refused.headers.get("Allow") is None
        assert callee.endpoint.calls == 0


@pytest.mark.parametrize("to", ["", "<sip:1000@x>;tag=unknown"])
async def test_a_stranger_gets_one_answer_for_each_request_and_no_more(to: str) -> None:
    """RFC 3261 section 26.3.2.4: with a victim's address on it, an INVITE must not bring him a row of answers."""
    async with facing(settings=STRANGERS) as (_, phone):
        invite = phone.compose("INVITE", to=to, body=sdp())
        phone.send(invite)
        first = await phone.response(481 if to else 403)
        await asyncio.sleep(1)  # twenty times T1
        assert [message.code for message in phone.received] == [first.code]
        phone.send(invite)
        again = await phone.response(first.code)
        assert tag_of(header(again, "To")) == tag_of(header(first, "To"))
        phone.send(phone.compose("ACK", to=header(again, "To"), branch="z9hG4bK-call-1-1-INVITE"))
        phone.send(phone.compose("CANCEL", to=to))
        await phone.response(481, "CANCEL")


@pytest.mark.parametrize(
    ("settings", "invite", "status", "reason"),
    [
        (STRANGERS, {"body": sdp()}, 403, "the address is not on the allow-list"),
        ({}, {"body": "v=0\r\nrubbish"}, 400, "SDP"),
        ({}, {"body": sdp(formats="18")}, 488, "PCMU, PCMA is offered"),
        ({}, {"body": sdp(), "uri": "mailto:a@b"}, 416, "only sip, sips and tel"),
        ({}, {"body": sdp(), "headers": "Require: 100rel\r\n"}, 420, "100rel"),
        ({"max_calls": 1}, {"body": sdp()}, 503, "the cap on calls"),
    ],
)
async def test_every_call_refused_at_the_door_is_told(settings, invite, status, reason) -> None:
    told: list[Refusal] = []
    async with facing(settings=settings, on_refused=told.append) as (callee, phone):
        if status == 503:
            await phone.call(callee.inbox, call_id="first")
        phone.send(phone.compose("INVITE", **invite))
        await phone.response(status)
        (refusal,) = told
        assert refusal.status == status
        assert reason in refusal.reason
        assert (refusal.info.call_id, refusal.info.calling) == ("call-1", "200")
        assert refusal.info.peer == "{}:{}".format(*phone.address)


async def test_an_invite_that_cannot_be_read_is_told_and_other_rubbish_is_not() -> None:
    told: list[Refusal] = []
    async with facing(on_refused=told.append) as (_, phone):
        phone.send(b"rubbish\r\n\r\n")
        phone.send(phone.compose("OPTIONS").replace("Max-Forwards: 70", "Max-Forwards: many"))
        phone.send(phone.compose("INVITE", body=sdp()).replace("Max-Forwards: 70", "Max-Forwards: many"))
        await phone.response(400, "INVITE")
        assert [(refusal.status, refusal.info.peer) for refusal in told] == [(400, "{}:{}".format(*phone.address))]


async def test_to_be_asked_for_credentials_is_no_refusal_and_to_have_wrong_ones_is() -> None:
    told: list[Refusal] = []
    settings = {"users": [{"name": "bob", "password": "x"}]}
    async with facing(settings=settings, on_refused=told.append) as (callee, phone):
        phone.send(phone.compose("INVITE", body=sdp()))
        challenges = (await phone.response(401)).headers.getlist("WWW-Authenticate")
        assert told == []
        for cseq, password in ((2, "y"), (3, "x")):
            client = DigestClient("bob", password, lambda: "c")
            credentials = client.authorize("INVITE", "sip:1000@voxtrunk", challenges)
            phone.send(phone.compose("INVITE", cseq=cseq, body=sdp(), headers=f"Authorization: {credentials}\r\n"))
        await callee.inbox.next()
        assert [(refusal.status, refusal.reason) for refusal in told] == [(401, "the name or the password is wrong")]


async def test_digest_wrong_is_401_a_replay_is_stale_and_right_is_let_in() -> None:
    async with facing(settings={"users": [{"name": "bob", "password": "x"}]}) as (callee, phone):
        uri = "sip:1000@{}:{}".format(*phone.target)
        phone.send(phone.compose("INVITE", body=sdp()))
        challenge = await phone.response(401)
        challenges = challenge.headers.getlist("WWW-Authenticate")
        assert [parse_digest(value)["algorithm"] for value in challenges] == ["MD5", "SHA-256"]
        assert "stale" not in parse_digest(challenges[0])
        right = DigestClient("bob", "x", lambda: "c").authorize("INVITE", uri, challenges)
        wrong = DigestClient("bob", "y", lambda: "c").authorize("INVITE", uri, challenges)

        phone.send(phone.compose("INVITE", cseq=2, body=sdp(), headers=f"Authorization: {wrong}\r\n"))
        assert "stale" not in parse_digest(header(await phone.response(401), "WWW-Authenticate"))
        phone.send(phone.compose("INVITE", cseq=3, body=sdp(), headers=f"Authorization: {right}\r\n"))
        await callee.inbox.next()
        phone.send(phone.compose("INVITE", cseq=4, call_id="b", body=sdp(), headers=f"Authorization: {right}\r\n"))
        again = await phone.response(401)
        while again.call_id != "b":
            again = await phone.response(401)
        assert parse_digest(header(again, "WWW-Authenticate"))["stale"] == "true"


async def test_over_the_cap_is_503_with_retry_after() -> None:
    async with facing(settings={"max_calls": 1, "retry_after": 7}) as (callee, phone):
        await establish(callee, phone)
        phone.send(phone.compose("INVITE", call_id="second", body=sdp()))
        assert header(await phone.response(503), "Retry-After") == "7"


async def test_cancel_while_ringing_is_200_and_487_and_nothing_else() -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", body=sdp()))
        leg = await callee.inbox.next()
        await leg.ring()
        await phone.response(180)
        phone.send(phone.compose("CANCEL"))
        await phone.response(200, "CANCEL")
        gone = await phone.response(487, "INVITE")
        phone.send(phone.compose("ACK", to=header(gone, "To"), branch="z9hG4bK-call-1-1-INVITE"))
        assert await next_event(leg) == Terminated(Party.CALLER, "cancelled", 487)
        with pytest.raises(ProtocolError):
            await leg.answer()
        await asyncio.sleep(0.1)
        assert [m.code for m in phone.received if m.cseq.method == "INVITE"] == [100, 180, 487]


async def test_cancel_at_once_before_the_media_is_open() -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", body=sdp()))
        phone.send(phone.compose("CANCEL"))
        await phone.response(487, "INVITE")
        await asyncio.sleep(0.05)
        assert callee.endpoint.calls == 0


async def test_cancel_of_nothing_is_481_and_after_the_answer_it_changes_nothing() -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("CANCEL", call_id="unknown"))
        await phone.response(481, "CANCEL")
        await establish(callee, phone)
        phone.send(phone.compose("CANCEL"))
        await phone.response(200, "CANCEL")
        assert callee.endpoint.calls == 1


async def test_hanging_up_on_a_ringing_call_is_480() -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", body=sdp()))
        leg = await callee.inbox.next()
        await leg.hang_up("shutdown")
        await phone.response(480)


async def test_bye_before_the_answer_ends_the_invite_too() -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", body=sdp()))
        leg = await callee.inbox.next()
        await leg.ring()
        to = header(await phone.response(180), "To")
        phone.send(phone.compose("BYE", to=to, cseq=2))
        await phone.response(200, "BYE")
        await phone.response(487, "INVITE")
        assert await next_event(leg) == Terminated(Party.CALLER, "hung up")


# ---------------------------------------------------------------- in a call


async def test_hold_resume_media_move_and_codec_change_by_the_phone() -> None:
    async with facing() as (callee, phone):
        leg, to = await establish(callee, phone)
        steps = [
            (sdp(direction="sendonly"), b"a=recvonly", Held()),
            (sdp(direction="sendrecv"), b"a=sendrecv", Resumed()),
            (sdp(direction="inactive"), b"a=inactive", Held()),
            (sdp(42002, "8 101"), b"RTP/AVP 8 101", Resumed()),
            (sdp().replace("c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0"), b"a=recvonly", Held()),
        ]
        for cseq, (body, expected, event) in enumerate(steps, start=2):
            phone.send(phone.compose("INVITE", to=to, cseq=cseq, body=body))
            ok = await phone.response(200, "INVITE")
            while ok.cseq.sequence != cseq:
                ok = await phone.response(200, "INVITE")
            assert expected in ok.body
            assert await next_event(leg) == event
            phone.send(phone.compose("ACK", to=to, cseq=cseq, branch=f"z9hG4bKack{cseq}"))
            if b"RTP/AVP 8" in ok.body:
                assert (leg.agreement.codec, leg.agreement.port) == ("PCMA", 42002)


async def test_a_reinvite_that_cannot_be_met_leaves_the_call_as_it_was() -> None:
    async with facing() as (callee, phone):
        leg, to = await establish(callee, phone)
        for cseq, body, status in ((2, sdp(formats="18"), 488), (3, "rubbish", 400)):
            phone.send(phone.compose("INVITE", to=to, cseq=cseq, body=body))
            await phone.response(status, "INVITE")
        assert leg.agreement.codec == "PCMU"
        phone.send(phone.compose("BYE", to=to, cseq=4))
        await phone.response(200, "BYE")


async def test_a_reinvite_without_sdp_gets_our_offer() -> None:
    async with facing() as (callee, phone):
        leg, to = await establish(callee, phone)
        phone.send(phone.compose("INVITE", to=to, cseq=2))
        ok = await phone.response(200, "INVITE")
        assert b"m=audio" in ok.body
        phone.send(phone.compose("INVITE", to=to, cseq=3, body=sdp()))
        await phone.response(491, "INVITE")
        phone.send(phone.compose("ACK", to=to, cseq=2, branch="z9hG4bKack2", body=sdp(43000, "8")))
        phone.send(phone.compose("OPTIONS", to=to, cseq=4))
        await phone.response(200, "OPTIONS")
        assert (leg.agreement.codec, leg.agreement.port) == ("PCMA", 43000)


async def test_while_our_offer_is_out_theirs_is_491() -> None:
    async with facing() as (callee, phone):
        leg, to = await establish(callee, phone)
        holding = asyncio.create_task(leg.hold())
        reinvite = await phone.request("INVITE")
        assert b"a=sendonly" in reinvite.body
        for cseq, method in ((2, "INVITE"), (3, "UPDATE")):
            phone.send(phone.compose(method, to=to, cseq=cseq, body=sdp()))
            await phone.response(491, method)
        phone.answer(reinvite, 200, body=sdp(direction="recvonly"))
        assert (await phone.request("ACK")).cseq.sequence == reinvite.cseq.sequence
        await holding


async def test_our_ack_is_repeated_with_their_200() -> None:
    async with facing() as (callee, phone):
        leg, _ = await establish(callee, phone)
        holding = asyncio.create_task(leg.hold())
        reinvite = await phone.request("INVITE")
        for _ in range(2):
            phone.answer(reinvite, 200, body=sdp(direction="recvonly"))
            await phone.request("ACK")
        await holding


async def test_a_peer_that_forgot_the_call_ends_it() -> None:
    """Section 12.2.1.2."""
    async with facing() as (callee, phone):
        leg, _ = await establish(callee, phone)
        holding = asyncio.create_task(leg.hold())
        phone.answer(await phone.request("INVITE"), 481)
        assert await next_event(leg) == Terminated(Party.SYSTEM, "the peer no longer knows the call", 481)
        with pytest.raises(Exception, match="481"):
            await holding


@pytest.mark.parametrize(
    ("content_type", "body", "digit"),
    [
        ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", Digit("5", 0.16)),
        ("application/dtmf-relay", "Signal= *\nDuration= 250", Digit("*", 0.25)),
        ("application/dtmf-relay", "Signal=11\r\n", Digit("#", 0.0)),
        ("application/dtmf", "7", Digit("7", 0.0)),
        ("application/dtmf", "d\r\n", Digit("D", 0.0)),
    ],
)
async def test_dtmf_by_info(content_type: str, body: str, digit: Digit) -> None:
    async with facing() as (callee, phone):
        leg, to = await establish(callee, phone)
        phone.send(phone.compose("INFO", to=to, cseq=2, headers=f"Content-Type: {content_type}\r\n", body=body))
        await phone.response(200, "INFO")
        assert await next_event(leg) == digit


@pytest.mark.parametrize(
    ("method", "headers", "body", "status"),
    [
        ("INFO", "", "", 200),
        ("INFO", "Content-Type: application/media_control+xml\r\n", "<x/>", 415),
        ("INFO", "Content-Type: application/dtmf-relay\r\n", "Signal=Z", 400),
        ("OPTIONS", "", "", 200),
        ("UPDATE", "", "", 200),
        ("NOTIFY", "Event: message-summary\r\n", "", 489),
        ("NOTIFY", "Event: refer\r\nContent-Type: message/sipfrag\r\n", "rubbish", 400),
        ("MESSAGE", "Content-Type: text/plain\r\n", "hi", 405),
        ("REFER", "Refer-To: <sip:2000@pbx>\r\n", "", 405),
        ("PRACK", "RAck: 1 1 INVITE\r\n", "", 405),
        ("WIBBLE", "", "", 501),
        ("INFO", "Require: wibble\r\n", "", 420),
    ],
)
async def test_requests_in_a_call_get_the_answer_that_is_theirs(method, headers, body, status) -> None:
    async with facing() as (callee, phone):
        _, to = await establish(callee, phone)
        phone.send(phone.compose(method, to=to, cseq=2, headers=headers, body=body))
        response = await phone.response(status, method)
        assert status not in (405, 501) or "INFO" in header(response, "Allow")
        assert callee.endpoint.calls == 1


async def test_update_with_an_offer_is_answered_like_a_reinvite() -> None:
    async with facing() as (callee, phone):
        leg, to = await establish(callee, phone)
        phone.send(phone.compose("UPDATE", to=to, cseq=2, body=sdp(direction="sendonly")))
        assert b"a=recvonly" in (await phone.response(200, "UPDATE")).body
        assert await next_event(leg) == Held()


async def test_a_session_refresh_every_few_minutes_does_not_end_the_call() -> None:
    async with facing() as (callee, phone):
        leg, to = await establish(callee, phone)
        refresh = "Session-Expires: 90;refresher=uac\r\nSupported: timer\r\n"
        versions = set()
        for cseq in range(2, 8):
            phone.send(phone.compose("INVITE", to=to, cseq=cseq, headers=refresh, body=sdp()))
            ok = await phone.response(200, "INVITE")
            while ok.cseq.sequence != cseq:
                ok = await phone.response(200, "INVITE")
            versions.add(ok.body.split(b"\r\n")[1])
            phone.send(phone.compose("ACK", to=to, cseq=cseq, branch=f"z9hG4bKack{cseq}"))
        assert len(versions) == 1, "nothing changed, so neither does the version"
        assert callee.endpoint.calls == 1
        assert leg.agreement.direction.value == "sendrecv"


async def test_requests_out_of_order_are_500_and_harmless() -> None:
    async with facing() as (callee, phone):
        _, to = await establish(callee, phone)
        phone.send(phone.compose("INFO", to=to, cseq=10))
        await phone.response(200, "INFO")
        phone.send(phone.compose("BYE", to=to, cseq=5))
        await phone.response(500, "BYE")
        assert callee.endpoint.calls == 1


async def test_a_reinvite_before_the_answer_is_500_with_retry_after() -> None:
    async with facing() as (callee, phone):
        phone.send(phone.compose("INVITE", body=sdp()))
        leg = await callee.inbox.next()
        await leg.ring()
        to = header(await phone.response(180), "To")
        phone.send(phone.compose("INVITE", to=to, cseq=2, body=sdp()))
        assert header(await phone.response(500), "Retry-After")
        await leg.answer()
        await phone.response(200)


async def test_keys_go_by_info_where_the_phone_knows_no_telephone_events() -> None:
    async with facing() as (callee, phone):
        leg, _ = await establish(callee, phone, sdp(formats="0"))
        pressing = asyncio.create_task(leg.send_dtmf("4#"))
        for digit in "4#":
            info = await phone.request("INFO")
            assert f"Signal={digit}".encode() in info.body
            phone.answer(info, 200)
        await pressing


# ---------------------------------------------------------------- outside of calls


@pytest.mark.parametrize(
    ("method", "to", "status"),
    [
        ("OPTIONS", "", 200),
        ("REGISTER", "", 405),
        ("SUBSCRIBE", "", 405),
        ("MESSAGE", "", 405),
        ("WIBBLE", "", 501),
        ("BYE", "", 481),
        ("INFO", "", 481),
        ("BYE", "<sip:1000@x>;tag=unknown", 481),
        ("INVITE", "<sip:1000@x>;tag=unknown", 481),
        ("OPTIONS", "<sip:1000@x>;tag=unknown", 481),
    ],
)
async def test_requests_outside_of_a_call(method: str, to: str, status: int) -> None:
    async with facing() as (_, phone):
        phone.send(phone.compose(method, to=to))
        response = await phone.response(status, method)
        assert status not in (405, 501) or header(response, "Allow")


async def test_options_tells_what_we_can() -> None:
    async with facing() as (_, phone):
        phone.send(phone.compose("OPTIONS"))
        ok = await phone.response(200)
        assert header(ok, "Accept") == "application/sdp"
        assert "BYE" in header(ok, "Allow")


async def test_keep_alives_and_stray_messages_are_not_answered() -> None:
    async with facing() as (_, phone):
        for data in (
            b"\r\n\r\n",
            b"\0\0\0\0",
            b"",
            phone.compose("ACK", to="<sip:x@y>;tag=z").encode(),
            b"SIP/2.0 200 OK\r\n\r\n",
        ):
            phone.send(data)
        phone.send(phone.compose("OPTIONS"))
        await phone.response(200)
        assert len(phone.received) == 1
