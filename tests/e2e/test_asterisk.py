"""The embedded endpoint against a real Asterisk: what a PBX does to a trunk."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from connector.app import SystemClock
from connector.audio import Samples
from connector.cli.phone.own import own_phone
from connector.config.model import DigestUser, SipSettings
from connector.errors import CallFailed
from connector.interfaces import Digit, Established, Held, Party, Resumed, Terminated
from tests.e2e import asterisk, baresip
from tests.e2e.answering import Answering, answering
from tests.fakes.audio import hears

pytestmark = pytest.mark.skipif(asterisk.installation() is None, reason=asterisk.missing_reason())

NO_BARESIP = baresip.missing_reason()

DIALPLAN = """
[scripts]
exten => tone,1,MixMonitor({out}/both.wav,r({out}/heard.wav))
 same => n,Milliwatt()
exten => keys,1,Wait(0.5)
 same => n,SendDTMF(159#)
 same => n,Read(KEYS,,3)
 same => n,Set(GLOBAL(KEYS)=${KEYS})
 same => n,Wait(10)
exten => wait,1,Wait(30)
exten => ended,1,Wait(1)
[dialout]
exten => _X.,1,Dial(PJSIP/${EXTEN}@voxtrunk,5)
exten => h,1,Set(GLOBAL(OUTCOME)=${DIALSTATUS})
[inbound]
exten => echo,1,Answer()
 same => n,Echo()
exten => busy,1,Busy(1)
exten => _1XXX,1,Set(__TRANSFER_CONTEXT=inbound)
 same => n,Dial(PJSIP/${EXTEN}@voxtrunk)
exten => 2000,1,Answer()
 same => n,Set(GLOBAL(TRANSFERRED)=${CHANNEL(pjsip,call-id)})
 same => n,Milliwatt()
"""


@asynccontextmanager
async def trunk(sip: SipSettings | None = None, auth: dict[str, str] | None = None) -> AsyncIterator[Stand]:
    async with (
        answering(SystemClock(), sip) as callee,
        asterisk.running(callee.uri.rpartition("@")[2], DIALPLAN, auth=auth) as pbx,
    ):
        yield Stand(callee, pbx)


class Stand:
    """Our endpoint and the PBX that trunks to it."""

    def __init__(self, callee: Answering, pbx: asterisk.Asterisk) -> None:
        self.callee = callee
        self.pbx = pbx


async def becomes(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Waits until `condition` holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.1)


def read_wav(path: Path) -> Samples:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels()) == (8000, 1)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def no_calls(pbx: asterisk.Asterisk) -> Callable[[], Awaitable[bool]]:
    async def condition() -> bool:
        return await pbx.channels() == 0

    return condition


async def test_audio_goes_both_ways_and_the_pbx_hangs_up() -> None:
    async with trunk() as stand:
        await stand.pbx.originate("1001", "tone")
        await stand.callee.saw(Established)
        await asyncio.sleep(2.0)
        await stand.pbx.cli("channel request hangup all")
        (ended,) = await stand.callee.saw(Terminated)
        await becomes(no_calls(stand.pbx))
        heard = await asyncio.to_thread(read_wav, stand.pbx.out / "heard.wav")
    assert isinstance(ended, Terminated)
    assert ended.by is Party.CALLER
    assert hears(heard[8000:12000], 1004)


async def test_our_bye_ends_the_call_at_the_pbx() -> None:
    async with trunk() as stand:
        await stand.pbx.originate("1001", "wait")
        await stand.callee.saw(Established)
        await stand.callee.legs[0].hang_up("done")
        await becomes(no_calls(stand.pbx), 3)


async def test_keys_both_ways() -> None:
    async with trunk() as stand:
        await stand.pbx.originate("1001", "keys")
        digits = await stand.callee.saw(Digit, 4)
        await asyncio.sleep(0.5)
        await stand.callee.legs[0].send_dtmf("42#")

        async def read() -> bool:
            return await stand.pbx.variable("KEYS") == "42"

        await becomes(read)
        await stand.pbx.cli("channel request hangup all")
        await stand.callee.saw(Terminated)
    assert "".join(digit.digit for digit in digits if isinstance(digit, Digit)) == "159#"


async def test_cancel_while_ringing() -> None:
    async with trunk() as stand:
        stand.callee.answers = False
        await stand.pbx.originate("1001", "wait")
        await becomes(lambda: _true(len(stand.callee.legs) == 1))
        await stand.pbx.cli("channel request hangup all")
        (ended,) = await stand.callee.saw(Terminated)
        await becomes(no_calls(stand.pbx))
    assert isinstance(ended, Terminated)
    assert (ended.by, ended.status) == (Party.CALLER, 487)


async def _true(value: bool) -> bool:
    return value


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [(404, "Not Found", "CHANUNAVAIL"), (486, "Busy Here", "BUSY"), (503, "Service Unavailable", "CONGESTION")],
)
async def test_a_refusal_reaches_the_pbx_as_its_cause(status: int, reason: str, outcome: str) -> None:
    async with trunk() as stand:
        stand.callee.rejects = (status, reason)
        await stand.pbx.cli("channel originate Local/1001@dialout extension ended@scripts")

        async def told() -> bool:
            return bool(await stand.pbx.variable("OUTCOME"))

        await becomes(told)
        assert await stand.pbx.variable("OUTCOME") == outcome


async def test_digest_of_the_pbx_is_accepted_and_a_wrong_one_is_not() -> None:
    users = (DigestUser(name="pbx", password=SecretStr("right")),)
    sip = SipSettings(listen="127.0.0.1:0", users=users)
    async with trunk(sip, {"username": "pbx", "password": "right"}) as stand:
        await stand.pbx.originate("1001", "wait")
        await stand.callee.saw(Established)
        await stand.pbx.cli("channel request hangup all")
        await stand.callee.saw(Terminated)
    async with trunk(sip, {"username": "pbx", "password": "wrong"}) as stand:
        await stand.pbx.originate("1001", "wait")
        await becomes(no_calls(stand.pbx))
        assert not stand.callee.legs


async def test_options_keep_the_trunk_available() -> None:
    async with trunk() as stand:

        async def available() -> bool:
            return "Avail" in await stand.pbx.cli("pjsip show contacts")

        await becomes(available)


@pytest.mark.skipif(NO_BARESIP is not None, reason=NO_BARESIP or "")
async def test_we_transfer_a_caller_back_to_an_extension_of_the_pbx() -> None:
    async with trunk() as stand, baresip.running() as phone:
        await phone.command("dial", f"sip:1001@127.0.0.1:{stand.pbx.sip_port}")
        await phone.wait_for("CALL_ESTABLISHED")
        await stand.callee.saw(Established)
        await stand.callee.legs[0].transfer(f"sip:2000@127.0.0.1:{stand.pbx.sip_port}")
        await stand.callee.saw(Terminated)

        async def moved() -> bool:
            return bool(await stand.pbx.variable("TRANSFERRED"))

        await becomes(moved)
        assert await stand.pbx.channels() == 1
        await phone.command("hangup")
        await phone.wait_for("CALL_CLOSED")


@pytest.mark.skipif(NO_BARESIP is not None, reason=NO_BARESIP or "")
async def test_hold_by_a_phone_behind_the_pbx_reaches_us_and_audio_comes_back() -> None:
    async with trunk() as stand, baresip.running() as phone:
        await phone.command("dial", f"sip:1001@127.0.0.1:{stand.pbx.sip_port}")
        await phone.wait_for("CALL_ESTABLISHED")
        await stand.callee.saw(Established)
        await asyncio.sleep(0.5)
        await phone.command("hold")
        await stand.callee.saw(Held)
        await phone.command("resume")
        await stand.callee.saw(Resumed)
        await asyncio.sleep(1.5)
        await phone.command("hangup")
        await stand.callee.saw(Terminated)
        await phone.wait_for("CALL_CLOSED")
        # The phone begins a new file with each re-INVITE: this is what it heard after the last one.
        heard = await asyncio.to_thread(read_wav, phone.heard())
    assert any(hears(heard[start : start + 800], 1000) for start in range(0, len(heard) - 800, 800))


async def test_we_call_through_the_pbx_with_digest() -> None:
    clock = SystemClock()
    async with trunk() as stand, own_phone(clock) as phone:
        target = f"sip:echo@127.0.0.1:{stand.pbx.sip_port}"
        with pytest.raises(CallFailed, match="401"):
            await phone.dial(target, calling="alice", username="alice", password="wrong")
        leg = await phone.dial(target, calling="alice", username="alice", password=asterisk.PHONE_PASSWORD)
        await leg.hang_up()
        await becomes(no_calls(stand.pbx))
        with pytest.raises(CallFailed, match="486"):
            await phone.dial(
                f"sip:busy@127.0.0.1:{stand.pbx.sip_port}",
                calling="alice",
                username="alice",
                password=asterisk.PHONE_PASSWORD,
            )
