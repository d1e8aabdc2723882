"""Engines of OpenAI-compatible services keep their connections from turn to turn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from connector.audio import Audio
from connector.interfaces import EngineContext, EngineDescriptor, EngineHost, Message, Role
from flavors.engines import openai_chat, openai_speech, openai_transcriptions
from tests.fakes.openai_server import OpenAIServer


async def use(engine: Any) -> None:
    """What a turn asks of the engine."""
    match engine:
        case openai_chat.OpenAIChat():
            assert [event async for event in engine.reply([Message(Role.USER, "Hello?")])]
        case openai_speech.OpenAISpeech():
            assert [audio async for audio in engine.synthesize("Hello.")]
        case openai_transcriptions.OpenAITranscriptions():
            await engine.transcribe(Audio(np.zeros(8000, np.int16), 8000))


@pytest.mark.parametrize("engine", [openai_chat, openai_speech, openai_transcriptions], ids=lambda engine: engine.NAME)
async def test_turns_share_the_connection_that_the_start_made(engine: Any) -> None:
    descriptor: EngineDescriptor = engine.descriptor
    async with OpenAIServer() as server:
        options = descriptor.options.model_validate({"base_url": server.base_url, "model": server.models[0]})
        context = EngineContext(host=cast(EngineHost, None), models=Path("models"))
        served = await asyncio.to_thread(descriptor.load, options, context)
        await served.start()
        for _ in range(3):
            await use(served)
        await served.aclose()
        await asyncio.sleep(0)  # the client has the event loop close the iterators that it leaves behind
        assert len(server.requests) >= 4
        assert len({request.client for request in server.requests}) == 1
