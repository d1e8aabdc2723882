"""Twilio Media Streams, Twilio's part: for systems that are servers of that protocol.

https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from typing import Any, Self

import aiohttp

from bench.turns.phone import Received, now

TRIES, TRY_SECONDS = 200, 0.1
"""For the system to start."""


class MediaStream:
    """One call's websocket. Marks are returned when what came before them has been played."""

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.received = Received()
        self._session = session
        self._socket = socket
        self._stream, self._sent, self._began = f"MZ{uuid.uuid4().hex}", 0, now()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, url: str) -> Self:
        """Calls the server at `url`. Raises ConnectionError where there is none."""
        session = aiohttp.ClientSession()
        for _ in range(TRIES):
            try:
                socket = await session.ws_connect(url, max_msg_size=0)
            except aiohttp.ClientError:
                await asyncio.sleep(TRY_SECONDS)
            else:
                stream = cls(session, socket)
                await stream._start()
                return stream
        await session.close()
        raise ConnectionError(f"nothing answers at {url}")

    async def send(self, payload: bytes) -> None:
        self._sent += 1
        media = {
            "track": "inbound",
            "chunk": str(self._sent),
            "timestamp": str(round(1000 * (now() - self._began))),
            "payload": base64.b64encode(payload).decode(),
        }
        await self._tell("media", sequenceNumber=str(self._sent + 1), media=media)

    async def close(self) -> None:
        await self._tell("stop", sequenceNumber=str(self._sent + 2), stop={})
        for task in self._tasks:
            task.cancel()
        await self._socket.close()
        await self._session.close()

    async def _start(self) -> None:
        await self._tell("connected", protocol="Call", version="1.0.0")
        start = {
            "accountSid": f"AC{0:032}",
            "streamSid": self._stream,
            "callSid": f"CA{uuid.uuid4().hex}",
            "tracks": ["inbound"],
            "customParameters": {},
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        }
        await self._tell("start", sequenceNumber="1", start=start)
        self._spawn(self._receive())

    async def _receive(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            match said["event"]:
                case "media":
                    self.received.take(base64.b64decode(said["media"]["payload"]))
                case "clear":
                    self.received.clear()
                case "mark":
                    self._spawn(self._return_mark(said["mark"]))

    async def _return_mark(self, mark: dict[str, str]) -> None:
        await asyncio.sleep(max(0.0, self.received.played_at - now()))
        await self._tell("mark", mark=mark)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, event: str, **details: Any) -> None:
        if not self._socket.closed:
            await self._socket.send_json({"event": event, "streamSid": self._stream, **details})
