"""RTCP through the whole stack: a telephone, rtpengine and the connector tell each other how the call sounds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from connector.app import SystemClock
from connector.cli.phone.caller import Caller
from tests.e2e import pjsua
from tests.e2e.opensips import Stack, installations, running
from tests.e2e.trunk import cdr
from tests.fakes.audio import tone

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(pjsua.missing_reason() is not None, reason=str(pjsua.missing_reason())),
]

CLOCK = SystemClock()

TALK_SECONDS = 14.0
"""Both ends report each five seconds, and the second report answers the first."""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=installations()[-1:], ids=str)
async def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running(request.param, tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.mark.parametrize("srtp", [False, True], ids=["RTP", "SRTP"])
async def test_the_quality_of_both_directions_is_in_the_record(stack: Stack, srtp: bool) -> None:
    async with pjsua.phone("PCMU", srtp=srtp) as phone:
        leg = await phone.dial(f"sip:1000@{stack.edge[0]}:{stack.edge[1]}")
        async with Caller(leg, CLOCK) as caller:
            caller.speak(tone(700, TALK_SECONDS).samples)
            await caller.pause(TALK_SECONDS)
    media = (await cdr(stack, leg.info.call_id))["media"]
    assert media["mos"] > 4
    assert media["remote_mos"] > 4
    assert media["remote_lost"] is not None
    assert 0 <= media["round_trip"] < 0.5
    assert media["strangers"] == media["malformed"] == 0
