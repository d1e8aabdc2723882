"""Pipecat at its defaults on the referee's engines, a server of Twilio Media Streams. A peer, no product.

    PIPECAT_PYTHON bench/turns/peers/pipecat_media_streams.py --port 8765

Needs, in an environment of its own: pip install 'pipecat-ai[silero,websocket,openai]' (BSD-2-Clause). ENGINES tells
where the engines are. End of turn: Pipecat's own (Smart Turn), barge-in: its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import AsyncGenerator

import aiohttp
import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import Frame, TranscriptionFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.services.stt_service import SegmentedSTTService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.utils.time import time_now_iso8601

ENGINES = os.environ.get("ENGINES", "http://127.0.0.1:9100") + "/v1"


class Recogniser(SegmentedSTTService):
    """The engine, and nothing beside it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        super().__init__()
        self._session = session

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame, None]:
        async with self._session.post(f"{ENGINES}/audio/transcriptions", data=audio) as response:
            text = (await response.json())["text"]
        yield TranscriptionFrame(text, "", time_now_iso8601())


async def converse(websocket: WebSocket) -> None:
    """Takes one call, from Twilio's first message to its end."""
    await websocket.accept()
    messages = websocket.iter_text()
    await anext(messages)
    start = json.loads(await anext(messages))["start"]
    serializer = TwilioFrameSerializer(
        stream_sid=start["streamSid"],
        call_sid=start["callSid"],
        params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
    )
    transport = FastAPIWebsocketTransport(
        websocket=websocket,
        params=FastAPIWebsocketParams(
            audio_in_enabled=True, audio_out_enabled=True, add_wav_header=False, serializer=serializer
        ),
    )
    context = LLMContext([{"role": "system", "content": "You are a helpful phone agent."}])
    aggregators = LLMContextAggregatorPair(
        context, user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    async with aiohttp.ClientSession() as session:
        pipeline = Pipeline(
            [
                transport.input(),
                Recogniser(session),
                aggregators.user(),
                OpenAILLMService(api_key="stub", base_url=ENGINES, settings=OpenAILLMService.Settings(model="stub")),
                OpenAITTSService(api_key="stub", base_url=ENGINES, sample_rate=24000),
                transport.output(),
                aggregators.assistant(),
            ]
        )
        task = PipelineTask(pipeline, params=PipelineParams(audio_in_sample_rate=8000, audio_out_sample_rate=8000))

        @transport.event_handler("on_client_disconnected")
        async def _over(transport: FastAPIWebsocketTransport, client: WebSocket) -> None:
            await task.cancel()

        await PipelineRunner(handle_sigint=False).run(task)


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer Twilio Media Streams with Pipecat.")
    parser.add_argument("--port", type=int, default=8765)
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    application = FastAPI()
    application.add_api_websocket_route("/ws", converse)
    uvicorn.run(application, host="127.0.0.1", port=parser.parse_args().port, log_level="warning")


if __name__ == "__main__":
    main()
