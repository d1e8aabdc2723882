"""A connection to a service outlives the turns of a call."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from connector.audio import Audio
from connector.interfaces import EngineContext, EngineHost
from flavors.engines.openai_transcriptions import OpenAITranscriptions, TranscriptionsOptions, descriptor
from tests.fakes.openai_server import OpenAIServer

LONG_REPLY = 5.5
"""Seconds in which the agent speaks and nothing is recognised; common clients drop connections after 5 s."""


@pytest.mark.slow
async def test_a_turn_after_a_long_reply_needs_no_new_connection() -> None:
    context = EngineContext(host=cast(EngineHost, None), models=Path("models"))
    async with OpenAIServer() as server:
        options = TranscriptionsOptions(base_url=server.base_url)
        engine = await asyncio.to_thread(descriptor.load, options, context)
        assert isinstance(engine, OpenAITranscriptions)
        await engine.start()
        for _ in range(2):
            await asyncio.sleep(LONG_REPLY)
            await engine.transcribe(Audio(np.zeros(8000, np.int16), 8000))
        await engine.aclose()
        assert len({request.client for request in server.requests}) == 1
