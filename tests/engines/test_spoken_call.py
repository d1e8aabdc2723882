"""A caller, a telephone line, and the engines of a GPU box, all real: Whisper, Llama on vLLM, Chatterbox.

On micro checkpoints: what was understood is what was said, what was answered is what the model learnt, and the answer
is heard.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connector.app import SystemClock
from connector.cli.phone import Phone
from connector.config.model import Settings
from connector.interfaces import Clock, Established, Terminated
from connector.record import CallRecord
from tests.e2e import pjsua
from tests.e2e.answering import answering
from tests.engines import telephone
from tests.engines.checkpoints.conversation import GREETING, exchange
from tests.engines.servers import Server
from tests.engines.telephone import calling, turns, voice
from tests.fakes.calls import FakeMonitor

BILLING = "2003"
"""A number of the caller's own PBX."""


class Box:
    """The engines that a flavor is made of."""

    def __init__(self, folder: Path, whisper: Path, vllm: Server, chatterbox: Server) -> None:
        self._folder = folder
        self._whisper = whisper
        self._vllm = vllm
        self._chatterbox = chatterbox

    async def settings(self, billing: str = BILLING) -> Settings:
        """`billing`: where the billing department is."""
        tools = f', tools: [hang_up, transfer], transfer_targets: {{billing: "{billing}"}}'
        return await telephone.settings(
            self._folder,
            stt=telephone.whisper_here(self._whisper),
            llm=telephone.chat(self._vllm, tools),
            tts=telephone.service("openai-speech", self._chatterbox, ", model: chatterbox"),
        )


@pytest.fixture
def box(vllm: Server, chatterbox: Server, whisper_model: Path, tmp_path: Path) -> Box:
    return Box(tmp_path, whisper_model, vllm, chatterbox)


async def test_a_caller_is_understood_answered_and_seen_off(box: Box) -> None:
    question, goodbye = exchange("what time do you open on saturday"), exchange("good bye")
    monitor = FakeMonitor()
    async with calling(await box.settings(), monitor) as line:
        await line.ask(question.said)
        await line.caller.say(await voice(goodbye.said))
        assert await line.caller.wait_for_end(60), "the agent did not hang up"
    (record,) = monitor.records
    assert record.errors == []
    assert record.turns[0].spoken == GREETING
    assert turns(record) == [(question.said, question.reply), (goodbye.said, goodbye.heard(tools=True))]
    assert record.ended_by.value == "agent"
    assert record.files.recording is not None


@asynccontextmanager
async def independent_phone(clock: Clock) -> AsyncIterator[Phone]:
    """pjsua2, which follows a REFER as RFC 3515 has it: it calls the target, and tells how that goes."""
    async with pjsua.phone() as phone:
        yield phone


@pytest.mark.skipif(pjsua.missing_reason() is not None, reason=str(pjsua.missing_reason()))
async def test_a_caller_who_wants_a_human_is_connected_to_one(box: Box) -> None:
    wish = exchange("please transfer me to the billing department")
    monitor = FakeMonitor()
    async with answering(SystemClock()) as billing:
        target = billing.uri.replace("1000", BILLING)
        async with calling(await box.settings(target), monitor, independent_phone) as line:
            await line.caller.say(await voice(wish.said))
            assert await line.caller.wait_for_end(60), "the agent did not leave the call"
            await billing.saw(Established)
            assert not [event for event in billing.events if isinstance(event, Terminated)]
        (leg,) = billing.legs
    (record,) = monitor.records
    assert leg.info.called == BILLING
    assert turns(record) == [(wish.said, wish.heard(tools=True))]
    assert record.errors == []
    assert (record.ended_by.value, record.reason) == ("agent", "transferred")
    referral = signalling(record)[signalling(record).index(f"REFER Refer-To: <{target}>") :]
    assert referral[1:3] == ["202 Accepted", "NOTIFY SIP/2.0 100 Trying"]
    assert referral.index("NOTIFY SIP/2.0 200 OK") < referral.index("BYE")


async def test_a_caller_whose_telephone_cannot_be_transferred_stays_with_the_agent(box: Box) -> None:
    wish, question = exchange("please transfer me to the billing department"), exchange("where is my package")
    monitor = FakeMonitor()
    async with calling(await box.settings(), monitor) as line:
        await line.ask(wish.said)
        await line.ask(question.said)
    (record,) = monitor.records
    assert turns(record) == [
        (wish.said, wish.heard(tools=True)),
        ("", "Sorry, I could not transfer your call."),
        (question.said, question.reply),
    ]
    assert record.errors == ["CallFailed: 405 Method Not Allowed"]
    assert record.ended_by.value == "caller"


def signalling(record: CallRecord) -> list[str]:
    """The messages of the call, each with what matters in it."""
    return [f"{step.message} {step.note}".strip() for step in record.signalling]
