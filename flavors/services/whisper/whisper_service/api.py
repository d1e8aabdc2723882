"""The HTTP interface: OpenAI's for transcripts, health, readiness, metrics.

https://platform.openai.com/docs/api-reference/audio/createTranscription, with the formats `json`, `text` and
`verbose_json`; a segment for each stretch of 30 s at most, without times of words.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Annotated, Literal, NamedTuple

from aiohttp import BodyPartReader, web
from aiohttp.http import HttpProcessingError
from multidict import MultiDict
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from connector.api.access import refusal
from connector.audio import Audio
from connector.errors import EngineError, EngineRefused
from flavors.engines.faster_whisper import Question, Recognition, pieces
from whisper_service.audio import TooLong, UnreadableAudio, decoded
from whisper_service.metrics import Outcome
from whisper_service.recogniser import NotReady, Overloaded, Recogniser

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that need no token: a supervisor asks them."""
LARGEST_UPLOAD = 25 * 1024 * 1024
"""Bytes; OpenAI's limit."""
LONGEST_FIELD = 8192
"""Bytes of a form's field that is no file."""
MOST_PARTS = 32
"""Of a form, the file included: with the limits of each, they bound what a request holds."""
OPENAI_MODELS = frozenset({"whisper-1"})
"""What clients ask for that were written for OpenAI's service. It is answered by the model that is served."""
_GRANULARITIES = ("timestamp_granularities[]", "timestamp_granularities")


