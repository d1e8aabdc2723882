"""The floor: how little an orchestrator can add to these engines. A yardstick, no product.

    python -m bench.turns --command "python -m bench.turns.peers.floor --port 42310" --address rtp:127.0.0.1:42310

One UDP port, an energy detector, no jitter buffer. It asks the engines after `--ask` ms of silence, and lets the answer
out once `--hold` ms of silence have passed.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import struct
import time
import wave
from collections import deque

import aiohttp
import numpy as np

from connector.audio import FRAME_SECONDS
from connector.codec.g711 import MuLaw
from connector.codec.resample import Resampler

ENGINES = os.environ.get("ENGINES", "http://127.0.0.1:9100") + "/v1"
FRAME = 160
FRAME_MS = 20
LOUD_DBFS = -42
ONSET_MS = 60
"""Speech that begins a turn, or stops an answer that was not heard yet."""
DIP_MS = 40
"""Shorter silence does not break speech, shorter speech does not break silence."""
KEPT = 1500
PREROLL = 15

now = time.monotonic


class Agent(asyncio.DatagramProtocol):
    def __init__(self, ask: int, hold: int, barge_in: int) -> None:
        self._ask, self._hold, self._barge_in = ask, hold, barge_in
        self._codec = MuLaw()
        self._peer: tuple[str, int] | None = None
        self._heard: deque[bytes] = deque(maxlen=KEPT)
        self._speech = self._silence = 0
        self._in_turn = self._committed = False
        self._answering: asyncio.Task[None] | None = None
        self._answer: deque[bytes] = deque()
        self._messages: list[dict[str, str]] = []

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if len(data) != 12 + FRAME or data[1] & 0x7F:
            return
        self._peer = address
        samples = self._codec.decode(data[12:])
        self._heard.append(samples.tobytes())
        while not self._in_turn and len(self._heard) > PREROLL:
            self._heard.popleft()
        if 10 * np.log10(np.mean((samples / 32768) ** 2) + 1e-12) > LOUD_DBFS:
            self._voice()
        else:
            self._quiet()

    def _voice(self) -> None:
        self._speech += FRAME_MS
        if self._speech < DIP_MS:
            return
        self._silence = 0
        if self._speech >= (self._barge_in if self._committed else ONSET_MS):
            self._in_turn = True
            self._take_back()

    def _quiet(self) -> None:
        self._silence += FRAME_MS
        if self._silence >= DIP_MS:
            self._speech = 0
        if self._in_turn and self._answering is None and self._silence >= self._ask:
            self._answering = asyncio.create_task(self._reply(b"".join(self._heard)))
        if self._in_turn and self._silence >= self._hold:
            self._in_turn, self._committed = False, True

    def _take_back(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None
        self._answer.clear()
        self._committed = False

    async def _reply(self, heard: bytes) -> None:
        async with self.http.post(f"{ENGINES}/audio/transcriptions", data=_wav(heard)) as response:
            text = (await response.json())["text"]
        messages = [*self._messages, {"role": "user", "content": text}]
        sentences: asyncio.Queue[str | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._speak(sentences))
            reply = await self._think(messages, sentences)
        self._messages = [*messages, {"role": "assistant", "content": reply}]

    async def _think(self, messages: list[dict[str, str]], sentences: asyncio.Queue[str | None]) -> str:
        reply = sentence = ""
        body = {"model": "stub", "stream": True, "messages": messages}
        async with self.http.post(f"{ENGINES}/chat/completions", json=body) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    token = json.loads(line[6:])["choices"][0]["delta"].get("content", "")
                    reply, sentence = reply + token, sentence + token
                    if token.endswith((".", "?", "!")):
                        sentences.put_nowait(sentence.strip())
                        sentence = ""
        sentences.put_nowait(None)
        return reply

    async def _speak(self, sentences: asyncio.Queue[str | None]) -> None:
        while (sentence := await sentences.get()) is not None:
            resampler = Resampler(24_000, 8_000)
            odd, ready = b"", b""
            async with self.http.post(f"{ENGINES}/audio/speech", json={"input": sentence}) as response:
                async for chunk in response.content.iter_any():
                    pcm = odd + chunk
                    odd = pcm[len(pcm) & ~1 :]
                    samples = np.frombuffer(pcm[: len(pcm) & ~1], "<i2").astype(np.int16)
                    ready += self._codec.encode(resampler.process(samples))
                    while len(ready) >= FRAME:
                        self._answer.append(ready[:FRAME])
                        ready = ready[FRAME:]

    async def run(self, transport: asyncio.DatagramTransport) -> None:
        """A packet each 20 ms, while there is an answer that may be heard."""
        sequence, timestamp, ssrc = random.getrandbits(15), 0, random.getrandbits(32)
        due = now()
        async with aiohttp.ClientSession() as self.http:
            while True:
                due += FRAME_SECONDS
                await asyncio.sleep(max(0.0, due - now()))
                timestamp = timestamp + FRAME & 0xFFFFFFFF
                if not (self._committed and self._answer and self._peer):
                    continue
                header = struct.pack("!BBHII", 0x80, 0, sequence, timestamp, ssrc)
                sequence = sequence + 1 & 0xFFFF
                transport.sendto(header + self._answer.popleft(), self._peer)
                if not self._answer and (self._answering is None or self._answering.done()):
                    self._committed, self._answering = False, None


def _wav(pcm: bytes) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(pcm)
    return file.getvalue()


async def serve(options: argparse.Namespace) -> None:
    transport, agent = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Agent(options.ask, options.hold, options.barge_in), local_addr=("127.0.0.1", options.port)
    )
    await agent.run(transport)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ask", type=int, default=60, help="ms of silence after which the engines are asked")
    parser.add_argument("--hold", type=int, default=400, help="ms of silence after which the answer is heard")
    parser.add_argument("--barge-in", type=int, default=100, help="ms of speech that stop the answer")
    asyncio.run(serve(parser.parse_args()))
