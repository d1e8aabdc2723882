"""Health, readiness, metrics, calls and their records over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from aiohttp import web
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from connector.api import access
from connector.api.calls import CallList, CallService, HangUp, RecordingState, RecordList, RecordQuery, RunningCall
from connector.api.openapi import document
from connector.config.model import HttpSettings
from connector.errors import MediaError, RecordError
from connector.record import CallRecord

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that need no token: a supervisor asks them. What `/readyz` says besides yes or no is for those who have it."""

NO_CALL = "no call has this Call-ID"


class EngineReadiness(BaseModel):
    """One engine of `/readyz`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    engine: str
    kind: str
    ready: bool
    error: str


class PartReadiness(BaseModel):
    """One part of a flavor in `/readyz`: what listens, thinks or speaks."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    flavor: str
    part: str
    """Its key in the flavor: `vad`, `stt`, `llm`, `tts`, ..."""
    engine: str
    """The one that calls ask now: the first that is ready of those that succeed one another; "" where none is."""
    problem: str
    """Why nobody plays it, "" where `engine` does."""


class Readiness(BaseModel):
    """Answer of `/readyz`: 200 where `ready`, else 503."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    ready: bool
    """Calls are taken, and every flavor that a number leads to can answer."""
    draining: bool
    endpoint: str | None
    """Where SIP is listened to; None before and after, and for those without the token."""
    problem: str
    """Why no call can come, "" where one can, and for those without the token."""
    flavors: dict[str, str]
    """Why a flavor cannot answer now, "" where it can; empty for those without the token."""
    parts: list[PartReadiness]
    """Every part of every flavor; empty for those without the token."""
    engines: list[EngineReadiness]
    """Every engine; empty for those without the token."""


ANSWERS: Mapping[str, type[BaseModel]] = {
    model.__name__: model for model in (Readiness, CallList, RunningCall, CallRecord, RecordingState, RecordList)
}
"""What the API answers, by schema name."""


class Service(Protocol):
    """What the API tells about."""

    def readiness(self) -> Readiness: ...

    def metrics(self) -> bytes:
        """Prometheus' text format."""


class HttpApi:
    """The HTTP server."""

    def __init__(self, settings: HttpSettings, service: Service, calls: CallService) -> None:
        self._settings = settings
        routes = application(service, calls, settings.token)
        self._runner = web.AppRunner(routes, access_log=None, shutdown_timeout=1.0)
        self._local: tuple[str, int] | None = None

    @property
    def local(self) -> tuple[str, int] | None:
        """Address and port that it listens on; None where it does not."""
        return self._local

    async def start(self) -> None:
        """Binds the port; raises `MediaError` naming it where it cannot."""
        host, _, port = self._settings.listen.rpartition(":")
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            await self._runner.cleanup()
            raise MediaError(f"http.listen: cannot listen on TCP {self._settings.listen}: {error.strerror}") from error
        address = self._runner.addresses[0]
        self._local = (address[0], address[1])

    async def aclose(self) -> None:
        """Stops serving. Idempotent."""
        self._local = None
        await self._runner.cleanup()


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(service: Service, calls: CallService, token: SecretStr | None) -> web.Application:
    """The routes, all but `OPEN` for those whom `access` lets in."""

    def refusal(request: web.Request) -> web.Response | None:
        refused = access.refusal(request, token, setting="http.token")
        if refused is None:
            return None
        headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else None
        return problem(refused.status, refused.message, headers)

    @web.middleware
    async def authorise(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = None if request.path in OPEN else refusal(request)
        return await handler(request) if refused is None else refused

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def readyz(request: web.Request) -> web.Response:
        readiness = service.readiness()
        if refusal(request) is not None:
            readiness = readiness.model_copy(
                update={"endpoint": None, "problem": "", "flavors": {}, "parts": [], "engines": []}
            )
        return _json(readiness, 200 if readiness.ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=service.metrics(), headers=headers)

    async def listed(_: web.Request) -> web.Response:
        texts: list[str] = []
        for summary in calls.summaries():
            texts.append(summary.model_dump_json())
            await asyncio.sleep(0)  # many calls at once would make their own packets wait
        return _json_text(f'{{"calls":[{",".join(texts)}]}}')

    async def told(request: web.Request) -> web.Response:
        found = await calls.show(request.match_info["call_id"])
        return problem(404, NO_CALL) if found is None else _json(found)

    async def hung_up(request: web.Request) -> web.Response:
        call_id = request.match_info["call_id"]
        match await calls.hang_up(call_id):
            case HangUp.UNKNOWN:
                return problem(404, NO_CALL)
            case HangUp.OVER:
                return problem(409, "the call is over")
            case HangUp.STARTED:
                return web.json_response({"call_id": call_id}, status=202)

    async def recording(request: web.Request) -> web.Response:
        paused = request.match_info["wish"] == "pause"
        try:
            state = await calls.pause_recording(request.match_info["call_id"], paused=paused)
        except RecordError as error:
            return problem(409, str(error))
        return problem(404, NO_CALL) if state is None else _json(state)

    async def records(request: web.Request) -> web.Response:
        try:
            wanted = RecordQuery.model_validate(dict(request.query))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return problem(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        found = await calls.records(wanted)
        return _json_text(await asyncio.to_thread(_in_pieces, found))

    async def openapi(_: web.Request) -> web.Response:
        return web.json_response(document(ANSWERS))

    app = web.Application(middlewares=[authorise])
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/v1/calls", listed)
    app.router.add_get("/v1/calls/{call_id}", told)
    app.router.add_delete("/v1/calls/{call_id}", hung_up)
    app.router.add_post("/v1/calls/{call_id}/recording/{wish:pause|resume}", recording)
    app.router.add_get("/v1/records", records)
    app.router.add_get("/v1/openapi.json", openapi)
    return app


def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer that says what is wrong."""
    return web.json_response({"error": message}, status=status, headers=headers)


def _json(model: BaseModel, status: int = 200) -> web.Response:
    return _json_text(model.model_dump_json(), status)


def _json_text(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="application/json")


def _in_pieces(found: RecordList) -> str:
    """`found` as JSON, for a thread: each record by itself, as pydantic holds the GIL until a document is whole."""
    records, broken = (
        ",".join(model.model_dump_json() for model in models) for models in (found.records, found.broken)
    )
    return f'{{"records":[{records}],"broken":[{broken}]}}'
