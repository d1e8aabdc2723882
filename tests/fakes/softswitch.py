"""A softswitch that only talks: MI of edge and UA, NG, a SIP socket and a connector's HTTP, with the answers of a test.

For what asks them how they are. Each listens on a port of 127.0.0.1 of its own.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from aiohttp import web

from connector.config.model import OpenSipsSettings
from connector.stack.control import Bencode, bdecode, bencode


class FakeMi(asyncio.DatagramProtocol):
    """`results`: by command; a command that is not there is refused. `silent`: no answer at all."""

    def __init__(self, results: dict[str, Any]) -> None:
        self.results = {"uptime": {"Up since": "Fri Nov 20 12:00:00 2026"}, **results}
        self.silent: set[str] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        request = json.loads(data)
        command = request["method"]
        if command in self.silent:
            return
        if command in self.results:
            answer: dict[str, Any] = {"result": self.results[command]}
        else:
            answer = {"error": {"code": -32601, "message": "Method not found"}}
        self.transport.sendto(json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}).encode(), addr)


class FakeNg(asyncio.DatagramProtocol):
    """`sessions`: how many `list` tells; None: no answer to anything."""

    sessions: int | None = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        cookie, _, body = data.partition(b" ")
        request = bdecode(body)
        assert isinstance(request, dict)
        if self.sessions is None:
            return
        answer: dict[str, Bencode] = {"result": "pong"}
        if request["command"] == "list":
            answer = {"result": "ok", "calls": [f"call-{number}" for number in range(self.sessions)]}
        self.transport.sendto(cookie + b" " + bencode(answer), addr)


class FakeSip(asyncio.DatagramProtocol):
    """`status`: what every request is answered with; empty: no answer."""

    status = "200 OK"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.status:
            _, _, rest = data.partition(b"\r\n")
            self.transport.sendto(f"SIP/2.0 {self.status}\r\n".encode() + rest, addr)


@dataclass
class FakeSoftswitch:
    """All of it, for one pair named `a`, in good health until a test changes that.

    `dead`: names of parts that are stopped when `stop` is called: edge, ua, rtpengine, connector.
    """

    opensips: OpenSipsSettings
    http: str
    edge: FakeMi
    ua: FakeMi
    rtpengine: FakeNg
    sip: FakeSip
    readiness: dict[str, Any] = field(default_factory=lambda: {"ready": True, "draining": False, "flavors": {}})
    calls: list[dict[str, Any]] = field(default_factory=list)
    _stops: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def stop(self, *parts: str) -> None:
        """Ends parts: edge, ua, rtpengine, connector."""
        for part in parts:
            await self._stops[part].aclose()

    def beat(self, age: float) -> None:
        """The connector's last sign of life is `age` seconds old."""
        self.ua.results["shv_get"] = {"VAR": {"type": "integer", "value": int(time.time() - age)}}

    def sees(self, **states: str) -> None:
        """The state of each destination that the edge knows: `a` is the pair, others are strangers."""
        uris = {name: f"sip:{self.opensips.pairs[0].listen}" if name == "a" else f"sip:{name}" for name in states}
        listed = [{"URI": uris[name], "state": state} for name, state in states.items()]
        self.edge.results["ds_list"] = {
            "PARTITIONS": [{"name": "default", "SETS": [{"id": 1, "Destinations": listed}]}]
        }

    def has_dialogs(self, count: int) -> None:
        """The edge's dialogs."""
        self.edge.results["get_statistics"] = {"dialog:active_dialogs": count}

    def has_sessions(self, count: int) -> None:
        """The UA's sessions."""
        self.ua.results["ua_session_list"] = [
            {"to_tag": f"B2B.1.{number}", "callid": "", "state": 5} for number in range(count)
        ]

    def subscribers(self, *sockets: str) -> None:
        """Who gets the UA's events."""
        listed = [{"socket": socket, "expire": "never"} for socket in sockets]
        self.ua.results["subscribers_list"] = {"Events": [{"name": "E_UA_SESSION", "id": 6, "Subscribers": listed}]}


@asynccontextmanager
async def softswitch(**changes: Any) -> AsyncIterator[FakeSoftswitch]:
    """Runs it. `changes`: keys of the configuration's `opensips` that are not as the fake has them."""
    loop = asyncio.get_running_loop()
    edge, ua, ng, sip = FakeMi({}), FakeMi({}), FakeNg(), FakeSip()
    stops = {name: AsyncExitStack() for name in ("edge", "ua", "rtpengine", "connector")}
    ports: dict[str, str] = {}
    async with AsyncExitStack() as everything:
        for stop in stops.values():
            everything.push_async_callback(stop.aclose)
        for name, part, protocol in (
            ("edge mi", "edge", edge),
            ("edge sip", "edge", sip),
            ("ua mi", "ua", ua),
            ("ng", "rtpengine", ng),
            ("ua sip", "ua", FakeSip()),
            ("events", "connector", FakeSip()),
        ):
            transport, _ = await loop.create_datagram_endpoint(partial(_same, protocol), local_addr=("127.0.0.1", 0))
            stops[part].callback(transport.close)
            ports[name] = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
        pair = {"name": "a", "listen": ports["ua sip"], "mi": ports["ua mi"], "events": ports["events"]}
        opensips = OpenSipsSettings.model_validate(
            {
                "edge": {"listen": [f"udp:{ports['edge sip']}"], "mi": ports["edge mi"]},
                "rtpengine": {"control": ports["ng"]},
                "pairs": [pair],
                **changes,
            }
        )
        fake = FakeSoftswitch(opensips, "", edge, ua, ng, sip, _stops=stops)
        fake.http = await _http(fake, stops["connector"])
        fake.beat(0.5)
        fake.sees(a="Active")
        fake.has_dialogs(0)
        fake.has_sessions(0)
        fake.subscribers(f"udp:{pair['events']}")
        yield fake


def _same(protocol: asyncio.DatagramProtocol) -> asyncio.DatagramProtocol:
    """What asyncio calls for a protocol, where there is one already."""
    return protocol


async def _http(fake: FakeSoftswitch, stop: AsyncExitStack) -> str:
    async def readyz(_: web.Request) -> web.Response:
        return web.json_response(fake.readiness, status=200 if fake.readiness["ready"] else 503)

    async def calls(_: web.Request) -> web.Response:
        return web.json_response({"calls": fake.calls})

    application = web.Application()
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/v1/calls", calls)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    stop.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"127.0.0.1:{runner.addresses[0][1]}"
