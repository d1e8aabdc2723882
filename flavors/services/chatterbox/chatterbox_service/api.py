"""The HTTP interface: OpenAI's for speech and voices, health, readiness, metrics.

https://platform.openai.com/docs/api-reference/audio/createSpeech, with formats `pcm` and `wav`, and some more fields.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from aiohttp import web
from aiohttp.http import HttpProcessingError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from chatterbox_service.access import refusal
from chatterbox_service.admission import Overloaded
from chatterbox_service.audio import UnreadableAudio, pcm16, wav_header
from chatterbox_service.engine import (
    Busy,
    EngineFailed,
    NothingToSay,
    Request,
    Samples,
    SpeechError,
    UnknownLanguage,
    UnknownVoice,
    Voice,
)
from chatterbox_service.metrics import Outcome
from chatterbox_service.service import LOADING_RETRY_SECONDS, NotReady, Order, Service, VoiceExists
from chatterbox_service.text import prepare
from chatterbox_service.voices import UnfitRecording, read_recording, voice_name

log = logging.getLogger(__name__)

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that need no token: a supervisor asks them."""

LONGEST_INPUT = 4096
"""Characters; OpenAI's limit."""
LARGEST_UPLOAD = 20 * 1024 * 1024
MODEL = "chatterbox"
"""The model that is served, whichever it is."""
OPENAI_MODELS = frozenset({"tts-1", "tts-1-hd"})
"""What clients ask for that were written for OpenAI's service. It is answered by the model that is served."""
_FILE_FIELDS = ("audio_sample", "file")


def _voice_id(voice: Any) -> Any:
    """OpenAI's clients send custom voices as `{"id": ...}`."""
    return voice["id"] if isinstance(voice, dict) and voice.keys() == {"id"} else voice


class SpeechBody(BaseModel):
    """Body of `POST /v1/audio/speech`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Annotated[str, Field(max_length=LONGEST_INPUT)]
    model: str = MODEL
    voice: Annotated[str, BeforeValidator(_voice_id)] = "default"
    response_format: Literal["pcm", "wav"] = "wav"
    speed: Annotated[float, Field(ge=0.25, le=4)] = 1.0
    stream: bool = True
    stream_format: Literal["audio"] = "audio"
    sample_rate: Literal[24000, 16000, 8000] = 24000
    exaggeration: Annotated[float, Field(ge=0, le=2)] | None = None
    temperature: Annotated[float, Field(gt=0, le=2)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    language: Annotated[str, Field(pattern=r"^[a-z]{2}$")] | None = None


@dataclass(eq=False)
class ApiError(Exception):
    """An answer in OpenAI's shape that says what is wrong. `param`: the field that it is about."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    retry_after: int | None = None

    def response(self) -> web.Response:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return web.json_response({"error": error}, status=self.status, headers=headers)


