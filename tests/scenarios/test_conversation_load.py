"""Long and many: an hour of talk, and fifty calls on one voice activity detection."""

from __future__ import annotations

import asyncio
import gc
import sys

from connector.host.vad import BatchedVadService
from tests.fakes.clock import virtual_time
from tests.fakes.engines import FakeVad, FakeVadService
from tests.scenarios.conversation import FLAVOR, Conversation


@virtual_time
async def test_an_hour_long_call_stays_whole() -> None:
    vad = FakeVadService()
    async with Conversation(FLAVOR, vad=vad) as talk:
        await talk.notes.wait_for_turns(1)
        sizes = []
        asked = 0
        while talk.clock.now() < 3600:
            turn = await talk.asks(f"question {asked % 50}")
            assert turn.heard == f"question {asked % 50}"
            assert turn.error is None
            asked += 1
            await talk.clock.sleep(10)
            talk.stt.utterances.clear()
            talk.llm.histories[:-1] = []
            talk.tts.calls.clear()
            talk.notes.turns.clear()
            talk.port.voice.clear()
            if asked % 40 == 0:
                gc.collect()
                sizes.append(sys.getallocatedblocks())
        assert asked > 200
        # The pipeline, its port, its test: three tasks and the test's own, however long the call.
        assert len(asyncio.all_tasks()) <= 4
        assert sum(len(content) for _, content in talk.history) < 30_000
        assert sizes[-1] - sizes[1] < 2_000, f"allocated blocks grow: {sizes}"
    assert vad.streams == 0


@virtual_time
async def test_fifty_calls_share_one_voice_activity_detection() -> None:
    engine = FakeVad(delay=0.005)
    service = BatchedVadService(engine)

    async def call(number: int) -> None:
        await asyncio.sleep(number * 0.007)
        async with Conversation(FLAVOR, vad=service) as talk:
            await talk.notes.wait_for_turns(1)
            for question in range(2):
                turn = await talk.asks(f"question {question} of call {number}")
                assert turn.spoken == f"You said question {question} of call {number}."

    async with asyncio.TaskGroup() as calls:
        for number in range(50):
            calls.create_task(call(number))
    await service.aclose()
    assert engine.most_running == 1
    assert max(engine.batches) > 5
    assert (service.failures, service.dropped) == (0, 0)
