"""A real Asterisk as the trunk's peer of the whole stack: what a PBX does, and what it is told.

docs/behind-asterisk.md has a test of its own; here the PBX is set up for the tests.
"""

from __future__ import annotations

import asyncio
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from connector.audio import Samples
from connector.interfaces import Digit, Established, Party, Terminated
from tests.e2e import asterisk, baresip
from tests.e2e.answering import Answering
from tests.e2e.asterisk import Asterisk
from tests.e2e.desk import staffed
from tests.e2e.opensips import Stack, installations, running
from tests.e2e.trunk import heard_tone, ladder
from tests.fakes.audio import level_db
from tests.fakes.models import models_folder

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(asterisk.installation() is None, reason=asterisk.missing_reason()),
]

needs_baresip = pytest.mark.skipif(baresip.missing_reason() is not None, reason=str(baresip.missing_reason()))

DIALPLAN = """
[scripts]
exten => tone,1,MixMonitor({out}/both.wav,r({out}/heard.wav))
 same => n,Milliwatt()
exten => wait,1,MixMonitor({out}/both.wav,r({out}/heard.wav))
 same => n,Wait(60)
exten => keys,1,Wait(0.5)
 same => n,SendDTMF(159#)
 same => n,Read(KEYS,,3)
 same => n,Set(GLOBAL(KEYS)=${KEYS})
 same => n,Wait(60)
exten => goodbye,1,Wait(0.5)
 same => n,SendDTMF(#)
 same => n,Wait(60)
exten => operator,1,MixMonitor({out}/both.wav,r({out}/heard.wav))
 same => n,Wait(0.5)
 same => n,SendDTMF(0#)
 same => n,Wait(60)
[dialled]
exten => _X.,1,Set(__TRANSFER_CONTEXT=inbound)
 same => n,Dial(PJSIP/${EXTEN}@voxtrunk,20)
exten => h,1,Set(GLOBAL(OUTCOME)=${DIALSTATUS})
[without-codec]
exten => _X.,1,Dial(PJSIP/${EXTEN}@without-codec,20)
exten => h,1,Set(GLOBAL(OUTCOME)=${DIALSTATUS})
[forwarded]
exten => _X.,1,Set(CALLERID(all)="Alice" <+4930123456>)
 same => n,Set(REDIRECTING(from-num,i)=+4989777777)
 same => n,Set(REDIRECTING(from-num-pres,i)=allowed)
 same => n,Set(REDIRECTING(reason,i)=cfb)
 same => n,Set(REDIRECTING(count,i)=1)
 same => n,Dial(PJSIP/${EXTEN}@forwarding,20)
[inbound]
exten => _1XXX,1,Dial(PJSIP/${EXTEN}@voxtrunk)
exten => 2000,1,Answer()
 same => n,Set(GLOBAL(TRANSFERRED)=yes)
 same => n,Milliwatt()
"""

ENDPOINTS = """
[trunk](!)
type = endpoint
transport = udp
context = inbound
disallow = all
aors = voxtrunk
direct_media = no
[without-codec](trunk)
allow = lpc10
[forwarding](trunk)
allow = alaw
send_pai = yes
send_diversion = yes
trust_id_outbound = yes
"""

ROUTES = [
    {"number": "1000", "flavor": "echo"},
    {"number": "7000", "flavor": "offline", "with": {"greeting": "Welcome to the front desk."}},
]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=installations(), ids=str)
async def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    settings: dict[str, Any] = {"models": str(models_folder()), "sip": {"max_calls": 1, "retry_after": 7}}
    async with running(request.param, folder, routes=ROUTES, **settings) as stack:
        before = await stack.counters()
        yield stack
        await stack.settled(before)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_pbx(stack: Stack) -> AsyncIterator[Asterisk]:
    host, port = stack.edge
    async with asterisk.running(f"{host}:{port}", DIALPLAN) as pbx:
        with (pbx.folder / "pjsip.conf").open("a") as file:
            file.write(ENDPOINTS)
        await pbx.cli("module reload res_pjsip.so")
        yield pbx


@pytest_asyncio.fixture(loop_scope="module")
async def pbx(running_pbx: Asterisk, stack: Stack) -> AsyncIterator[Asterisk]:
    """The PBX, and nothing left of the test anywhere."""
    before = await stack.counters()
    for name in ("OUTCOME", "KEYS", "TRANSFERRED"):
        await running_pbx.cli(f"dialplan set global {name} -")
    yield running_pbx
    await hang_up(running_pbx)
    await becomes(lambda: no_channels(running_pbx))
    await stack.settled(before)


