"""A server for speech, chat and recognition, as a process that can be killed: `python -m tests.e2e.openai_server PORT`.

It speaks (in a tone) and writes little faster than one talks, so that there is a middle to be killed in.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

from tests.fakes.engines import tone
from tests.fakes.openai_server import OpenAIServer, Pause

RATE = 24000
CHUNK_SECONDS = 0.2
CHARACTERS_PER_SECOND = 15.0
PAUSE = Pause(0.12)

STORY = "Once upon a time there was a king who had three daughters and no crown."
QUESTION = "tell me a story"
REPLY = f"Here is a story for you. {STORY}"


class Server(OpenAIServer):
    """Writes `REPLY` to whoever asks, hears `QUESTION` in everything, and says what it is given."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.transcript = QUESTION
        self.reply = [part for word in REPLY.split(" ") for part in (f"{word} ", PAUSE)]

    async def _speech(self, request: web.Request) -> web.StreamResponse:
        seconds = len(self.requests[-1].json["input"]) / CHARACTERS_PER_SECOND
        chunk = tone(440, CHUNK_SECONDS, RATE).samples.tobytes()
        self.speech = [part for _ in range(1 + int(seconds / CHUNK_SECONDS)) for part in (chunk, PAUSE)]
        return await super()._speech(request)


async def main(port: int) -> None:
    """Serves until it is killed; prints the base URL once it does."""
    async with Server(port) as server:
        print(server.base_url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
