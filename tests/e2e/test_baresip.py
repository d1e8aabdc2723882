"""The embedded endpoint against a real baresip: a phone that nobody here wrote."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np
import pytest

from connector.app import SystemClock
from connector.audio import Samples
from connector.interfaces import Digit, Established, Held, Party, Resumed, Terminated
from tests.e2e import baresip
from tests.e2e.answering import answering
from tests.fakes.audio import hears

REASON = baresip.missing_reason()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")


def read_wav(path: Path) -> Samples:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels()) == (8000, 1)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


async def test_the_phone_hears_its_own_tone_and_hangs_up() -> None:
    async with answering(SystemClock()) as callee, baresip.running() as phone:
        await phone.command("dial", callee.uri)
        await phone.wait_for("CALL_ESTABLISHED")
        await callee.saw(Established)
        await asyncio.sleep(1.5)
        await phone.command("hangup")
        (ended,) = await callee.saw(Terminated)
        await phone.wait_for("CALL_CLOSED")
        heard = await asyncio.to_thread(read_wav, phone.heard())
    assert isinstance(ended, Terminated)
    assert ended.by is Party.CALLER
    assert hears(heard[-6000:], 1000)


async def test_our_bye_closes_the_phone() -> None:
    async with answering(SystemClock()) as callee, baresip.running() as phone:
        await phone.command("dial", callee.uri)
        await callee.saw(Established)
        await callee.legs[0].hang_up("done")
        await phone.wait_for("CALL_CLOSED", 3)


async def test_hold_resume_and_keys() -> None:
    async with answering(SystemClock()) as callee, baresip.running() as phone:
        await phone.command("dial", callee.uri)
        await callee.saw(Established)
        await phone.wait_for("CALL_ESTABLISHED")
        await phone.command("hold")
        await callee.saw(Held)
        await phone.command("resume")
        await callee.saw(Resumed)
        for key in "70#":
            await phone.command("sndcode", key)
            await asyncio.sleep(0.2)
            await phone.command("sndcode", "\x04")
        digits = await callee.saw(Digit, 3)
        await phone.command("hangup")
        await callee.saw(Terminated)
    assert "".join(digit.digit for digit in digits if isinstance(digit, Digit)) == "70#"


async def test_cancel_while_ringing() -> None:
    async with answering(SystemClock()) as callee, baresip.running() as phone:
        callee.answers = False
        await phone.command("dial", callee.uri)
        await phone.wait_for("CALL_RINGING")
        await phone.command("hangup")
        (ended,) = await callee.saw(Terminated)
    assert isinstance(ended, Terminated)
    assert (ended.by, ended.status) == (Party.CALLER, 487)


async def test_a_refusal_closes_the_phone_with_its_status() -> None:
    async with answering(SystemClock()) as callee, baresip.running() as phone:
        callee.rejects = (404, "Not Found")
        await phone.command("dial", callee.uri)
        closed = await phone.wait_for("CALL_CLOSED")
    assert "404" in closed["param"]
