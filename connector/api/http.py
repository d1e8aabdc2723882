"""Health, readiness, metrics and the list of calls over HTTP."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from aiohttp import web
from pydantic import BaseModel, ConfigDict, SecretStr

from connector.api.openapi import document
from connector.config.model import HttpSettings
from connector.errors import MediaError
from connector.record.cdr import Instant, Text

OPEN = frozenset({"/healthz", "/readyz"})
"""Paths that need no token: a supervisor asks them. What `/readyz` says besides yes or no is for those who have it."""


class EngineReadiness(BaseModel):
    """One engine of `/readyz`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    engine: str
    kind: str
    ready: bool
    error: str


class Readiness(BaseModel):
    """Answer of `/readyz`: 200 where `ready`, else 503."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    ready: bool
    """Calls are taken, and every flavor that a number leads to can answer."""
    draining: bool
    endpoint: str | None
    """Where SIP is listened to; None before and after, and for those without the token."""
    flavors: dict[str, str]
    """Why a flavor cannot answer now, "" where it can; empty for those without the token."""
    engines: list[EngineReadiness]
    """Every engine; empty for those without the token."""


class CallSummary(BaseModel):
    """One call in progress."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    call_id: Text
    called: Text
    calling: Text
    peer: Text
    flavor: str | None
    state: str
    setup: Instant


class CallList(BaseModel):
    """Answer of `/v1/calls`."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    calls: list[CallSummary]


class Service(Protocol):
    """What the API tells about."""

    def readiness(self) -> Readiness: ...

    def summaries(self) -> Sequence[CallSummary]: ...

    def metrics(self) -> bytes:
        """Prometheus' text format."""


class HttpApi:
    """The HTTP server."""

    def __init__(self, settings: HttpSettings, service: Service) -> None:
        self._settings = settings
        self._runner = web.AppRunner(application(service, settings.token), access_log=None, shutdown_timeout=1.0)
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


def application(service: Service, token: SecretStr | None) -> web.Application:
    """The routes. With `token`, all but `OPEN` want it as bearer token (RFC 6750 section 2.1).

    Without one they are for this machine alone, and for no web page that is shown on it: a page can
    have its own name resolve to 127.0.0.1, but not hide that name from `Host`.
    """

    def refusal(request: web.Request) -> web.Response | None:
        if token is None and not _by_address(request):
            message = "ask 127.0.0.1 or localhost; names are answered where http.token is set"
            return web.json_response({"error": message}, status=403)
        if token is not None and not _bears(request, token):
            headers = {"WWW-Authenticate": "Bearer"}
            return web.json_response({"error": "a bearer token is needed"}, status=401, headers=headers)
        return None

    @web.middleware
    async def authorise(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = None if request.path in OPEN else refusal(request)
        return await handler(request) if refused is None else refused

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def readyz(request: web.Request) -> web.Response:
        readiness = service.readiness()
        if refusal(request) is not None:
            readiness = readiness.model_copy(update={"endpoint": None, "flavors": {}, "engines": []})
        return _json(readiness, 200 if readiness.ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=service.metrics(), headers=headers)

    async def calls(_: web.Request) -> web.Response:
        return _json(CallList(calls=list(service.summaries())))

    async def openapi(_: web.Request) -> web.Response:
        return web.json_response(document({"Readiness": Readiness, "CallList": CallList}))

    app = web.Application(middlewares=[authorise])
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/v1/calls", calls)
    app.router.add_get("/v1/openapi.json", openapi)
    return app


def _bears(request: web.Request, token: SecretStr) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # aiohttp hands on what is no UTF-8 as surrogates.
    given_bytes = given.strip().encode("utf-8", "surrogateescape")
    return scheme.lower() == "bearer" and hmac.compare_digest(given_bytes, token.get_secret_value().encode())


def _by_address(request: web.Request) -> bool:
    """Whether the request was sent to an address, or to localhost, and not to any other name."""
    host = request.headers.get("Host")
    if host is None:
        return True  # no browser leaves it out
    name = re.sub(r":[0-9]+$", "", host).strip("[]")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower() == "localhost"
    return True


def _json(model: BaseModel, status: int = 200) -> web.Response:
    return web.Response(text=model.model_dump_json(), status=status, content_type="application/json")
