"""A server that speaks OpenAI's documented HTTP protocol, and does what a test tells it to.

`/v1/models`, `/v1/chat/completions` (server-sent events), `/v1/audio/speech` (chunked raw PCM) and
`/v1/audio/transcriptions` (multipart WAV). It listens on a port of loopback, by default a free one.

    async with OpenAIServer() as server:
        server.reply = ["Hel", "lo."]
        ... server.base_url ... server.requests[-1].json["messages"]
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Delta:
    """A `delta` object of a chat completion chunk, as it goes over the wire."""

    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pause:
    """The stream stands still, until the client goes or the server is closed; with `seconds`, for so long."""

    seconds: float | None = None


class Break:
    """The connection breaks here, in mid-answer."""


@dataclass(frozen=True, slots=True)
class StreamError:
    """An error object within the stream, as vLLM sends it when generation fails."""

    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer other than 200. `message` is the service's own words."""

    status: int
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)


ReplyItem = str | Delta | Pause | Break | StreamError
SpeechItem = bytes | Pause | Break


@dataclass(frozen=True, slots=True)
class Request:
    """What arrived. `json` of a multipart request holds its fields; `files` its files; `client`: the connection's."""

    path: str
    headers: dict[str, str]
    json: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    client: tuple[str, int] | None = None


def tool_call(index: int, call_id: str | None = None, name: str | None = None, arguments: str | None = None) -> Delta:
    """A piece of a streamed tool call."""
    call: dict[str, Any] = {"index": index, "function": {}}
    if call_id is not None:
        call |= {"id": call_id, "type": "function"}
    if name is not None:
        call["function"]["name"] = name
    if arguments is not None:
        call["function"]["arguments"] = arguments
    return Delta({"tool_calls": [call]})


class OpenAIServer:
    """The server; its public attributes are the script, and may change between requests."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self.key: str | None = None
        """Where set, requests without it are refused with 401."""
        self.models: Sequence[str] = ("test-model",)
        self.reply: Sequence[ReplyItem] = ("Hello.",)
        self.speech: Sequence[SpeechItem] = (b"\0\0" * 240,)
        self.transcript = "hello"
        self.garbage: tuple[str, bytes] | None = None
        """Where set, every answer is this content type and body."""
        self.failures: deque[Failure] = deque()
        """The next requests are answered with these, one each."""
        self.requests: list[Request] = []
        self.disconnected = asyncio.Event()
        """Set when a client went away in mid-answer."""
        self.pausing = asyncio.Event()
        """Set when an answer has come to a `Pause`."""
        self.base_url = ""
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @contextmanager
    def healthy(self) -> Iterator[None]:
        """Meanwhile it answers as it should, whatever the script says: an engine starts against it."""
        fresh = OpenAIServer()
        script = {name: getattr(self, name) for name in ("reply", "speech", "transcript", "failures")}
        for name in script:
            setattr(self, name, getattr(fresh, name))
        try:
            yield
        finally:
            for name, value in script.items():
                setattr(self, name, value)

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._front])
        app.add_routes(
            [
                web.get("/v1/models", self._models),
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/audio/speech", self._speech),
                web.post("/v1/audio/transcriptions", self._transcriptions),
            ]
        )
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        if self._runner:
            await self._runner.cleanup()

    @web.middleware
    async def _front(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.requests.append(await _read(request))
        if self.failures:
            failure = self.failures.popleft()
            return _error(failure.status, failure.message, failure.headers)
        if self.garbage:
            return web.Response(content_type=self.garbage[0], body=self.garbage[1])
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _error(401, f"Incorrect API key provided: {request.headers.get('Authorization')}")
        try:
            response = await handler(request)
        except (ConnectionResetError, asyncio.CancelledError):
            self.disconnected.set()
            raise
        return response

    async def _models(self, request: web.Request) -> web.Response:
        data = [{"id": model, "object": "model", "created": 1, "owned_by": "tests"} for model in self.models]
        return web.json_response({"object": "list", "data": data})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        model = self.requests[-1].json["model"]
        if model not in self.models:
            return _error(404, f"The model `{model}` does not exist.")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}

        async def send(delta: dict[str, Any], finish: str | None = None) -> None:
            choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
            await _event(response, json.dumps(chunk | {"choices": choices}))

        for number, item in enumerate(self.reply):
            if isinstance(item, Pause):
                await self._pause(item)
                continue
            if not response.prepared:
                await response.prepare(request)
            match item:
                case Break():
                    _cut(request)
                    return response
                case StreamError(message):
                    await _event(response, json.dumps({"error": {"message": message, "type": "server_error"}}))
                case str():
                    await send({"role": "assistant", "content": item} if number == 0 else {"content": item})
                case Delta(fields):
                    await send(fields)
        if not response.prepared:
            await response.prepare(request)
        await send({}, "stop")
        if (self.requests[-1].json.get("stream_options") or {}).get("include_usage"):
            # The last chunk, which has no choices.
            usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
            await _event(response, json.dumps(chunk | {"choices": [], "usage": usage}))
        await _event(response, "[DONE]")
        await response.write_eof()
        return response

    async def _speech(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
        for item in self.speech:
            if isinstance(item, Pause):
                await self._pause(item)
                continue
            if not response.prepared:
                await response.prepare(request)
            if isinstance(item, Break):
                _cut(request)
                return response
            await response.write(item)
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
        return response

    async def _transcriptions(self, request: web.Request) -> web.Response:
        return web.json_response({"text": self.transcript})

    async def _pause(self, pause: Pause) -> None:
        self.pausing.set()
        if pause.seconds is not None:
            await asyncio.sleep(pause.seconds)
        else:
            await self._closing.wait()


async def _read(request: web.Request) -> Request:
    client = request.transport.get_extra_info("peername") if request.transport else None
    fields: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    if request.content_type == "multipart/form-data":
        form = await request.post()
        files = {name: part.file.read() for name, part in form.items() if isinstance(part, web.FileField)}
        fields = {name: part for name, part in form.items() if isinstance(part, str)}
    elif request.can_read_body:
        fields = await request.json()
    return Request(request.path, dict(request.headers), fields, files, client)


async def _event(response: web.StreamResponse, data: str) -> None:
    await response.write(f"data: {data}\n\n".encode())


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": status}}
    return web.json_response(body, status=status, headers=headers)


def _cut(request: web.Request) -> None:
    """Breaks the connection as a crashed server does: without the end of the chunked body."""
    if request.transport:
        request.transport.abort()