# --------------------------------------------------------------------------------------- kit


async def becomes(condition: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    """Waits until `condition` holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.1)


async def no_channels(pbx: Asterisk) -> bool:
    return await pbx.channels() == 0


async def call(pbx: Asterisk, number: str, script: str, context: str = "dialled") -> None:
    """Somebody who runs `script` calls `number`."""
    output = await pbx.cli(f"channel originate Local/{number}@{context}/n extension {script}@scripts")
    assert "Unable" not in output, output


async def hang_up(pbx: Asterisk) -> None:
    await pbx.cli("channel request hangup all")


async def told(pbx: Asterisk, variable: str) -> str:
    """The global variable of the dialplan, as soon as it is set."""

    async def is_set() -> bool:
        return await pbx.variable(variable) != "-"

    await becomes(is_set)
    return await pbx.variable(variable)


async def next_record(stack: Stack, before: int, within: float = 15) -> dict[str, Any]:
    """The record after the first `before` ones."""

    async def written() -> bool:
        return len(await asyncio.to_thread(stack.cdrs)) > before

    await becomes(written, within)
    return (await asyncio.to_thread(stack.cdrs))[before]


def heard(pbx: Asterisk) -> Samples:
    """What a script has recorded of the other side."""
    return read_wav(pbx.out / "heard.wav")


def read_wav(path: Path) -> Samples:
    with wave.open(str(path)) as file:
        assert file.getframerate() == 8000
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)[:: file.getnchannels()]


# --------------------------------------------------------------------------------------- answered


async def test_audio_goes_both_ways_and_the_pbx_hangs_up(stack: Stack, pbx: Asterisk) -> None:
    before = len(stack.cdrs())
    await call(pbx, "1000", "tone")
    await asyncio.sleep(2.5)
    await hang_up(pbx)
    record = await next_record(stack, before)
    assert (record["disposition"], record["ended_by"], record["called"]) == ("answered", "caller", "1000")
    assert record["peer"] == f"127.0.0.1:{pbx.sip_port}"
    assert heard_tone(await asyncio.to_thread(heard, pbx), 1004)
    assert heard_tone(await asyncio.to_thread(read_wav, stack.records / record["files"]["recording"]), 1004)


async def test_the_agent_hangs_up_after_a_key(stack: Stack, pbx: Asterisk) -> None:
    before = len(stack.cdrs())
    await call(pbx, "7000", "goodbye")
    record = await next_record(stack, before, 25)
    assert (record["disposition"], record["ended_by"]) == ("answered", "agent")
    assert [turn["intent"] for turn in record["turns"]][-1] == "goodbye"


async def test_who_calls_and_who_was_called_before(stack: Stack, pbx: Asterisk) -> None:
    before = len(stack.cdrs())
    await call(pbx, "1000", "wait", "forwarded")
    await asyncio.sleep(1)
    await hang_up(pbx)
    record = await next_record(stack, before)
    assert record["calling_number"] == record["asserted"] == "+4930123456"
    assert record["diversions"] == [{"number": "+4989777777", "reason": "user-busy"}]


async def test_the_agent_transfers_to_an_extension_of_the_pbx(stack: Stack, pbx: Asterisk) -> None:
    before = len(stack.cdrs())
    await call(pbx, "7000", "operator")
    record = await next_record(stack, before, 25)
    assert (record["ended_by"], record["reason"]) == ("agent", "transferred")
    assert ladder(record, "REFER", sent=True) == [f"Refer-To: <sip:2000@127.0.0.1:{pbx.sip_port}>"]
    assert await told(pbx, "TRANSFERRED") == "yes"
    await asyncio.sleep(1)
    await hang_up(pbx)
    await becomes(lambda: no_channels(pbx))
    assert heard_tone((await asyncio.to_thread(heard, pbx))[-8000:], 1004)


@needs_baresip
async def test_hold_and_resume_by_a_phone_behind_the_pbx(stack: Stack, pbx: Asterisk) -> None:
    before = len(stack.cdrs())
    async with baresip.running() as phone:
        await phone.command("dial", f"sip:1000@127.0.0.1:{pbx.sip_port}")
        await phone.wait_for("CALL_ESTABLISHED")
        await asyncio.sleep(1)
        await phone.command("hold")
        await asyncio.sleep(1)
        await phone.command("resume")
        await asyncio.sleep(2)
        await phone.command("hangup")
        await phone.wait_for("CALL_CLOSED")
        again = await asyncio.to_thread(read_wav, phone.heard())
    record = await next_record(stack, before)
    offers = ladder(record, "INVITE", sent=False)
    assert any(" sendonly " in offer for offer in offers)
    assert " sendrecv " in offers[-1]
    assert heard_tone(again[-8000:], 1000)


# --------------------------------------------------------------------------------------- refused


async def test_a_number_that_nobody_has(stack: Stack, pbx: Asterisk) -> None:
    before = len(stack.cdrs())
    await call(pbx, "4711", "wait")
    assert await told(pbx, "OUTCOME") == "CHANUNAVAIL"
    record = await next_record(stack, before)
    assert (record["disposition"], record["status"]) == ("rejected", 404)


async def test_no_codec_in_common(pbx: Asterisk) -> None:
    await call(pbx, "1000", "wait", "without-codec")
    assert await told(pbx, "OUTCOME") == "CHANUNAVAIL"


async def test_one_call_too_many(stack: Stack, pbx: Asterisk) -> None:
    await call(pbx, "1000", "wait")

    async def up() -> bool:
        return (await stack.counters()).calls == 1

    await becomes(up)
    await pbx.cli("dialplan set global OUTCOME -")
    await call(pbx, "1000", "wait")
    assert await told(pbx, "OUTCOME") == "CONGESTION"
    assert (await stack.counters()).calls == 1


# --------------------------------------------------------------------------------------- what the agent does


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(stack: Stack, running_pbx: Asterisk) -> AsyncIterator[Answering]:
    """From here on a test says what the agent does; it echoes."""
    async with staffed(stack) as desk:
        yield desk


@pytest.fixture
def agent(desk: Answering) -> Answering:
    """Takes the next call, and no other."""
    desk.legs.clear()
    desk.events.clear()
    desk.answers, desk.rejects = True, None
    return desk


async def test_cancel_while_it_rings(agent: Answering, pbx: Asterisk) -> None:
    agent.answers = False
    await call(pbx, "1000", "wait")

    async def rings() -> bool:
        return "Ringing" in await pbx.cli("core show channels concise")

    await becomes(rings)
    await hang_up(pbx)
    assert await agent.saw(Terminated) == [Terminated(Party.CALLER, "cancelled", 487)]


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [
        (486, "Busy Here", "BUSY"),
        (404, "Not Found", "CHANUNAVAIL"),
        (488, "Not Acceptable Here", "CHANUNAVAIL"),
        (503, "Service Unavailable", "CONGESTION"),
    ],
)
async def test_a_refusal_reaches_the_pbx_as_its_cause(
    agent: Answering, pbx: Asterisk, status: int, reason: str, outcome: str
) -> None:
    agent.rejects = (status, reason)
    await call(pbx, "1000", "wait")
    assert await told(pbx, "OUTCOME") == outcome


async def test_keys_both_ways(agent: Answering, pbx: Asterisk) -> None:
    await call(pbx, "1000", "keys")
    digits = await agent.saw(Digit, 4)
    assert "".join(digit.digit for digit in digits if isinstance(digit, Digit)) == "159#"
    await asyncio.sleep(0.5)
    await agent.legs[0].send_dtmf("42#")
    assert await told(pbx, "KEYS") == "42"


async def test_the_agent_holds_the_pbx_and_hangs_up(agent: Answering, pbx: Asterisk) -> None:
    await call(pbx, "1000", "tone")
    await agent.saw(Established)
    await asyncio.sleep(1)
    await agent.legs[0].hold()
    await asyncio.sleep(1)
    await agent.legs[0].resume()
    await asyncio.sleep(1.5)
    await agent.legs[0].hang_up("done")
    await becomes(lambda: no_channels(pbx))
    tone = await asyncio.to_thread(heard, pbx)
    assert heard_tone(tone[:8000], 1004)
    assert any(level_db(tone[start : start + 800]) < -60 for start in range(8000, len(tone) - 8000, 800))
    assert heard_tone(tone[-6000:], 1004)
