"""A caller who hangs up frees his place at the voice at once: over a telephone line, at a real server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.engines import telephone
from tests.engines.checkpoints.conversation import exchange
from tests.engines.servers import Server
from tests.engines.telephone import calling, until, voice
from tests.fakes.calls import FakeMonitor

FREED = 2.0
"""Seconds. On a GPU it takes a step of the model; a machine without one has other work besides."""

QUESTION = exchange("what time do you open on saturday")

SPEAKING, ABORTED = "chatterbox_active_streams", 'chatterbox_requests_total{outcome="aborted"}'


async def test_who_hangs_up_in_mid_sentence_is_no_longer_spoken_for(
    whisper_model: Path,
    vllm: Server,
    chatterbox: Server,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    settings = await telephone.settings(
        tmp_path,
        stt=telephone.whisper_here(whisper_model),
        llm=telephone.chat(vllm),
        tts=telephone.service("openai-speech", chatterbox),
    )
    async with calling(settings, FakeMonitor()) as line:
        await until(chatterbox, lambda metrics: not metrics[SPEAKING])
        said = await line.caller.say(await voice(QUESTION.said))
        assert await line.caller.wait_for_speech(20, after=said.end)
        before = await until(chatterbox, lambda metrics: metrics[SPEAKING] > 0)
        began = line.clock.now()
        await line.leg.hang_up()
        after = await until(chatterbox, lambda metrics: not metrics[SPEAKING])
        seconds = line.clock.now() - began
    record_property("freed_seconds", round(seconds, 3))
    assert after[ABORTED] == before[ABORTED] + 1
    assert seconds < FREED
