"""Twilio's part in Media Streams, as bench/turns plays it to other systems."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.turns.clips import FRAME
from bench.turns.twilio import MediaStream
from connector.codec.g711 import MuLaw
from tests.fakes.engines import tone

PAYLOAD = MuLaw().encode(tone(500, 0.02).samples)


class Agent:
    """A server of Media Streams that speaks 20 ms, marks their end, and takes all back."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.over = asyncio.Event()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            said = message.json()
            self.heard.append(said)
            if said["event"] == "media":
                media = {"payload": base64.b64encode(PAYLOAD).decode()}
                await socket.send_json({"event": "media", "media": media})
                await socket.send_json({"event": "mark", "mark": {"name": "end"}})
            if said["event"] == "mark":
                await socket.send_json({"event": "clear"})
                await socket.close()
        self.over.set()
        return socket


async def test_a_call_over_media_streams() -> None:
    agent = Agent()
    application = web.Application()
    application.router.add_get("/ws", agent.serve)
    async with TestServer(application) as server:
        stream = await MediaStream.open(str(server.make_url("/ws")))
        await stream.send(bytes(FRAME))
        await agent.over.wait()
        await stream.close()
    connected, start, media, mark = agent.heard
    assert connected["event"] == "connected"
    assert start["start"]["mediaFormat"] == {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    assert base64.b64decode(media["media"]["payload"]) == bytes(FRAME)
    assert mark["mark"] == {"name": "end"}
    [packet] = stream.received.packets
    assert (packet.seconds, packet.loud, packet.hertz) == (0.02, True, 500)
    assert len(stream.received.cleared) == 1
