"""Calls through the whole stack: what a caller's side of SIP can do, answered by `voxtrunk serve` behind OpenSIPS."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connector.app import SystemClock
from connector.cli.phone.caller import Caller
from connector.cli.phone.own import own_phone
from connector.errors import CallFailed
from connector.interfaces import Digit, Established, Party, Terminated
from connector.sip.message import to_tag
from tests.e2e import command, pjsua, sipp
from tests.e2e.answering import Answering
from tests.e2e.desk import staffed
from tests.e2e.opensips import Stack, installations, running
from tests.e2e.trunk import Trunk, Voice, cdr, ladder, media_of, sdp
from tests.fakes.models import models_folder
from tests.fakes.voices import spoken

pytestmark = pytest.mark.asyncio(loop_scope="module")

needs_sipp = pytest.mark.skipif(sipp.missing_reason() is not None, reason=str(sipp.missing_reason()))

CLOCK = SystemClock()

MAX_CALLS = 4

ROUTES = [
    {"number": "1000", "flavor": "echo"},
    {"number": "2000", "flavor": "offline", "with": {"greeting": "Welcome to the front desk."}},
]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=installations(), ids=str)
async def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    settings: dict[str, Any] = {"sip": {"max_calls": MAX_CALLS, "retry_after": 7}, "models": str(models_folder())}
    folder = tmp_path_factory.mktemp("stack")
    async with running(request.param, folder, routes=ROUTES, **settings) as stack:
        before = await stack.counters()
        yield stack
        await stack.settled(before)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_left(stack: Stack) -> AsyncIterator[None]:
    """Whatever a test does, OpenSIPS, rtpengine and the connector end up as they began."""
    before = await stack.counters()
    yield
    await stack.settled(before)


@pytest_asyncio.fixture(loop_scope="module")
async def trunk(stack: Stack) -> AsyncIterator[Trunk]:
    async with Trunk.open(stack.edge) as trunk:
        yield trunk


# --------------------------------------------------------------------------------------- conversations


async def test_a_spoken_question_is_understood_and_answered_and_the_agent_hangs_up(stack: Stack) -> None:
    question = await asyncio.to_thread(spoken, "What are your opening hours?", "flite", "rms")
    goodbye = await asyncio.to_thread(spoken, "Goodbye.", "flite", "rms")
    async with own_phone(CLOCK) as phone:
        leg = await phone.dial(f"sip:2000@{stack.edge[0]}:{stack.edge[1]}")
        async with Caller(leg, CLOCK) as caller:
            assert await caller.wait_for_speech(5, after=0) is not None
            await caller.wait_for_silence(0.7, 10)
            said = await caller.say(question)
            assert await caller.wait_for_speech(5, after=said.end) is not None
            await caller.wait_for_silence(0.7, 20)
            await caller.say(goodbye)
            assert await caller.wait_for_end(15)
    record = await cdr(stack, leg.info.call_id)
    assert record["errors"] == []
    assert (record["disposition"], record["ended_by"]) == ("answered", "agent")
    _, hours, bye = record["turns"]
    assert (hours["heard"], hours["intent"]) == ("what are your opening hours", "hours")
    assert "nine in the morning" in hours["spoken"]
    assert bye["intent"] == "goodbye"
    assert ladder(record, "BYE", sent=True) == [""]


@pytest.mark.skipif(pjsua.missing_reason() is not None, reason=str(pjsua.missing_reason()))
async def test_a_question_over_srtp_and_g722_is_understood_and_the_caller_hangs_up(stack: Stack) -> None:
    """Also while the agent speaks: the record tells how much of the answer was heard."""
    question = await asyncio.to_thread(spoken, "What are your opening hours?", "flite", "rms")
    async with pjsua.phone("G722/16000", srtp=True) as phone:
        leg = await phone.dial(f"sip:2000@{stack.edge[0]}:{stack.edge[1]}")
        async with Caller(leg, CLOCK) as caller:
            assert await caller.wait_for_speech(5, after=0) is not None
            await caller.wait_for_silence(0.7, 10)
            said = await caller.say(question)
            assert await caller.wait_for_speech(5, after=said.end) is not None
            await caller.pause(1)
    record = await cdr(stack, leg.info.call_id)
    assert (record["disposition"], record["ended_by"], record["errors"]) == ("answered", "caller", [])
    _, hours = record["turns"]
    assert (hours["heard"], hours["intent"]) == ("what are your opening hours", "hours")
    assert hours["reply"].startswith(hours["spoken"])
    assert 0 < len(hours["spoken"]) < len(hours["reply"])
    assert ladder(record, "INVITE", sent=False)[0].startswith("G722 PCMA TELEPHONE-EVENT sendrecv ")
    assert ladder(record, "200 OK", sent=True)[0].startswith("G722 TELEPHONE-EVENT sendrecv ")


async def test_the_caller_hangs_up(stack: Stack, trunk: Trunk) -> None:
    dialog = trunk.dialog("1000")
    with Voice() as voice:
        to = media_of(await dialog.call(voice.sdp()))
        assert await voice.hears_itself(to, 700)
        await dialog.bye()
    record = await cdr(stack, dialog.call_id)
    assert (record["disposition"], record["ended_by"], record["called"]) == ("answered", "caller", "1000")
    assert record["errors"] == []


# --------------------------------------------------------------------------------------- given up


async def test_a_cancel_at_every_instant(stack: Stack, trunk: Trunk) -> None:
    """Whichever is quicker: the caller gets 487, or 200 and hangs up."""
    finals = []
    for instant in range(30):
        dialog = trunk.dialog("1000")
        dialog.send("INVITE", sdp(41000))
        await asyncio.sleep(0.0005 * instant)
        dialog.send("CANCEL", new=False)
        final = await dialog.final("INVITE")
        finals.append(final.code)
        if final.code == 200:
            dialog.accept(final)
            dialog.send("ACK")
            assert (await dialog.ask("BYE")).code in (200, 408, 481)
        else:
            dialog.acknowledge(final)
    assert set(finals) == {200, 487}, finals
    records = [record for record in stack.cdrs() if record["call_id"] in trunk.dialogs]
    assert {record["disposition"] for record in records} == {"answered", "cancelled"}
    assert {record["ended_by"] for record in records} == {"caller"}
    assert [error for record in records for error in record["errors"]] == []


async def test_a_cancel_while_the_connector_hangs(stack: Stack, trunk: Trunk) -> None:
    """It gets INVITE and CANCEL at once, later."""
    dialog = trunk.dialog("1000")
    connector = stack.service("connector-a").pid
    assert connector is not None
    os.kill(connector, signal.SIGSTOP)
    try:
        dialog.send("INVITE", sdp(41000))
        await dialog.response(100)
        await asyncio.sleep(0.3)
        dialog.send("CANCEL", new=False)
        final = await dialog.final("INVITE")
        assert final.code == 487
        dialog.acknowledge(final)
    finally:
        os.kill(connector, signal.SIGCONT)


async def test_a_caller_who_vanishes_before_the_ack(stack: Stack) -> None:
    before = await stack.counters()
    async with Trunk.open(stack.edge) as trunk:
        dialog = trunk.dialog("1000")
        dialog.send("INVITE", sdp(41000))
        await dialog.response(200)
    record = await cdr(stack, dialog.call_id, within=45)
    assert (record["ended_by"], record["reason"]) == ("system", "the answer was not acknowledged")
    await stack.settled(before)


# --------------------------------------------------------------------------------------- refused

VIDEO = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 42000 RTP/AVP 31\r\n"
FAX = VIDEO.replace("m=video 42000 RTP/AVP 31", "m=image 42000 udptl t38")
MUTE = VIDEO.replace("m=video 42000 RTP/AVP 31", "m=audio 0 RTP/AVP 0")
STRANGE = VIDEO.replace("m=video 42000 RTP/AVP 31", "m=audio 42000 RTP/AVP 97\r\na=rtpmap:97 MELP/8000")


async def test_a_number_that_nobody_has(stack: Stack, trunk: Trunk) -> None:
    dialog = trunk.dialog("4711")
    refusal = await dialog.refused(sdp(41000))
    assert (refusal.code, refusal.phrase) == (404, "Not Found")
    record = await cdr(stack, dialog.call_id)
    assert (record["disposition"], record["status"]) == ("rejected", 404)


@pytest.mark.parametrize("offer", [VIDEO, FAX, MUTE, STRANGE], ids=["video", "fax", "no audio", "unknown codec"])
async def test_an_offer_without_audio_that_we_speak(trunk: Trunk, offer: str) -> None:
    dialog = trunk.dialog("1000")
    refusal = await dialog.refused(offer)
    assert (refusal.code, refusal.phrase) == (488, "Not Acceptable Here")
    assert "399 voxtrunk" in refusal.headers["Warning"]


async def test_one_call_too_many(stack: Stack, trunk: Trunk) -> None:
    dialogs = [trunk.dialog("1000") for _ in range(MAX_CALLS)]
    for dialog in dialogs:
        await dialog.call(sdp(41000))
    refusal = await trunk.dialog("1000").refused(sdp(41000))
    assert (refusal.code, refusal.phrase) == (503, "Service Unavailable")
    assert refusal.headers["Retry-After"] == "7"
    for dialog in dialogs:
        await dialog.bye()
    for dialog in dialogs:
        assert (await cdr(stack, dialog.call_id))["disposition"] == "answered"


async def test_a_flavor_that_is_not_ready(stack: Stack, trunk: Trunk, tmp_path: Path) -> None:
    """Its language model does not answer: the caller is told to try again, and other pairs would be tried."""
    document = json.loads(stack.settings.file.read_text())
    model = {"engine": "openai-chat", "base_url": "http://127.0.0.1:9/v1", "model": "llama"}
    engines = {kind: {"engine": name} for kind, name in (("vad", "silero"), ("stt", "pocketsphinx"), ("tts", "flite"))}
    document["flavors"] = {"unready": {**engines, "llm": model}}
    document["routes"] = [{"number": "3000", "flavor": "unready"}]
    document["records"] = {"directory": str(stack.records)}
    await asyncio.to_thread((tmp_path / "voxtrunk.yml").write_text, json.dumps(document))
    await stack.down("connector-a")
    serving = await command.start("serve", "--drain", "0", cwd=tmp_path)
    try:
        async with asyncio.timeout(30):
            retry_after = "5"  # of the edge, until the connector is there
            while retry_after == "5":
                dialog = trunk.dialog("3000")
                refusal = await dialog.refused(sdp(41000))
                assert (refusal.code, refusal.phrase) == (503, "Service Unavailable")
                retry_after = refusal.headers["Retry-After"]
                await asyncio.sleep(0.2)
    finally:
        serving.terminate()
        await serving.communicate()
        await stack.up("connector-a")
    assert retry_after == "7"
    record = await cdr(stack, dialog.call_id)
    assert (record["disposition"], record["status"]) == ("rejected", 503)
    assert record["reason"].startswith("flavor unready: ")


# --------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_large_invite(stack: Stack, transport: str) -> None:
    """20 kB of headers: more than a packet of any network takes; the flavor gets its share."""
    padding = "".join(f"X-Padding-{n}: {'x' * 400}\r\n" for n in range(50))
    async with Trunk.open(stack.edge, transport) as trunk:
        dialog = trunk.dialog("1000")
        with Voice() as voice:
            to = media_of(await dialog.call(voice.sdp(), padding))
            assert await voice.hears_itself(to, 600)
            await dialog.bye()
    assert (await cdr(stack, dialog.call_id))["disposition"] == "answered"


async def test_a_caller_over_tcp(stack: Stack) -> None:
    async with Trunk.open(stack.edge, "tcp") as trunk:
        dialog = trunk.dialog("1000")
        with Voice() as voice:
            to = media_of(await dialog.call(voice.sdp()))
            assert await voice.hears_itself(to, 600)
            assert (await dialog.ask("OPTIONS")).code == 200
            await dialog.bye()
        refusal = await trunk.dialog("4711").refused(sdp(41000))
        assert refusal.code == 404
    assert (await cdr(stack, dialog.call_id))["ended_by"] == "caller"


async def test_the_agents_bye_reaches_a_caller_over_tcp(stack: Stack) -> None:
    async with Trunk.open(stack.edge, "tcp") as trunk:
        dialog = trunk.dialog("2000")
        with Voice() as voice:
            to = media_of(await dialog.call(voice.sdp()))
            await voice.press("#", to)
            await dialog.request("BYE", 15)
    assert (await cdr(stack, dialog.call_id))["ended_by"] == "agent"


async def test_an_invite_that_comes_three_times_is_one_call(stack: Stack, trunk: Trunk) -> None:
    dialog = trunk.dialog("1000")
    dialog.send("INVITE", sdp(41000))
    dialog.send("INVITE", sdp(41000), new=False)
    answer = await dialog.final("INVITE")
    dialog.send("INVITE", sdp(41000), new=False)
    dialog.accept(answer)
    dialog.send("ACK")
    await asyncio.sleep(1)
    assert (await stack.counters()).calls == 1
    await dialog.bye()
    assert {to_tag(message) for message in dialog.received if message.cseq.sequence == 1} - {""} == {to_tag(answer)}
    await cdr(stack, dialog.call_id)
    assert [record["call_id"] for record in stack.cdrs()].count(dialog.call_id) == 1


@needs_sipp
async def test_what_gets_lost_on_the_way_makes_no_second_call(stack: Stack) -> None:
    """SIPp repeats its INVITE and loses its ACKs; it would fail at a 200 too many after the last one."""
    before = len(stack.cdrs())
    await sipp.call("proxied_lost_ack", stack.edge, sipp.EVERY_COPY, calls=3)
    async with asyncio.timeout(5):
        while len(stack.cdrs()) < before + 3:  # noqa: ASYNC110 - they are written by another process
            await asyncio.sleep(0.1)
    await asyncio.sleep(0.5)
    assert [record["disposition"] for record in stack.cdrs()[before:]] == ["answered"] * 3


async def test_an_invite_that_comes_by_two_ways(stack: Stack, trunk: Trunk) -> None:
    """It is one call (RFC 3261 section 8.2.2.2), and its media is not touched."""
    dialog = trunk.dialog("1000")
    with Voice() as voice:
        dialog.send("INVITE", voice.sdp())
        answer = await dialog.final("INVITE")
        first, dialog.branch = dialog.branch, "z9hG4bK-another-way"
        dialog.send("INVITE", voice.sdp(), new=False)
        dialog.acknowledge(await dialog.response(482))
        dialog.branch = first
        dialog.accept(answer)
        dialog.send("ACK")
        assert await voice.hears_itself(media_of(answer), 600)
        assert (await stack.counters()).calls == 1
        await dialog.bye()
    await cdr(stack, dialog.call_id)
    assert [record["call_id"] for record in stack.cdrs()].count(dialog.call_id) == 1


@pytest.mark.parametrize(
    ("method", "body", "headers", "status"),
    [
        ("OPTIONS", "", "", 200),
        ("INFO", "", "", 200),
        ("INFO", "<xml/>", "Content-Type: application/media_control+xml\r\n", 415),
        ("UPDATE", "", "", 200),
        ("MESSAGE", "hello", "Content-Type: text/plain\r\n", 405),
        ("NOTIFY", "", "Event: presence\r\nSubscription-State: active\r\n", 489),
    ],
)
async def test_requests_within_the_call(trunk: Trunk, method: str, body: str, headers: str, status: int) -> None:
    dialog = trunk.dialog("1000")
    with Voice() as voice:
        to = media_of(await dialog.call(voice.sdp()))
        for _ in range(2):
            assert (await dialog.ask(method, body, headers)).code == status
            await asyncio.sleep(0.02)  # one that comes in the very instant of the answer gets 500 of b2b_entities
        assert await voice.hears_itself(to, 900)
        await dialog.bye()


# --------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize("kind", ["RFC 4733", "INFO"])
async def test_a_key_interrupts_the_greeting_and_is_answered(stack: Stack, trunk: Trunk, kind: str) -> None:
    dialog = trunk.dialog("2000")
    with Voice() as voice:
        to = media_of(await dialog.call(voice.sdp()))
        await voice.say(50, 0.3, to)
        if kind == "INFO":
            relay = "Signal=3\r\nDuration=160\r\n"
            assert (await dialog.ask("INFO", relay, "Content-Type: application/dtmf-relay\r\n")).code == 200
            await dialog.ask("INFO", relay.replace("3", "#"), "Content-Type: application/dtmf-relay\r\n")
        else:
            await voice.press("3#", to)
        await asyncio.sleep(2)
        await dialog.bye()
    record = await cdr(stack, dialog.call_id)
    greeting, parking = record["turns"]
    assert greeting["interrupted"]
    assert (parking["heard"], parking["intent"]) == ("3", "parking")


# --------------------------------------------------------------------------------------- who calls


async def test_who_calls_and_who_was_called_before(stack: Stack, trunk: Trunk) -> None:
    dialog = trunk.dialog("1000", calling="+4930111111")
    headers = (
        "P-Asserted-Identity: <sip:+4930123456@example.org>\r\n"
        "Diversion: <sip:+4989777777@example.org>;reason=user-busy\r\n"
        "X-Voxtrunk-Peer: 192.0.2.66:5060\r\n"
    )
    await dialog.call(sdp(41000), headers)
    await dialog.bye()
    record = await cdr(stack, dialog.call_id)
    assert record["called"] == "1000"
    assert record["calling"] == "+4930111111"
    assert record["calling_number"] == record["asserted"] == "+4930123456"
    assert record["diversions"] == [{"number": "+4989777777", "reason": "user-busy"}]
    assert record["peer"] == trunk.address


# --------------------------------------------------------------------------------------- what the agent does


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(stack: Stack) -> AsyncIterator[Answering]:
    """From here on a test says what the agent does."""
    async with staffed(stack) as desk:
        yield desk


@pytest.fixture
def agent(desk: Answering) -> Answering:
    """Takes the next call, and no other."""
    desk.legs.clear()
    desk.events.clear()
    desk.answers, desk.rejects = True, None
    return desk


async def test_cancel_while_it_rings(agent: Answering, trunk: Trunk) -> None:
    agent.answers = False
    dialog = trunk.dialog("1000")
    dialog.send("INVITE", sdp(41000))
    await dialog.response(180)
    await asyncio.sleep(0.2)
    dialog.send("CANCEL", new=False)
    final = await dialog.final("INVITE")
    assert (final.code, final.phrase) == (487, "Request Terminated")
    dialog.acknowledge(final)
    (ended,) = await agent.saw(Terminated)
    assert ended == Terminated(Party.CALLER, "cancelled", 487)
    assert dialog.count(200, "CANCEL") == 1


async def test_a_caller_who_vanishes_while_it_rings(agent: Answering, stack: Stack) -> None:
    """Nobody says so: what the agent does then leaves nothing either."""
    agent.answers = False
    async with Trunk.open(stack.edge) as trunk:
        dialog = trunk.dialog("1000")
        dialog.send("INVITE", sdp(41000))
        await dialog.response(180)
    await agent.legs[0].hang_up("nobody there")
    assert await agent.saw(Terminated) == [Terminated(Party.AGENT, "nobody there", 480)]


@pytest.mark.parametrize(
    ("status", "reason"), [(486, "Busy Here"), (480, "Temporarily Unavailable"), (603, "Decline"), (404, "Not Here")]
)
async def test_a_refusal_reaches_the_caller_unchanged(agent: Answering, trunk: Trunk, status: int, reason: str) -> None:
    agent.rejects = (status, reason)
    refusal = await trunk.dialog("1000").refused(sdp(41000))
    assert (refusal.code, refusal.phrase) == (status, reason)
    assert refusal.headers.get("Retry-After") is None


async def test_the_agent_hangs_up_and_the_caller_at_the_same_time(agent: Answering, trunk: Trunk) -> None:
    dialog = trunk.dialog("1000")
    await dialog.call(sdp(41000))
    await agent.saw(Established)
    dialog.send("BYE")
    await agent.legs[0].hang_up("done")
    assert (await dialog.final("BYE")).code in (200, 481)
    await agent.saw(Terminated)


async def test_keys_go_to_the_caller_as_telephone_events(agent: Answering, trunk: Trunk) -> None:
    dialog = trunk.dialog("1000")
    with Voice() as voice:
        to = media_of(await dialog.call(voice.sdp()))
        await voice.say(50, 0.3, to)
        voice.datagrams()
        await agent.legs[0].send_dtmf("159#A")
        await asyncio.sleep(1.5)
        assert voice.pressed() == "159#A"
        await voice.press("42*", to)
        digits = await agent.saw(Digit, 3)
        assert "".join(digit.digit for digit in digits if isinstance(digit, Digit)) == "42*"
        await dialog.bye()


async def test_keys_go_by_info_where_the_caller_knows_no_telephone_events(agent: Answering, trunk: Trunk) -> None:
    dialog = trunk.dialog("1000")
    await dialog.call(sdp(41000, formats="0").replace("a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n", ""))
    await agent.saw(Established)
    pressing = asyncio.create_task(agent.legs[0].send_dtmf("7#"))
    for key in "7#":
        info = await dialog.request("INFO")
        assert f"Signal={key}" in info.body.decode()
        dialog.reply(info, 200)
    await pressing
    await dialog.bye()


async def test_a_transfer(agent: Answering, trunk: Trunk) -> None:
    dialog = trunk.dialog("1000")
    await dialog.call(sdp(41000))
    await agent.saw(Established)
    transferring = asyncio.create_task(agent.legs[0].transfer("3000"))
    refer = await dialog.request("REFER")
    assert refer.headers["Refer-To"] == f"<sip:3000@{trunk.address}>"
    dialog.reply(refer, 202)
    for state, status in (("active;expires=60", "100 Trying"), ("terminated;reason=noresource", "200 OK")):
        headers = f"Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag\r\n"
        assert (await dialog.ask("NOTIFY", f"SIP/2.0 {status}\r\n", headers)).code == 200
    await transferring
    await dialog.request("BYE")
    assert await agent.saw(Terminated) == [Terminated(Party.AGENT, "transferred", None)]


async def test_a_refused_transfer_leaves_the_call_up(agent: Answering, trunk: Trunk) -> None:
    dialog = trunk.dialog("1000")
    with Voice() as voice:
        to = media_of(await dialog.call(voice.sdp()))
        await agent.saw(Established)
        transferring = asyncio.create_task(agent.legs[0].transfer("sip:3000@192.0.2.1"))
        dialog.reply(await dialog.request("REFER"), 603)
        with pytest.raises(CallFailed, match="603"):
            await transferring
        assert await voice.hears_itself(to, 800)
        await dialog.bye()