class TranscriptionForm(BaseModel):
    """Fields of `POST /v1/audio/transcriptions`, beside the file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model: str = "whisper-1"
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")] | None = None
    prompt: str = ""
    response_format: Literal["json", "text", "verbose_json"] = "json"
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.0
    stream: bool = False

    @field_validator("language", mode="before")
    @classmethod
    def _primary(cls, value: object) -> object:
        """Whisper knows no regions: `en-US` is `en`. Empty: to be detected, or as the service is set."""
        return value.partition("-")[0].lower() or None if isinstance(value, str) else value


class _Segment(NamedTuple):
    """A stretch of the audio, from `start` to `end` seconds, and what was said in it."""

    start: float
    end: float
    heard: Recognition


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


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(
    recogniser: Recogniser,
    *,
    model: str,
    max_seconds: float,
    upload_seconds: float,
    token: SecretStr | None = None,
    open_to_all: bool = False,
) -> web.Application:
    """The routes, all but `OPEN` for those whom `access` lets in. `model`: the name under which it is served.

    `upload_seconds`: the time in which a request has to come in.
    """

    def authorise(request: web.Request) -> None:
        refused = refusal(request, token, setting="WHISPER_TOKEN", open_to_all=open_to_all)
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
        except web.HTTPException as error:
            return _as_openai(request, error).response()

    app = web.Application(middlewares=[front])
    routes = _Routes(recogniser, model, max_seconds, upload_seconds)
    app.router.add_get("/healthz", routes.healthz)
    app.router.add_get("/readyz", routes.readyz)
    app.router.add_get("/metrics", routes.metrics)
    app.router.add_get("/v1/models", routes.models)
    app.router.add_post("/v1/audio/transcriptions", routes.transcriptions)
    return app


class _Routes:
    def __init__(self, recogniser: Recogniser, model: str, max_seconds: float, upload_seconds: float) -> None:
        self._recogniser = recogniser
        self._model = model
        self._max_seconds = max_seconds
        self._upload_seconds = upload_seconds

    async def healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def readyz(self, _: web.Request) -> web.Response:
        problem = self._recogniser.problem
        return web.json_response({"ready": not problem, "problem": problem}, status=503 if problem else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=self._recogniser.metrics.page(), headers=headers)

    async def models(self, _: web.Request) -> web.Response:
        served = {"id": self._model, "object": "model", "created": 0, "owned_by": "openai"}
        return web.json_response({"object": "list", "data": [served]})

    async def transcriptions(self, request: web.Request) -> web.Response:
        metrics = self._recogniser.metrics
        try:
            with self._recogniser.place():
                response = await self._transcribed(request)
        except asyncio.CancelledError:
            metrics.ended(Outcome.ABORTED)
            raise
        except NotReady as error:
            metrics.ended(Outcome.REFUSED)
            raise ApiError(503, str(error), code="not_ready", retry_after=error.retry_after) from error
        except Overloaded as error:
            metrics.ended(Outcome.REFUSED)
            raise ApiError(503, str(error), code="overloaded", retry_after=error.retry_after) from error
        except EngineRefused as error:
            metrics.ended(Outcome.INVALID)
            raise ApiError(400, error.message, "language", "unknown_language") from error
        except EngineError as error:
            metrics.ended(Outcome.FAILED)
            raise ApiError(503, error.message, code="recognition_failed", retry_after=1) from error
        except (ApiError, web.HTTPException):
            metrics.ended(Outcome.INVALID)
            raise
        metrics.ended(Outcome.RECOGNISED)
        return response

    async def _transcribed(self, request: web.Request) -> web.Response:
        fields, file = await self._uploaded(request)
        form = self._validated(fields)
        began = monotonic()
        audio = await self._decoded(file)
        segments = await self._segments(form, audio)
        self._recogniser.metrics.recognised(audio.seconds, monotonic() - began)
        text = " ".join(segment.heard.text for segment in segments if segment.heard.text)
        match form.response_format:
            case "text":
                return web.Response(text=f"{text}\n")
            case "json":
                return web.json_response({"text": text})
            case "verbose_json":
                return web.json_response(
                    {
                        "task": "transcribe",
                        "language": segments[0].heard.language,
                        "duration": round(audio.seconds, 3),
                        "text": text,
                        "segments": [
                            _described(number, segment, form.temperature)
                            for number, segment in enumerate(segment for segment in segments if segment.heard.text)
                        ],
                    }
                )

    async def _uploaded(self, request: web.Request) -> tuple[MultiDict[str], bytes]:
        """The form. It has its place meanwhile, which bounds what all uploads hold, and for which it may not dawdle."""
        try:
            async with asyncio.timeout(self._upload_seconds):
                return await _form(request)
        except TimeoutError as error:
            message = f"the request did not come in within {self._upload_seconds:g} s"
            raise ApiError(408, message, code="upload_timeout") from error

    def _validated(self, fields: MultiDict[str]) -> TranscriptionForm:
        for name in _GRANULARITIES:
            if "word" in fields.getall(name, ()):
                raise ApiError(400, "times of words are not known here, but of segments", name, "unsupported")
        try:
            form = TranscriptionForm.model_validate(dict(fields))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(map(str, first["loc"]))
            raise ApiError(400, f"{field}: {first['msg']}", field, first["type"]) from error
        if form.model not in {self._model} | OPENAI_MODELS:
            message = f"the model {form.model!r} is not served here, but {self._model}"
            raise ApiError(404, message, "model", "model_not_found")
        if form.stream:
            raise ApiError(400, "a transcript is not streamed: leave out stream", "stream", "unsupported")
        return form

    async def _decoded(self, file: bytes) -> Audio:
        try:
            return await asyncio.to_thread(decoded, file, self._max_seconds)
        except UnreadableAudio as error:
            raise ApiError(400, str(error), "file", "unreadable_audio") from error
        except TooLong as error:
            message = f"the file holds more than {self._max_seconds:g} seconds; send it in parts"
            raise ApiError(413, message, "file", "audio_too_long") from error

    async def _segments(self, form: TranscriptionForm, audio: Audio) -> list[_Segment]:
        """Piece by piece, so that a long recording takes one place in a batch and not all of them."""
        segments: list[_Segment] = []
        start = 0.0
        for piece in pieces(audio):
            question = Question(piece, form.language or self._recogniser.language, form.prompt, form.temperature)
            heard = await self._recogniser.recognise(question)
            segments.append(_Segment(start, start + piece.seconds, heard))
            start += piece.seconds
        return segments


async def _form(request: web.Request) -> tuple[MultiDict[str], bytes]:
    """The fields of a form, and its file."""
    if request.content_type != "multipart/form-data":
        raise ApiError(415, "send the audio as multipart/form-data, with the fields file and model")
    fields = MultiDict[str]()
    file: bytes | None = None
    parts = 0
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or part.name is None:
                raise ApiError(400, "the form has a part without a name, or parts in parts")
            parts += 1
            if parts > MOST_PARTS:
                raise ApiError(413, f"the form has more than {MOST_PARTS} parts", code="too_large")
            if part.name != "file":
                fields.add(part.name, (await _read(part, LONGEST_FIELD)).decode())
            elif file is None:
                file = await _read(part, LARGEST_UPLOAD)
            else:
                raise ApiError(400, "the form has more than one file", "file")
    except (ValueError, HttpProcessingError) as error:
        raise ApiError(400, f"the form is broken: {error}") from error
    if file is None:
        raise ApiError(400, "the form needs a file: the audio", "file")
    return fields, file


async def _read(part: BodyPartReader, most: int) -> bytes:
    content = bytearray()
    while chunk := await part.read_chunk(64 * 1024):
        content += chunk
        if len(content) > most:
            raise ApiError(413, f"{part.name} is larger than {most // 1024} KiB", part.name, "too_large")
    return bytes(content)


def _described(number: int, segment: _Segment, temperature: float) -> dict[str, object]:
    """A segment as OpenAI's API has it."""
    heard = segment.heard
    text = heard.text.encode()
    return {
        "id": number,
        "seek": round(segment.start * 100),
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": heard.text,
        "tokens": heard.tokens,
        "temperature": temperature,
        "avg_logprob": math.log(heard.confidence) if heard.confidence else None,
        "compression_ratio": len(text) / len(zlib.compress(text)),
        "no_speech_prob": heard.no_speech,
    }


def _as_openai(request: web.Request, error: web.HTTPException) -> ApiError:
    match error.status:
        case 404:
            message = f"there is no {request.path}"
        case 405:
            message = f"{request.path} does not know {request.method}"
        case _:
            message = error.reason
    return ApiError(error.status, message)
