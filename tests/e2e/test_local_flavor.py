"""The `local` flavor as it is shipped, on its real engines: Silero, faster-whisper, and OpenAI's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connector import config
from connector.audio import Audio
from connector.config import Surroundings
from connector.config.model import Flavor
from connector.host import BatchedVadService, LocalEngineHost
from connector.interfaces import EngineContext, HangUp
from connector.pipeline.cascade import Cascade, CascadeEngines
from tests.fakes import voices, whisper
from tests.fakes.audio_port import FakeAudioPort
from tests.fakes.clock import LoopClock
from tests.fakes.models import models_folder
from tests.fakes.openai_server import OpenAIServer, tool_call
from tests.scenarios.conversation import Notes

HEARD = "when do you open on Saturday"
SPEECH = (np.sin(np.arange(12000) * 2 * np.pi * 440 / 24000) * 8000).astype("<i2").tobytes()


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        server.key = "s3cret"
        server.reply = ["We open at nine. ", "Have a nice", " day!", tool_call(0, "call_1", "hang_up", '{"say": ""}')]
        server.speech = [SPEECH[:4801], SPEECH[4801:]]
        yield server


def local_flavor(server: OpenAIServer, model: Path) -> Flavor:
    variables = {
        "VOXTRUNK_WHISPER": str(model),
        "VOXTRUNK_LLM_URL": server.base_url,
        "VOXTRUNK_LLM_KEY": "s3cret",
        "VOXTRUNK_LLM_MODEL": "test-model",
        "VOXTRUNK_TTS_URL": server.base_url,
        "VOXTRUNK_TTS_KEY": "s3cret",
    }
    return config.builtin_settings(surroundings=Surroundings(variables=variables)).flavors["local"]


@asynccontextmanager
async def started(flavor: Flavor) -> AsyncIterator[CascadeEngines]:
    """The flavor's engines, started."""
    async with AsyncExitStack() as stack:
        host = LocalEngineHost()
        stack.push_async_callback(host.aclose)
        context = EngineContext(host, await asyncio.to_thread(models_folder))
        engines: dict[str, Any] = {}
        own = {"vad": 0, "stt": 1, "llm": 0, "tts": 0}  # the recogniser that needs no server
        for part, rung in own.items():
            choice = getattr(flavor, part).rungs[rung]
            descriptor = config.engine_descriptors()[choice.engine]
            engines[part] = await asyncio.to_thread(descriptor.load, choice.options, context)
            await engines[part].start()
            stack.push_async_callback(engines[part].aclose)
        vad = BatchedVadService(engines.pop("vad"))
        stack.push_async_callback(vad.aclose)
        yield CascadeEngines(vad, **engines)


async def test_a_caller_asks_is_answered_and_the_agent_hangs_up(server: OpenAIServer, tmp_path: Path) -> None:
    model = await asyncio.to_thread(whisper.build, tmp_path, HEARD)
    question = Audio(await asyncio.to_thread(voices.spoken, HEARD), voices.RATE)
    flavor = await asyncio.to_thread(local_flavor, server, model)
    clock, notes = LoopClock(), Notes()
    async with started(flavor) as engines, FakeAudioPort(clock) as port:
        server.requests.clear()
        pipeline = asyncio.create_task(Cascade(flavor, engines, port, notes, clock).run())
        await notes.wait_for_turns(1)
        await port.caller_says(question)
        await notes.wait_for_turns(2)
        pipeline.cancel()
        await asyncio.wait([pipeline])

    greeting, turn = notes.turns
    assert greeting.spoken == flavor.greeting
    assert turn.heard == HEARD
    assert turn.spoken == "We open at nine. Have a nice day!"
    assert turn.error is None
    assert [action for _, action in notes.actions] == [HangUp()]

    asked = [request.json for request in server.requests if request.path == "/v1/chat/completions"]
    assert [message["role"] for message in asked[0]["messages"]] == ["system", "assistant", "user"]
    assert asked[0]["messages"][0]["content"] == flavor.persona
    assert asked[0]["messages"][2]["content"] == HEARD
    said = [request.json["input"] for request in server.requests if request.path == "/v1/audio/speech"]
    assert said[-2:] == ["We open at nine.", "Have a nice day!"], "sentence by sentence"