class _ClientGone(Exception):
    """It closed the connection, or takes nothing any more."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(
    service: Service,
    *,
    token: SecretStr | None = None,
    open_to_all: bool = False,
    stall: float = 30.0,
    log_text: bool = False,
) -> web.Application:
    """The routes, all but `OPEN` for those whom `access` lets in.

    A client that takes nothing for `stall` seconds has gone.
    """

    def authorise(request: web.Request) -> None:
        refused = refusal(request, token, setting="CHATTERBOX_TOKEN", open_to_all=open_to_all)
        if refused is not None:
            raise ApiError(refused.status, refused.message, code="invalid_api_key" if refused.status == 401 else None)

    @web.middleware
    async def front(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.path not in OPEN:
                authorise(request)
            return await handler(request)
        except ApiError as error:
            return error.response()
        except NotReady as error:
            return ApiError(503, str(error), code="not_ready", retry_after=LOADING_RETRY_SECONDS).response()
        except web.HTTPException as error:
            return _as_openai(request, error).response()

    app = web.Application(middlewares=[front], client_max_size=LARGEST_UPLOAD)
    routes = _Routes(service, stall=stall, log_text=log_text)
    app.router.add_get("/healthz", routes.healthz)
    app.router.add_get("/readyz", routes.readyz)
    app.router.add_get("/metrics", routes.metrics)
    app.router.add_get("/v1/models", routes.models)
    app.router.add_post("/v1/audio/speech", routes.speech)
    for path in ("/v1/voices", "/v1/audio/voices"):
        app.router.add_get(path, routes.voices)
        app.router.add_post(path, routes.add_voice)
        app.router.add_delete(f"{path}/{{name}}", routes.remove_voice)
    return app


class _Routes:
    def __init__(self, service: Service, *, stall: float, log_text: bool) -> None:
        self._service = service
        self._stall = stall
        self._log_text = log_text

    async def healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def readyz(self, _: web.Request) -> web.Response:
        service = self._service
        if service.ailment:
            return web.json_response({"ready": False, "problem": service.ailment}, status=503)
        engine = service.engine
        answer = {"ready": True, "problem": "", "model": engine.model, "device": engine.device}
        return web.json_response(answer | {"capacity": service.capacity, "active": engine.active})

    async def metrics(self, _: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._service.metrics.page(), headers=headers)

    async def models(self, _: web.Request) -> web.Response:
        served = [
            {"id": name, "object": "model", "created": 0, "owned_by": "resemble-ai"}
            for name in (MODEL, f"{MODEL}-{self._service.engine.model}")
        ]
        return web.json_response({"object": "list", "data": served})

    async def speech(self, request: web.Request) -> web.StreamResponse:
        try:
            body = _validated(await request.read())
            order = self._order(body, request.remote or "")
        except ApiError:
            self._service.metrics.ended(Outcome.INVALID)
            raise
        except NotReady:
            self._service.metrics.ended(Outcome.REFUSED)
            raise
        if self._log_text:
            log.info("text %r", order.pieces)
        async with aclosing(self._service.speak(order)) as stream:
            try:
                first = await anext(stream, None)
                if first is None:
                    raise SpeechError("the model made no audio")
                if not body.stream:
                    return _whole(body, [first, *[chunk async for chunk in stream]])
            except (Overloaded, Busy) as error:
                raise ApiError(503, str(error), code="overloaded", retry_after=math.ceil(error.retry_after)) from error
            except UnknownVoice as error:
                raise ApiError(404, str(error), "voice", "voice_not_found") from error
            except UnknownLanguage as error:
                raise ApiError(400, str(error), "language", "language_not_found") from error
            except NothingToSay as error:
                raise ApiError(400, str(error), "input", "nothing_to_speak") from error
            except SpeechError as error:
                raise ApiError(500, f"the text could not be spoken: {error}", code="speech_failed") from error
            response = web.StreamResponse(headers={"Content-Type": _content_type(body)})
            await response.prepare(request)
            try:
                head = wav_header(body.sample_rate) if body.response_format == "wav" else b""
                await self._write(response, head + pcm16(first))
                async for chunk in stream:
                    await self._write(response, pcm16(chunk))
            except _ClientGone:
                _hang_up(request)
            except SpeechError as error:
                log.error("speech failed in mid-stream: %s", error)
                _hang_up(request)
            return response

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._stall):
                await response.write(data)
        except (ConnectionError, TimeoutError) as error:
            raise _ClientGone from error

    async def voices(self, _: web.Request) -> web.Response:
        listed = [_described(voice, created) for voice, created in self._service.voices().values()]
        # `data` is where OpenAI's lists are, `voices` where Open WebUI and others look.
        return web.json_response({"object": "list", "data": listed, "voices": listed})

    async def add_voice(self, request: web.Request) -> web.Response:
        _ = self._service.engine
        form = await _form(request)
        name = form.get("name")
        file = next((form[field] for field in _FILE_FIELDS if field in form), None)
        if not isinstance(name, str):
            raise ApiError(400, "the form needs a field name: what the voice is to be called", "name")
        if not isinstance(file, web.FileField):
            raise ApiError(400, "the form needs a file audio_sample: a recording of the voice", "audio_sample")
        try:
            name = voice_name(name)
        except ValueError as error:
            raise ApiError(400, f"name: {error}", "name", "invalid_name") from error
        try:
            recording = await asyncio.to_thread(lambda: read_recording(file.file.read()))
            overwrite = form.get("overwrite") in ("true", "1")
            voice, created = await self._service.add_voice(name, recording, overwrite=overwrite)
        except EngineFailed as error:
            raise ApiError(500, f"the voice could not be cloned: {error}", code="cloning_failed") from error
        except (UnreadableAudio, UnfitRecording, SpeechError) as error:
            raise ApiError(400, str(error), "audio_sample", "unfit_recording") from error
        except VoiceExists as error:
            raise ApiError(409, str(error), "name", "voice_exists") from error
        except OSError as error:
            log.exception("voice not kept")
            raise ApiError(500, f"the voice could not be kept: {error.strerror}") from error
        log.info("voice added")
        return web.json_response(_described(voice, created), status=201)

    async def remove_voice(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        try:
            await self._service.remove_voice(name)
        except UnknownVoice as error:
            raise ApiError(404, str(error), "name", "voice_not_found") from error
        except SpeechError as error:
            raise ApiError(409, str(error), "name", "voice_built_in") from error
        except OSError as error:
            log.exception("voice not removed")
            raise ApiError(500, f"the voice's file could not be removed: {error.strerror}") from error
        log.info("voice removed")
        return web.json_response({"id": name, "object": "audio.voice.deleted", "deleted": True})

    def _order(self, body: SpeechBody, client: str) -> Order:
        served = {MODEL, f"{MODEL}-{self._service.engine.model}"}
        if body.model not in served | OPENAI_MODELS:
            message = f"the model {body.model!r} is not served here; there are {', '.join(sorted(served))}"
            raise ApiError(404, message, "model", "model_not_found")
        pieces = prepare(body.input)
        if not pieces:
            raise ApiError(400, "input holds nothing that can be spoken", "input", "nothing_to_speak")
        template = Request(
            text="",
            voice=body.voice,
            temperature=body.temperature,
            exaggeration=body.exaggeration,
            seed=body.seed,
            language=body.language,
        )
        return Order(tuple(pieces), template, rate=body.sample_rate, speed=body.speed, client=client)


def _validated(body: bytes) -> SpeechBody:
    try:
        return SpeechBody.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise ApiError(400, f"{field or 'body'}: {first['msg']}", field or None, first["type"]) from error


async def _form(request: web.Request) -> Mapping[str, str | bytes | bytearray | web.FileField]:
    if request.content_type != "multipart/form-data":
        raise ApiError(415, "send the recording as multipart/form-data, with the fields name and audio_sample")
    try:
        return await request.post()
    # ValueError: no form; the others: headers, encodings and character sets that aiohttp does not know.
    except (ValueError, HttpProcessingError, RuntimeError, LookupError) as error:
        raise ApiError(400, f"the form is broken: {error}") from error


def _hang_up(request: web.Request) -> None:
    """Breaks the connection: the client must not take what it has for the whole."""
    if request.transport is not None:
        request.transport.abort()


def _whole(body: SpeechBody, chunks: list[Samples]) -> web.Response:
    pcm = pcm16(np.concatenate(chunks))
    head = wav_header(body.sample_rate, len(pcm)) if body.response_format == "wav" else b""
    return web.Response(body=head + pcm, headers={"Content-Type": _content_type(body)})


def _content_type(body: SpeechBody) -> str:
    return "audio/wav" if body.response_format == "wav" else f"audio/pcm; rate={body.sample_rate}; channels=1"


def _described(voice: Voice, created: int) -> dict[str, object]:
    """A voice as OpenAI's API has it, and whether it may be removed."""
    fields = {"id": voice.name, "object": "audio.voice", "name": voice.name, "type": "audio_sample"}
    return fields | {"created_at": created, "cloned": voice.cloned}


def _as_openai(request: web.Request, error: web.HTTPException) -> ApiError:
    match error.status:
        case 404:
            message = f"there is no {request.path}"
        case 405:
            message = f"{request.path} does not know {request.method}"
        case 413:
            message = f"the body is larger than {LARGEST_UPLOAD // 1024**2} MiB"
        case _:
            message = error.reason
    return ApiError(error.status, message)
