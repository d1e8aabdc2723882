"""Engines that only take time: OpenAI-compatible recogniser, language model and speech with fixed delays.

    POST /v1/audio/transcriptions   JSON, `STT_SECONDS` after the body came: the words spoken within the submitted
                                    WAV (its duration, back from now), lower case and without punctuation
    POST /v1/chat/completions       server-sent events, first after `FIRST_TOKEN_SECONDS`, then `TOKENS_PER_SECOND`
    POST /v1/audio/speech           24 kHz PCM, first 40 ms after `FIRST_AUDIO_SECONDS`, then `SPEED` times real time; a
                                    tone of its own for each request, so that the caller can tell whose audio it hears,
                                    or a voice over such a tone, which then tells that the voice goes on in its pauses
    GET  /v1/models
For the referee alone:
    POST /control/part   {"text", "start", "seconds"}: words that the caller begins to say (CLOCK_MONOTONIC)
    POST /control/speech {"seconds_per_character", "voice"}: how fast the tones are, or which voice speaks instead
    GET  /control/events what happened since the last request: [[time, kind, {...}], ...]
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import sys
import time
from contextlib import suppress
from typing import Any

import numpy as np
from aiohttp import web

from bench.voices import spoken
from connector.audio import Samples

STT_SECONDS = 0.120
FIRST_TOKEN_SECONDS = 0.150
TOKENS_PER_SECOND = 60.0
FIRST_AUDIO_SECONDS = 0.150
SPEED = 4.0
SECONDS_PER_CHARACTER = 0.016
RATE = 24000
TONE_SECONDS = 10
CHUNK_SECONDS = 0.04

REPLY = [
    ["Sure,", " I", " can", " check", " that", " for", " you."],
    [" Your", " booking", " is", " confirmed", " for", " Thursday", " at", " ten", " in", " the", " morning."],
    [" Is", " there", " anything", " else", " I", " can", " help", " you", " with", " today?"],
]
TOKENS = [token for sentence in REPLY for token in sentence]
USAGE = {"prompt_tokens": 1, "completion_tokens": len(TOKENS), "total_tokens": len(TOKENS) + 1}

HERTZ = range(300, 1500, 50)
"""Multiples of 50 Hz: each is one bin of a 20 ms frame."""

TONE_AMPLITUDE = 0.3
UNDERTONE_AMPLITUDE = 0.015
"""-40 dBFS, below a voice at `VOICE_DBFS`."""
VOICE_DBFS = -20.0

now = time.monotonic


def wav_seconds(body: bytes) -> float | None:
    """Duration of the first WAV in a raw or multipart body."""
    riff = body.find(b"RIFF")
    form, data = body.find(b"fmt ", riff), body.find(b"data", riff)
    if min(riff, form, data) < 0:
        return None
    octets_per_second = int.from_bytes(body[form + 16 : form + 20], "little")
    length = int.from_bytes(body[data + 4 : data + 8], "little")
    end = body.rfind(b"\r\n--", data)
    present = (end if end > 0 else len(body)) - data - 8
    return min(length, present) / octets_per_second if octets_per_second else None


async def until(instant: float) -> None:
    await asyncio.sleep(max(0.0, instant - now()))


class Engines:
    """State of the three engines, and what the referee asks of them."""

    def __init__(self) -> None:
        self._pace = SECONDS_PER_CHARACTER
        self._voice: str | None = None
        self._spoken: dict[tuple[str, str], Samples] = {}
        self._events: list[tuple[float, str, dict[str, Any]]] = []
        self._words: list[tuple[float, str]] = []
        self._hertz = itertools.cycle(HERTZ)
        # Made beforehand: making one takes as long as several packets may wait.
        times = np.arange(RATE * TONE_SECONDS) / RATE
        self._tones = {
            hertz: (np.sin(2 * np.pi * hertz * times) * TONE_AMPLITUDE * 32767).astype(np.int16) for hertz in HERTZ
        }

    def happened(self, kind: str, at: float | None = None, /, **details: Any) -> None:
        self._events.append((now() if at is None else at, kind, details))

    async def transcribe(self, request: web.Request) -> web.Response:
        body = await request.read()
        came = now()
        seconds = wav_seconds(body)
        self.happened("stt_req", seconds=seconds)
        since = came - (seconds or 0.0) - 0.1
        text = " ".join(word for at, word in self._words if since <= at <= came)
        await until(came + STT_SECONDS)
        self.happened("stt_res", text=text)
        return web.json_response({"text": text})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        came = now()
        messages = [(message["role"], message["content"]) for message in body["messages"]]
        said = [content for role, content in messages if role == "user"]
        self.happened("llm_req", user=said[-1] if said else "", messages=messages)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        for index, token in enumerate(TOKENS):
            await until(came + FIRST_TOKEN_SECONDS + index / TOKENS_PER_SECOND)
            await response.write(_chunk({"role": "assistant", "content": token}))
            if index == 0:
                self.happened("llm_first")
            if index == len(REPLY[0]) - 1:
                self.happened("llm_sent1")
        await response.write(_chunk({}, finish="stop"))
        if (body.get("stream_options") or {}).get("include_usage"):
            await response.write(_event(choices=[], usage=USAGE))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def speak(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        came = now()
        text, hertz = body["input"], next(self._hertz)
        samples = self._toned(text, hertz) if self._voice is None else await self._voiced(text, hertz, self._voice)
        self.happened("tts_req", came, text=text, hz=hertz, seconds=len(samples) / RATE)
        sound = samples.astype("<i2").tobytes()
        await until(came + FIRST_AUDIO_SECONDS)
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
        await response.prepare(request)
        began = now()
        step = int(RATE * CHUNK_SECONDS) * 2
        for index, start in enumerate(range(0, len(sound), step)):
            await until(began + index * CHUNK_SECONDS / SPEED)
            await response.write(sound[start : start + step])
            if index == 0:
                self.happened("tts_first")
        await response.write_eof()
        return response

    def _toned(self, text: str, hertz: int) -> Samples:
        return np.resize(self._tones[hertz], int(RATE * len(text.strip()) * self._pace))

    async def _voiced(self, text: str, hertz: int, voice: str) -> Samples:
        if (voice, text) not in self._spoken:
            self._spoken[voice, text] = await asyncio.to_thread(spoken, voice, text, RATE)
        speech = self._spoken[voice, text] / 32768
        speech *= 10 ** (VOICE_DBFS / 20) / np.sqrt((speech**2).mean())
        undertone = np.resize(self._tones[hertz], len(speech)) / 32768 * UNDERTONE_AMPLITUDE / TONE_AMPLITUDE
        return (np.clip(speech + undertone, -0.99, 0.99) * 32767).astype(np.int16)

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "stub", "object": "model"}]})

    async def part(self, request: web.Request) -> web.Response:
        """Words are spread evenly over the part; each counts as said at its middle."""
        part = await request.json()
        words = re.sub(r"[^a-z0-9' ]", "", part["text"].lower()).split()
        for index, word in enumerate(words):
            self._words.append((part["start"] + (index + 0.5) / len(words) * part["seconds"], word))
        return web.json_response({})

    async def set_speech(self, request: web.Request) -> web.Response:
        speech = await request.json()
        self._pace, self._voice = speech["seconds_per_character"], speech["voice"]
        return web.json_response({})

    async def events(self, request: web.Request) -> web.Response:
        events, self._events = self._events, []
        return web.json_response(events)

    def application(self) -> web.Application:
        application = web.Application(client_max_size=64 << 20)
        application.add_routes(
            [
                web.post("/v1/audio/transcriptions", self.transcribe),
                web.post("/v1/chat/completions", self.chat),
                web.post("/v1/audio/speech", self.speak),
                web.get("/v1/models", self.models),
                web.post("/control/part", self.part),
                web.post("/control/speech", self.set_speech),
                web.get("/control/events", self.events),
            ]
        )
        return application


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    return _event(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])


def _event(**fields: Any) -> bytes:
    body = {"id": "stub", "object": "chat.completion.chunk", "created": 1, "model": "stub", **fields}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def main() -> None:
    with suppress(OSError):
        os.nice(-10)
    web.run_app(
        Engines().application(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        print=None,
        access_log=None,
        handler_cancellation=True,
    )


if __name__ == "__main__":
    main()
