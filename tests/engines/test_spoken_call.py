"""A caller, a telephone line, and the engines of a GPU box, all real: Whisper, Llama on vLLM, Chatterbox.

On micro checkpoints: what was understood is what was said, what was answered is what the model learnt, and the answer
is heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connector import config
from connector.app import App, SystemClock
from connector.cli.phone.caller import Caller
from connector.cli.phone.own import own_phone
from connector.config import Surroundings
from connector.config.model import Settings
from connector.record import CallRecord
from tests.engines.checkpoints.conversation import GREETING, PERSONA, exchange
from tests.engines.servers import KEY, LLM_MODEL, Server
from tests.fakes.calls import FakeMonitor
from tests.fakes.models import models_folder
from tests.fakes.voices import spoken

BETWEEN_SENTENCES = 3.0
"""Seconds of silence that a machine without a GPU may need between two of them."""

CONFIGURATION = """\
sip: {{listen: "127.0.0.1:0"}}
http: {{listen: "127.0.0.1:0"}}
media: {{ports: 39400-39499}}
records: {{directory: {records}}}
models: {models}
routes:
  - {{number: "1000", flavor: box}}
flavors:
  box:
    persona: {persona}
    greeting: {greeting}
    vad: {{engine: silero}}
    stt: {{engine: faster-whisper, model: {whisper}, compute_type: int8, cpu_threads: 1}}
    llm:
      engine: openai-chat
      base_url: {llm}
      api_key: ${{VOXTRUNK_API_KEY}}
      model: {llm_model}
      temperature: 0
      tools: [hang_up, transfer]
      transfer_targets: {{billing: "2003"}}
    tts: {{engine: openai-speech, base_url: "{tts}", api_key: "${{VOXTRUNK_API_KEY}}", model: chatterbox}}
"""


@pytest.fixture
def settings(vllm: Server, chatterbox: Server, whisper_model: Path, tmp_path: Path) -> Settings:
    file = tmp_path / "voxtrunk.yml"
    file.write_text(
        CONFIGURATION.format(
            records=tmp_path / "records",
            models=models_folder(),
            persona=PERSONA,
            greeting=GREETING,
            whisper=whisper_model,
            llm=vllm.base_url,
            llm_model=LLM_MODEL,
            tts=chatterbox.base_url,
        )
    )
    return config.load(file, surroundings=Surroundings(variables={"VOXTRUNK_API_KEY": KEY}))


@asynccontextmanager
async def calling(settings: Settings, monitor: FakeMonitor) -> AsyncIterator[Caller]:
    """A caller who has heard the greeting."""
    clock = SystemClock()
    async with App(settings, monitors=[monitor]) as app, own_phone(clock) as phone:
        assert app.readiness().ready, app.readiness()
        assert app.local is not None
        async with Caller(await phone.dial(f"sip:1000@127.0.0.1:{app.local[1]}"), clock) as caller:
            assert await caller.wait_for_speech(10, after=0) is not None
            await caller.wait_for_silence(BETWEEN_SENTENCES, 30)
            yield caller
        async with asyncio.timeout(5):
            while not monitor.records:  # noqa: ASYNC110 - written by a thread
                await asyncio.sleep(0.05)


async def ask(caller: Caller, sentence: str) -> None:
    """Says `sentence` and hears the answer out."""
    said = await caller.say(await asyncio.to_thread(spoken, sentence, "flite", "rms"))
    assert await caller.wait_for_speech(20, after=said.end) is not None, f"no answer to {sentence!r}"
    await caller.wait_for_silence(BETWEEN_SENTENCES, 60)


def turns(record: CallRecord) -> list[tuple[str, str]]:
    """What was understood and what was answered, greeting left out."""
    return [(turn.heard, turn.spoken) for turn in record.turns[1:]]


async def test_a_caller_is_understood_answered_and_seen_off(settings: Settings) -> None:
    question, goodbye = exchange("what time do you open on saturday"), exchange("good bye")
    monitor = FakeMonitor()
    async with calling(settings, monitor) as caller:
        await ask(caller, question.said)
        await caller.say(await asyncio.to_thread(spoken, goodbye.said, "flite", "rms"))
        assert await caller.wait_for_end(60), "the agent did not hang up"
    (record,) = monitor.records
    assert record.errors == []
    assert record.turns[0].spoken == GREETING
    assert turns(record) == [(question.said, question.reply), (goodbye.said, goodbye.heard(tools=True))]
    assert record.ended_by.value == "agent"
    assert record.files.recording is not None


async def test_a_caller_who_wants_a_human_is_transferred(settings: Settings) -> None:
    wish = exchange("please transfer me to the billing department")
    monitor = FakeMonitor()
    async with calling(settings, monitor) as caller:
        await ask(caller, wish.said)
    (record,) = monitor.records
    assert turns(record)[0] == (wish.said, wish.heard(tools=True))
    (referred,) = [step for step in record.signalling if step.message.startswith("REFER")]
    assert "2003" in referred.note
