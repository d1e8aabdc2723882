"""Both phones against a real endpoint: what a caller can do, over real SIP and RTP."""

from __future__ import annotations

import asyncio
import importlib.util
import wave
from pathlib import Path

import numpy as np
import pytest

from connector.app import SystemClock
from connector.audio import Samples
from connector.cli.phone import PhoneKind, open_phone
from connector.cli.phone.caller import Caller
from connector.cli.phone.wav import recorded
from connector.config.model import DigestUser, SipSettings
from connector.errors import CallFailed
from connector.interfaces import Digit, Held, Party, Resumed, Terminated
from tests.e2e.answering import answering
from tests.fakes.engines import tone

PHONES = [
    PhoneKind.OWN,
    pytest.param(
        PhoneKind.PJSUA2,
        marks=pytest.mark.skipif(
            importlib.util.find_spec("pjsua2") is None, reason="no pjsua2: its wheel is for Python <= 3.12 on x86-64"
        ),
    ),
]

pytestmark = pytest.mark.parametrize("kind", PHONES)


def frequency(samples: Samples) -> float:
    """The strongest frequency, in Hz, at 8 kHz."""
    spectrum = np.abs(np.fft.rfft(samples.astype(float)))
    return float(np.fft.rfftfreq(len(samples), 1 / 8000)[np.argmax(spectrum)])


async def test_what_is_said_comes_back_as_it_was_and_is_measured(kind: PhoneKind, tmp_path: Path) -> None:
    clock = SystemClock()
    async with answering(clock) as callee, open_phone(kind, clock) as phone:
        leg = await phone.dial(callee.uri)
        async with recorded(leg.audio, tmp_path / "call.wav", clock), Caller(leg, clock) as caller:
            await caller.pause(0.3)
            spoken = await caller.say(tone(700, 0.8).samples)
            assert await caller.wait_for_silence(0.4, 3.0)
        (heard,) = caller.heard.spurts
        assert spoken.seconds == pytest.approx(0.8, abs=0.03)
        assert heard.seconds == pytest.approx(0.8, abs=0.06)
        assert 0.0 < heard.start - spoken.start < 0.3
    assert leg.info.call_id
    with wave.open(str(tmp_path / "call.wav")) as file:
        assert file.getnchannels() == 2
        left, right = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).T
    assert frequency(left) == pytest.approx(700, abs=3)
    assert frequency(right) == pytest.approx(700, abs=3)
    onset_left, onset_right = (int(np.argmax(np.abs(channel) > 1000)) for channel in (left, right))
    assert 0 < onset_right - onset_left < 0.3 * 8000


async def test_keys_arrive_in_order(kind: PhoneKind) -> None:
    clock = SystemClock()
    async with answering(clock) as callee, open_phone(kind, clock) as phone:
        leg = await phone.dial(callee.uri)
        async with Caller(leg, clock) as caller:
            await caller.pause(0.2)
            await leg.send_dtmf("12#")
            digits = await callee.saw(Digit, 3)
            assert [event.digit for event in digits if isinstance(event, Digit)] == ["1", "2", "#"]


async def test_hold_silences_the_line_and_resume_brings_it_back(kind: PhoneKind) -> None:
    clock = SystemClock()
    async with answering(clock) as callee, open_phone(kind, clock) as phone:
        leg = await phone.dial(callee.uri)
        async with Caller(leg, clock) as caller:
            await caller.pause(0.2)
            await leg.hold()
            await callee.saw(Held)
            await leg.resume()
            await callee.saw(Resumed)
            spoken = await caller.say(tone(700, 0.5).samples)
            assert await caller.wait_for_speech(2.0, after=spoken.start) is not None


async def test_a_far_end_that_hangs_up_ends_the_call(kind: PhoneKind) -> None:
    clock = SystemClock()
    async with answering(clock) as callee, open_phone(kind, clock) as phone:
        leg = await phone.dial(callee.uri)
        async with Caller(leg, clock) as caller:
            await caller.pause(0.2)
            await callee.legs[0].hang_up()
            assert await caller.wait_for_end(3.0)


async def test_hanging_up_is_heard_by_the_far_end(kind: PhoneKind) -> None:
    clock = SystemClock()
    async with answering(clock) as callee, open_phone(kind, clock) as phone:
        leg = await phone.dial(callee.uri)
        async with Caller(leg, clock) as caller:
            await caller.pause(0.2)
        (ended,) = await callee.saw(Terminated)
        assert isinstance(ended, Terminated)
        assert ended.by is Party.CALLER
        assert caller.ended is not None
        assert caller.ended.by is Party.AGENT


async def test_a_refusal_is_told_with_its_status(kind: PhoneKind) -> None:
    clock = SystemClock()
    async with answering(clock) as callee, open_phone(kind, clock) as phone:
        callee.rejects = (486, "Busy Here")
        with pytest.raises(CallFailed) as refused:
            await phone.dial(callee.uri)
        assert refused.value.status == 486


async def test_giving_up_while_it_rings_cancels_the_call(kind: PhoneKind) -> None:
    clock = SystemClock()
    async with answering(clock) as callee, open_phone(kind, clock) as phone:
        callee.answers = False
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                await phone.dial(callee.uri)
        (ended,) = await callee.saw(Terminated)
        assert isinstance(ended, Terminated)
        assert ended.status == 487


async def test_digest_lets_in_who_knows_the_password(kind: PhoneKind) -> None:
    clock = SystemClock()
    sip = SipSettings(listen="127.0.0.1:0", users=(DigestUser.model_validate({"name": "alice", "password": "secret"}),))
    async with answering(clock, sip) as callee, open_phone(kind, clock) as phone:
        leg = await phone.dial(callee.uri, username="alice", password="secret")
        await leg.hang_up()
        with pytest.raises(CallFailed) as refused:
            await phone.dial(callee.uri, username="alice", password="wrong")
        assert refused.value.status == 401


async def test_two_calls_at_once_have_audio_of_their_own(kind: PhoneKind) -> None:
    clock = SystemClock()
    async with answering(clock) as callee, open_phone(kind, clock) as phone:
        first, second = await asyncio.gather(phone.dial(callee.uri), phone.dial(callee.uri))
        async with Caller(first, clock) as talking, Caller(second, clock) as silent:
            await talking.say(tone(700, 0.5).samples)
            await talking.wait_for_silence(0.3, 2.0)
            assert len(talking.heard.spurts) == 1
            assert not silent.heard.spurts
