"""The embedded endpoint against a real baresip: a phone that nobody here wrote."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np
import pytest

from connector.app import SystemClock
from connector.audio import Audio, Frame, Samples
from connector.interfaces import Digit, Established, Held, Party, Resumed, Terminated
from tests.e2e import baresip
from tests.e2e.answering import answering
from tests.fakes.audio import hears, purity_db, tone

REASON = baresip.missing_reason()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")


def read_wav(path: Path, rate: int = 8000) -> Samples:
    with wave.open(str(path)) as file:
        assert file.getframerate() == rate
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)[:: file.getnchannels()]


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


@pytest.mark.parametrize(
    ("codec", "module", "rate"), [("G722/16000/1", "g722.so", 16_000), ("opus/48000/2", "opus.so", 48_000)]
)
async def test_a_wideband_phone_is_heard_and_hears_above_4_khz(codec: str, module: str, rate: int) -> None:
    if not (baresip.MODULES / module).exists():
        pytest.skip(f"baresip has no {module}")
    frames: list[Frame] = []
    async with (
        answering(SystemClock()) as callee,
        baresip.running(tone(6000, 30.0, rate), account=f";audio_codecs={codec}", modules=[module], rate=rate) as phone,
    ):
        await phone.command("dial", callee.uri)
        await callee.saw(Established)
        audio = callee.legs[0].audio

        def echo(frame: Frame) -> None:
            frames.append(frame)
            audio.write(1, Audio(frame.samples, frame.rate))

        audio.listen(echo)
        for key in "7D":
            await phone.command("sndcode", key)
            await asyncio.sleep(0.2)
            await phone.command("sndcode", "\x04")
        digits = await callee.saw(Digit, 2)
        await asyncio.sleep(1.0)
        await phone.command("hangup")
        await phone.wait_for("CALL_CLOSED")
        heard = await asyncio.to_thread(read_wav, phone.heard(), rate)
    assert [(d.digit, d.seconds > 0.05) for d in digits if isinstance(d, Digit)] == [("7", True), ("D", True)]
    assert {frame.rate for frame in frames} == {16_000}
    received = np.concatenate([frame.samples for frame in frames])
    assert purity_db(received[-8000:], 6000, 16_000) > 15
    assert purity_db(heard[-rate : -rate // 2], 6000, rate) > 15


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
