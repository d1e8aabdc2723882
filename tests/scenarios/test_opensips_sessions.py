"""Calls behind OpenSIPS, against a fake one with its bugs: whatever happens, nothing is left in it (virtual time)."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from connector.errors import CallFailed, ProtocolError
from connector.interfaces import Digit, Established, Held, MediaTimeout, Party, Resumed, Terminated
from connector.leg.opensips_leg import OpenSipsLeg
from connector.rtp.packet import RtpPacket
from tests.fakes.clock import virtual_time
from tests.fakes.opensips import FarEnd, Pair, pair
from tests.fakes.rtp_peer import RtpPeer
from tests.fakes.sip import next_event, sdp

KEY = "Signal=5\r\nDuration=160\r\n"
RELAY = "Content-Type: application/dtmf-relay\r\n"
NOTIFY = "Event: refer\r\nContent-Type: message/sipfrag\r\n"


# ---------------------------------------------------------------- incoming calls


@virtual_time
async def test_a_call_is_answered_and_the_caller_hangs_up() -> None:
    async with pair() as us:
        far = us.ua.call(headers="X-Voxtrunk-Peer: 192.0.2.7:5060\r\n")
        leg = await us.next()
        assert (leg.info.called, leg.info.calling, leg.info.peer) == ("1000", "200", "192.0.2.7:5060")
        await leg.ring()
        await leg.answer()
        far.ack()
        assert await next_event(leg) == Established()
        assert far.said() == [100, 180, 200]
        assert "m=audio" in (await far.hears(200)).body
        far.bye()
        assert await next_event(leg) == Terminated(Party.CALLER, "hung up")
        ladder = [(step.sent, step.message) for step in leg.signalling]
        assert ladder == [
            (False, "INVITE"),
            (True, "100 Trying"),
            (True, "180 Ringing"),
            (True, "200 OK"),
            (False, "ACK"),
            (False, "BYE"),
            (True, "200 OK"),
        ]


@virtual_time
async def test_we_hang_up() -> None:
    async with pair() as us:
        leg, far = await us.established()
        await leg.hang_up("done")
        await leg.hang_up("again")
        assert await next_event(leg) == Terminated(Party.AGENT, "done")
        await far.hears("BYE")


@virtual_time
async def test_both_hang_up_at_once() -> None:
    async with pair() as us:
        leg, far = await us.established()
        await leg.hang_up("done")
        far.bye()
        assert await next_event(leg) == Terminated(Party.AGENT, "done")


@virtual_time
async def test_a_cancelled_call_gets_its_487_and_leaves_nothing() -> None:
    async with pair() as us:
        far = us.ua.call()
        leg = await us.next()
        await leg.ring()
        far.cancel()
        assert await next_event(leg) == Terminated(Party.CALLER, "cancelled", 487)
        await far.hears(487)
        with pytest.raises(ProtocolError):
            await leg.answer()


@virtual_time
async def test_a_cancel_that_overtakes_its_invite() -> None:
    async with pair() as us:
        far = us.ua.call(quiet=True)
        far.cancel()
        us.ua.raise_event(far, "NEW", "INVITE", body=sdp(), extra="sip:1000@127.0.0.1")
        await far.hears(487)
        assert us.inbox.legs.empty()


@pytest.mark.parametrize(("status", "reason"), [(404, "Not Found"), (486, "Busy Here"), (503, "Service Unavailable")])
def test_a_refused_call_leaves_nothing(status: int, reason: str) -> None:
    @virtual_time
    async def run() -> None:
        async with pair() as us:
            far = us.ua.call()
            leg = await us.next()
            await leg.reject(status, reason, 7)
            assert await next_event(leg) == Terminated(Party.AGENT, reason, status)
            assert "Retry-After: 7\r\n" in (await far.hears(status)).headers
            await asyncio.sleep(0.1)
            far.ack()

    run()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (sdp(formats="18"), "", 488),
        ("v=1\r\n", "", 400),
        ("hello", "Content-Type: text/plain\r\n", 415),
        (sdp(), "Require: 100rel\r\n", 420),
    ],
)
def test_a_call_that_we_cannot_serve_is_refused_at_the_door(body: str, headers: str, status: int) -> None:
    @virtual_time
    async def run() -> None:
        async with pair() as us:
            far = us.ua.call(body, headers=headers)
            await far.hears(status)
            assert [refusal.status for refusal in us.refusals] == [status]
            assert us.inbox.legs.empty()

    run()


@virtual_time
async def test_above_the_cap_calls_are_refused_with_retry_after() -> None:
    async with pair(max_calls=1) as us:
        leg, _ = await us.established()
        second = us.ua.call()
        assert "Retry-After: 5" in (await second.hears(503)).headers
        await leg.hang_up()


@virtual_time
async def test_an_invite_without_an_offer_gets_ours_and_answers_it_in_its_ack() -> None:
    async with pair() as us:
        far = us.ua.call("")
        leg = await us.answered()
        assert " 0 8 101 " in (await far.hears(200)).body
        far.ack(sdp(formats="8 101"))
        assert await next_event(leg) == Established()
        assert leg.agreement.codec == "PCMA"
        await leg.hang_up()


@virtual_time
async def test_without_an_ack_the_call_ends() -> None:
    async with pair() as us:
        far = us.ua.call()
        leg = await us.answered()
        assert await next_event(leg, seconds=60) == Terminated(Party.SYSTEM, "the answer was not acknowledged", 408)
        await far.hears("BYE")


@virtual_time
async def test_no_bye_before_the_ack() -> None:
    async with pair() as us:
        far = us.ua.call()
        leg = await us.answered()
        await leg.hang_up("done")
        await asyncio.sleep(1)
        assert "BYE" not in far.said()
        far.ack()
        await far.hears("BYE")


# ---------------------------------------------------------------- within a call


@virtual_time
async def test_the_caller_holds_and_resumes_and_moves_the_media() -> None:
    with RtpPeer() as elsewhere:

        async def changed(far: FarEnd, body: str) -> str:
            assert far.request("INVITE", body) is None
            answer = await far.hears(200, "INVITE")
            far.ack()
            return answer.body

        async with pair() as us:
            leg, far = await us.established()
            assert "a=recvonly" in await changed(far, sdp(direction="sendonly"))
            assert await next_event(leg) == Held()
            assert "a=sendrecv" in await changed(far, sdp(port=elsewhere.local[1], formats="8 101"))
            assert await next_event(leg) == Resumed()
            await asyncio.sleep(0.2)
            assert {packet.payload_type for packet in elsewhere.packets()} == {8}
            await leg.hang_up()


@virtual_time
async def test_a_reoffer_that_we_cannot_meet_leaves_the_call_as_it_was() -> None:
    async with pair() as us:
        leg, far = await us.established()
        before = leg.agreement
        far.request("INVITE", sdp(formats="18"))
        await far.hears(488)
        far.ack()
        assert leg.agreement == before
        assert far.request("OPTIONS") is None
        assert "Allow: INVITE" in (await far.hears(200, "OPTIONS")).headers
        await leg.hang_up()


@virtual_time
async def test_every_request_is_answered_so_that_the_next_one_passes() -> None:
    async with pair() as us:
        leg, far = await us.established()
        for method, body, headers, status in [
            ("INFO", KEY, RELAY, 200),
            ("INFO", "?", "Content-Type: text/plain\r\n", 415),
            ("OPTIONS", "", "", 200),
            ("NOTIFY", "", "Event: presence\r\n", 489),
            ("MESSAGE", "", "", 405),
            ("FETCH", "", "", 501),
            ("UPDATE", "", "", 200),
            ("UPDATE", sdp(direction="sendonly"), "", 200),
            ("INVITE", "not SDP", "", 400),
        ]:
            assert far.request(method, body, headers) is None, method
            await far.hears(status, method)
            if method == "INVITE":
                far.ack()
        assert await next_event(leg) == Digit("5", 0.16)
        assert await next_event(leg) == Held()
        await leg.hang_up()


@virtual_time
async def test_we_hold_and_resume() -> None:
    async with pair() as us:
        leg, far = await us.established()
        for verb, ours, theirs in ((leg.hold, "sendonly", "recvonly"), (leg.resume, "sendrecv", "sendrecv")):
            change = asyncio.create_task(verb())
            assert f"a={ours}" in (await far.hears("INVITE")).body
            far.respond(200, body=sdp(direction=theirs))
            await change
        await leg.hang_up()


@virtual_time
async def test_a_reinvite_that_meets_theirs_is_tried_again() -> None:
    async with pair() as us:
        leg, far = await us.established()
        hold = asyncio.create_task(leg.hold())
        await far.hears("INVITE")
        assert far.request("INVITE", sdp()) == 491
        far.respond(491)
        await far.hears("INVITE")
        far.respond(200, body=sdp(direction="recvonly"))
        await hold
        await leg.hang_up()


@virtual_time
async def test_a_refused_reinvite_changes_nothing() -> None:
    async with pair() as us:
        leg, far = await us.established()
        hold = asyncio.create_task(leg.hold())
        await far.hears("INVITE")
        far.respond(488)
        with pytest.raises(CallFailed, match="488"):
            await hold
        assert leg.agreement.direction.value == "sendrecv"
        await leg.hang_up()


@virtual_time
async def test_a_peer_that_forgot_the_call_ends_it() -> None:
    async with pair() as us:
        leg, far = await us.established()
        hold = asyncio.create_task(leg.hold())
        await far.hears("INVITE")
        far.respond(481)
        with pytest.raises(CallFailed, match="481"):
            await hold
        assert await next_event(leg) == Terminated(Party.SYSTEM, "the peer no longer knows the call", 481)


@virtual_time
async def test_keys_go_out_as_info_where_the_peer_knows_no_telephone_events() -> None:
    async with pair() as us:
        leg, far = await us.established(
            "\r\n".join(line for line in sdp(formats="0").split("\r\n") if "101" not in line)
        )
        press = asyncio.create_task(leg.send_dtmf("42"))
        for digit in "42":
            info = await far.hears("INFO")
            assert info.headers == RELAY
            assert f"Signal={digit}" in info.body
            far.respond(200, method="INFO")
        await press
        await leg.hang_up()


@virtual_time
async def test_a_transfer_goes_through_although_its_notify_overtakes_the_202() -> None:
    async with pair() as us:
        leg, far = await us.established()
        transfer = asyncio.create_task(leg.transfer("+4930123456"))
        refer = await far.hears("REFER")
        assert refer.body == ""
        assert refer.headers.startswith("Refer-To: <sip:+4930123456@127.0.0.1:5099>\r\n")
        far.request("NOTIFY", "SIP/2.0 200 OK\r\n", NOTIFY)
        await far.hears(200, "NOTIFY")
        far.respond(202, method="REFER")
        await transfer
        assert await next_event(leg) == Terminated(Party.AGENT, "transferred")
        await far.hears("BYE")


@virtual_time
async def test_a_transfer_that_is_refused_leaves_the_call() -> None:
    async with pair() as us:
        leg, far = await us.established()
        transfer = asyncio.create_task(leg.transfer("sip:2000@192.0.2.1"))
        await far.hears("REFER")
        far.respond(603, method="REFER")
        with pytest.raises(CallFailed, match="603"):
            await transfer
        await leg.hang_up()


# ---------------------------------------------------------------- events and replies that are late, early or lost


@virtual_time
async def test_ack_and_bye_come_before_mi_has_confirmed_our_answer() -> None:
    async with pair() as us:
        us.ua.hold_reply = lambda command: 0.3 if command == "ua_session_reply" else 0.0
        far = us.ua.call()
        leg = await us.next()
        answering = asyncio.create_task(leg.answer())
        await far.hears(200)
        far.ack()
        assert await next_event(leg) == Established()
        far.bye()
        assert await next_event(leg) == Terminated(Party.CALLER, "hung up")
        await answering


@virtual_time
async def test_a_request_that_overtakes_the_ack_waits_for_it() -> None:
    async with pair() as us:
        far = us.ua.call("")
        leg = await us.answered()
        await far.hears(200)
        ack = us.ua.event(far, "UPDATED", "ACK", body=sdp(formats="8 101"))
        far.open_request = None
        far.request("INFO", KEY, RELAY)
        us.ua.send_event(ack)
        assert [await next_event(leg), await next_event(leg)] == [Established(), Digit("5", 0.16)]
        assert leg.agreement.codec == "PCMA"
        await leg.hang_up()


@virtual_time
async def test_a_lost_ack_event_is_found_by_asking_for_the_session() -> None:
    async with pair() as us:
        far = us.ua.call()
        leg = await us.answered()
        us.ua.lose_event = lambda kind: True
        far.ack()
        assert await next_event(leg, seconds=20) == Established()
        await leg.hang_up()


@virtual_time
async def test_a_lost_bye_event_is_found_by_asking_for_the_session() -> None:
    async with pair(media_timeout=120) as us:
        leg, far = await us.established(sdp(direction="sendonly"))
        await next_event(leg)
        us.ua.lose_event = lambda kind: True
        far.bye()
        assert await next_event(leg, seconds=20) == Terminated(Party.SYSTEM, "OpenSIPS no longer has the call")


@virtual_time
async def test_a_copy_of_an_event_is_none_of_a_request() -> None:
    async with pair() as us:
        leg, far = await us.established()
        far.request("INFO", KEY, RELAY)
        us.ua.raise_event(far, "UPDATED", "INFO", body=KEY, headers=RELAY)
        await far.hears(200, "INFO")
        await asyncio.sleep(0.1)
        await leg.hang_up()
        assert [await next_event(leg), await next_event(leg)] == [Digit("5", 0.16), Terminated(Party.AGENT, "")]


@virtual_time
async def test_lost_mi_replies_are_made_up_for_by_asking_again() -> None:
    async with pair() as us:
        lost = iter([True, True, False] * 10)
        us.ua.lose_reply = lambda command: command != "shv_set" and next(lost, False)
        leg, far = await us.established()
        await leg.hang_up()
        await far.hears("BYE")
        assert far.said().count(200) == 1


@virtual_time
async def test_a_bye_that_meets_an_unanswered_request_leaves_nothing() -> None:
    async with pair() as us:
        leg, far = await us.established()
        far.request("INVITE", sdp())
        await far.hears(200, "INVITE")
        far.bye()  # without an ACK: OpenSIPS keeps the session
        assert await next_event(leg) == Terminated(Party.CALLER, "hung up")


# ---------------------------------------------------------------- OpenSIPS and the connector come and go


@virtual_time
async def test_a_restarted_opensips_ends_the_calls_that_it_lost() -> None:
    async with pair() as us:
        leg, _ = await us.established()
        us.ua.silent = True
        await asyncio.sleep(2)
        us.ua.restart()
        us.ua.silent = False
        assert await next_event(leg, seconds=3) == Terminated(Party.SYSTEM, "OpenSIPS no longer has the call")


@virtual_time
async def test_silence_of_mi_alone_ends_no_call() -> None:
    with RtpPeer() as phone:
        async with pair() as us:
            leg, far = await us.established(sdp(port=phone.local[1]))
            talking = asyncio.create_task(_talk(phone, leg))
            us.ua.silent = True
            await asyncio.sleep(60)
            assert "does not answer" in us.endpoint.problem
            us.ua.silent = False
            await asyncio.sleep(3)
            assert us.endpoint.problem == ""
            far.request("INFO", KEY, RELAY)
            assert await next_event(leg) == Digit("5", 0.16)
            talking.cancel()
            await leg.hang_up()


@virtual_time
async def test_what_is_hung_up_while_mi_is_silent_is_ended_later() -> None:
    async with pair() as us:
        leg, far = await us.established()
        us.ua.silent = True
        await leg.hang_up("done")
        assert await next_event(leg) == Terminated(Party.AGENT, "done")
        await asyncio.sleep(10)
        assert us.ua.sessions
        us.ua.silent = False
        await far.hears("BYE")


@virtual_time
async def test_sessions_of_an_earlier_life_are_ended() -> None:
    async with pair() as us:
        us.ua.silent = True
        await asyncio.sleep(3)
        stranger = us.ua.call(quiet=True)
        stranger.state, stranger.open_request = stranger.state.ESTABLISHED, None
        us.ua.silent = False
        await stranger.hears("BYE")


@virtual_time
async def test_a_session_whose_first_event_was_lost_is_ended() -> None:
    async with pair() as us:
        far = us.ua.call(quiet=True)
        await asyncio.sleep(70)
        assert far.said() == [480]


@virtual_time
async def test_a_request_in_a_session_that_nobody_knows_ends_it() -> None:
    async with pair() as us:
        stranger = us.ua.call(quiet=True)
        stranger.state, stranger.open_request = stranger.state.ESTABLISHED, None
        stranger.request("INFO", KEY, RELAY)
        await stranger.hears("BYE")


@virtual_time
async def test_events_that_go_elsewhere_are_a_problem_in_words() -> None:
    async with pair() as us:
        us.ua.silent = True
        await asyncio.sleep(3)
        us.ua.subscriber = "udp:127.0.0.1:9"
        us.ua.silent = False
        await asyncio.sleep(2)
        assert "sends no E_UA_SESSION" in us.endpoint.problem
        us.ua.subscriber = f"udp:{us.ua.events}"
        await asyncio.sleep(2)
        assert us.endpoint.problem == ""


@virtual_time
async def test_closing_hangs_up_and_says_that_we_are_gone() -> None:
    async with pair(leftover=0) as us:
        leg, far = await us.established()
        assert us.ua.heartbeat > 0
        closing = asyncio.create_task(us.endpoint.aclose())
        await far.hears("BYE")
        await closing
        assert us.ua.heartbeat == 0
        assert await next_event(leg) == Terminated(Party.AGENT, "shutdown")


# ---------------------------------------------------------------- silent media


async def _talk(phone: RtpPeer, leg: OpenSipsLeg) -> None:
    for n in count():
        packet = RtpPacket(payload_type=0, sequence=n % 65536, timestamp=160 * n, ssrc=1, payload=bytes(160))
        phone.send(packet, leg.rtp.local)
        await asyncio.sleep(0.02)


async def _silence(us: Pair, phone: RtpPeer) -> tuple[OpenSipsLeg, FarEnd, float]:
    leg, far = await us.established(sdp(port=phone.local[1]))
    talking = asyncio.create_task(_talk(phone, leg))
    await asyncio.sleep(2)
    talking.cancel()
    return leg, far, asyncio.get_running_loop().time()


@virtual_time
async def test_silence_asks_with_a_reinvite_and_the_call_goes_on() -> None:
    with RtpPeer() as phone:
        async with pair() as us:
            leg, far, since = await _silence(us, phone)
            invite = await far.heard.get()
            while invite.message != "INVITE":
                invite = await far.heard.get()
            assert asyncio.get_running_loop().time() - since == pytest.approx(5, abs=0.2)
            far.respond(200, body=sdp(port=phone.local[1]))
            talking = asyncio.create_task(_talk(phone, leg))
            await asyncio.sleep(60)
            assert far.said().count("INVITE") == 1
            talking.cancel()
            await leg.hang_up()


@virtual_time
async def test_silence_that_nobody_explains_ends_the_call_within_ten_seconds() -> None:
    with RtpPeer() as phone:
        async with pair() as us:
            leg, _, since = await _silence(us, phone)
            ended = await next_event(leg, Terminated, seconds=15)
            assert ended == Terminated(Party.SYSTEM, "no RTP, and no answer to a re-INVITE")
            assert asyncio.get_running_loop().time() - since < 10


@virtual_time
async def test_a_muted_phone_that_answers_is_given_up_at_the_media_timeout() -> None:
    with RtpPeer() as phone:
        async with pair(media_timeout=20) as us:
            leg, far, since = await _silence(us, phone)

            async def answer() -> None:
                while True:
                    if (await far.heard.get()).message == "INVITE":
                        far.respond(200, body=sdp(port=phone.local[1]))

            answering = asyncio.create_task(answer())
            timeout = await next_event(leg, MediaTimeout, seconds=60)
            assert isinstance(timeout, MediaTimeout)
            assert timeout.seconds == pytest.approx(20, abs=0.5)
            assert asyncio.get_running_loop().time() - since == pytest.approx(20, abs=0.5)
            answering.cancel()
            await leg.hang_up()


@virtual_time
async def test_silence_before_a_late_ack_is_asked_about_after_it() -> None:
    async with pair() as us:
        far = us.ua.call()
        leg = await us.answered()
        await asyncio.sleep(7)
        assert "INVITE" not in far.said()
        far.ack()
        await far.hears("INVITE")
        assert await next_event(leg, Terminated) == Terminated(Party.SYSTEM, "no RTP, and no answer to a re-INVITE")


# ---------------------------------------------------------------- outgoing calls


@virtual_time
async def test_an_outgoing_call() -> None:
    async with pair() as us:
        seen: list[int] = []
        dialling = asyncio.create_task(
            us.endpoint.dial("sip:200@192.0.2.9", on_provisional=lambda status, reason: seen.append(status))
        )
        far = await us.ua.called()
        assert "Content-Type: application/sdp\r\n" in (await far.hears("INVITE")).headers
        far.respond(180)
        far.respond(200, body=sdp(formats="8 101"))
        leg = await dialling
        assert seen == [180]
        assert await next_event(leg) == Established()
        far.bye()
        assert await next_event(leg) == Terminated(Party.CALLER, "hung up")


@virtual_time
async def test_the_answer_and_a_bye_overtake_the_key_of_an_outgoing_call() -> None:
    async with pair() as us:
        us.ua.hold_reply = lambda command: 0.5 if command == "ua_session_client_start" else 0.0
        dialling = asyncio.create_task(us.endpoint.dial("sip:200@192.0.2.9"))
        far = await us.ua.called()
        far.respond(200, body=sdp())
        far.bye()
        leg = await dialling
        assert [await next_event(leg), await next_event(leg)] == [Established(), Terminated(Party.CALLER, "hung up")]


@pytest.mark.parametrize("ringing", [False, True])
def test_a_refused_outgoing_call(ringing: bool) -> None:
    """One that was refused after ringing is what OpenSIPS cannot be made to forget."""

    @virtual_time
    async def run() -> None:
        async with pair(leftover=int(ringing)) as us:
            dialling = asyncio.create_task(us.endpoint.dial("sip:200@192.0.2.9"))
            far = await us.ua.called()
            if ringing:
                far.respond(180)
            far.respond(486, "Busy Here")
            with pytest.raises(CallFailed, match="486 Busy Here"):
                await dialling

    run()


@pytest.mark.parametrize("answered_meanwhile", [False, True])
def test_a_cancelled_outgoing_call_leaves_nothing(answered_meanwhile: bool) -> None:
    @virtual_time
    async def run() -> None:
        async with pair() as us:
            dialling = asyncio.create_task(us.endpoint.dial("sip:200@192.0.2.9"))
            far = await us.ua.called()
            far.respond(180)
            await asyncio.sleep(0.1)
            dialling.cancel()
            await far.hears("CANCEL")
            far.respond(200 if answered_meanwhile else 487, body=sdp() if answered_meanwhile else "")
            with pytest.raises(asyncio.CancelledError):
                await dialling

    run()


@virtual_time
async def test_an_outgoing_call_with_an_unusable_answer_is_hung_up() -> None:
    async with pair() as us:
        dialling = asyncio.create_task(us.endpoint.dial("sip:200@192.0.2.9"))
        far = await us.ua.called()
        far.respond(200, body=sdp(formats="18"))
        with pytest.raises(Exception, match="PCMU, PCMA is offered"):
            await dialling
        await far.hears("BYE")
