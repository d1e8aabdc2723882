"""A caller with a voice, the offline flavor, real SIP and RTP: what the newcomer gets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from connector import config
from connector.app import App, SystemClock
from connector.cli.phone.caller import Caller
from connector.cli.phone.own import own_phone
from connector.config.model import Settings
from tests.fakes.calls import FakeMonitor
from tests.fakes.models import models_folder
from tests.fakes.voices import spoken

CONFIGURATION = """\
sip: {{listen: "127.0.0.1:0"}}
http: {{listen: "127.0.0.1:0"}}
media: {{ports: 39300-39399}}
records: {{directory: {records}}}
models: {models}
routes:
  - {{number: "1000", flavor: offline, with: {{greeting: Welcome to the front desk.}}}}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "voxtrunk.yml"
    file.write_text(CONFIGURATION.format(records=tmp_path / "records", models=models_folder()))
    return config.load(file)


async def test_a_spoken_question_is_understood_and_answered(settings: Settings) -> None:
    question = await asyncio.to_thread(spoken, "What are your opening hours?", "flite", "rms")
    goodbye = await asyncio.to_thread(spoken, "Goodbye.", "flite", "rms")
    monitor, clock = FakeMonitor(), SystemClock()
    async with App(settings, monitors=[monitor]) as app, own_phone(clock) as phone:
        assert app.readiness().ready, app.readiness()
        assert app.local is not None
        async with Caller(await phone.dial(f"sip:1000@127.0.0.1:{app.local[1]}"), clock) as caller:
            assert await caller.wait_for_speech(5, after=0) is not None
            await caller.wait_for_silence(0.7, 10)
            said = await caller.say(question)
            assert await caller.wait_for_speech(5, after=said.end) is not None
            heard = caller.answer_delay(said)
            await caller.wait_for_silence(0.7, 20)
            await caller.say(goodbye)
            assert await caller.wait_for_end(15)
        async with asyncio.timeout(5):
            while not monitor.records:  # noqa: ASYNC110 - written by a thread
                await asyncio.sleep(0.05)
    (record,) = monitor.records
    assert record.errors == []
    assert record.ended_by.value == "agent"
    _, hours, bye = record.turns
    assert hours.intent == "hours"
    assert hours.heard == "what are your opening hours"
    assert "nine in the morning" in hours.spoken
    assert bye.intent is not None
    assert heard is not None
    assert hours.latency.silence_ms == pytest.approx(heard * 1000, abs=80)
    assert hours.latency.parts_ms.total == hours.latency.silence_ms
    assert record.files.recording is not None
    assert record.files.transcript is not None
