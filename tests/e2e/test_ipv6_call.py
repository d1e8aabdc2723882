"""Calls over IPv6, from SIP to the last packet, with a baresip as the phone."""

from __future__ import annotations

import asyncio

import pytest

from connector.app import SystemClock
from connector.config.model import SipSettings
from connector.interfaces import Digit, Established, Party, Terminated
from tests.e2e import baresip
from tests.e2e.answering import answering
from tests.e2e.test_baresip import read_wav
from tests.fakes.audio import hears

REASON = baresip.missing_reason()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")


async def test_a_phone_talks_over_ipv6() -> None:
    async with (
        answering(SystemClock(), SipSettings(listen="[::1]:0")) as callee,
        baresip.running(address="::1") as phone,
    ):
        await phone.command("dial", callee.uri)
        await phone.wait_for("CALL_ESTABLISHED")
        await callee.saw(Established)
        await asyncio.sleep(1.5)
        await phone.command("sndcode", "7")
        await phone.command("sndcode", "\x04")
        await callee.saw(Digit)
        await phone.command("hangup")
        (ended,) = await callee.saw(Terminated)
        await phone.wait_for("CALL_CLOSED")
        heard = await asyncio.to_thread(read_wav, phone.heard())
    assert isinstance(ended, Terminated)
    assert ended.by is Party.CALLER
    assert callee.legs[0].info.peer.startswith("[::1]:")
    assert hears(heard[-6000:], 1000), "its own tone, sent back"
