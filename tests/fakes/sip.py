"""SIP on loopback for tests: endpoints with real sockets, and a bare peer that says what a test tells it."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, cast

from connector.config.model import MediaSettings, SipSettings
from connector.interfaces import Leg, LegEvent
from connector.leg.embedded import EmbeddedEndpoint
from connector.leg.endpoint import Refusal
from connector.sip.message import Address, BadMessage, Message, Request, Response, encode, hostport, parse, respond
from connector.sip.transactions import Timing
from connector.udp.ports import PortPool
from connector.udp.ticker import Ticker
from tests.fakes.clock import LoopClock

QUICK = Timing(t1=0.05, t2=0.2, t4=0.25)
"""Timers ten times as fast as the RFC's, for tests over real sockets."""

SDP = (
    "v=0\r\no=phone 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP {formats}\r\na=rtpmap:101 telephone-event/8000\r\na={direction}\r\n"
)


def sdp(port: int = 41000, formats: str = "0 8 101", direction: str = "sendrecv") -> str:
    """A phone's description with one audio stream at 127.0.0.1."""
    return SDP.format(port=port, formats=formats, direction=direction)


class Inbox:
    """Takes an endpoint's calls; `mode` says what it does with them."""

    def __init__(self) -> None:
        self.legs: asyncio.Queue[Leg] = asyncio.Queue()

    def __call__(self, leg: Leg) -> None:
        self.legs.put_nowait(leg)

    async def next(self) -> Leg:
        """The next incoming leg, unanswered."""
        async with asyncio.timeout(5):
            return await self.legs.get()

    async def answered(self) -> Leg:
        """The next incoming leg, answered."""
        leg = await self.next()
        await leg.answer()
        return leg


@dataclass
class Started:
    """A running endpoint, its address and its incoming calls."""

    endpoint: EmbeddedEndpoint
    inbox: Inbox
    ports: PortPool

    @property
    def address(self) -> Address:
        return self.endpoint.local

    def uri(self, user: str = "1000") -> str:
        """Where to call it."""
        return f"sip:{user}@{hostport(self.address)}"


_next_port = cycle(range(20_000, 32_000, 40))


def media_ports() -> PortPool:
    """A small pool of pairs; ports that are taken are stepped over by whoever opens them."""
    first = next(_next_port)
    return PortPool(first, first + 199, quarantine=0.0)


@asynccontextmanager
async def running(
    *,
    settings: Mapping[str, Any] | None = None,
    timing: Timing = QUICK,
    media_timeout: float = 20.0,
    nat: bool = False,
    on_call: Callable[[Leg], None] | None = None,
    on_refused: Callable[[Refusal], None] = lambda refusal: None,
) -> AsyncIterator[Started]:
    """An endpoint on an ephemeral port of 127.0.0.1, closed at the end."""
    clock = LoopClock()
    ticker = Ticker(clock)
    ports = media_ports()
    inbox = Inbox()
    sip = SipSettings(**{"listen": "127.0.0.1:0", **(settings or {})})
    media = MediaSettings(timeout=media_timeout, nat=nat)
    endpoint = EmbeddedEndpoint(
        sip,
        media,
        clock=clock,
        ticker=ticker,
        ports=ports,
        on_call=on_call or inbox,
        on_refused=on_refused,
        timing=timing,
    )
    await endpoint.start()
    loop, broken = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda loop, context: broken.append(context))
    ticking = asyncio.create_task(ticker.run())
    try:
        yield Started(endpoint, inbox, ports)
    finally:
        await endpoint.aclose()
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
    assert not broken, f"a callback of the event loop raised: {broken}"


@asynccontextmanager
async def facing(**options: Any) -> AsyncIterator[tuple[Started, Peer]]:
    """An endpoint, with the options of `running`, and a bare peer that outlives it."""
    async with Peer.open() as peer, running(**options) as started:
        peer.target = ("127.0.0.1", started.address[1])
        yield started, peer


async def next_event(leg: Leg, kind: type[LegEvent] | None = None, seconds: float = 5.0) -> LegEvent:
    """The leg's next event, or its next of `kind`."""
    events: Any = leg.events()
    try:
        async with asyncio.timeout(seconds):
            async for event in events:
                if kind is None or isinstance(event, kind):
                    return cast(LegEvent, event)
    finally:
        await events.aclose()
    raise AssertionError("the leg ended")


@dataclass
class Peer(asyncio.DatagramProtocol):
    """A bare UDP peer: sends text, keeps every message that comes; a BYE is answered by itself."""

    received: list[Message] = field(default_factory=list)
    arrivals: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    transport: asyncio.DatagramTransport | None = None
    target: Address = ("127.0.0.1", 0)

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Peer]:
        """A peer on an ephemeral port; set `target` before it sends."""
        peer = cls()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: peer, local_addr=("127.0.0.1", 0))
        peer.transport = transport
        try:
            yield peer
        finally:
            transport.close()
            await asyncio.sleep(0)

    @property
    def address(self) -> Address:
        assert self.transport is not None
        name = self.transport.get_extra_info("sockname")
        return name[0], name[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            message = parse(data)
        except BadMessage:
            return  # the refusal of a message so broken that what it copies is broken too
        self.received.append(message)
        if isinstance(message, Request) and message.method == "BYE":
            self.answer(message, 200)
        self.arrivals.put_nowait(message)

    def send(self, data: str | bytes) -> None:
        assert self.transport is not None
        self.transport.sendto(data.encode() if isinstance(data, str) else data, self.target)

    async def response(self, status: int, method: str | None = None, seconds: float = 5.0) -> Response:
        """The next response with `status` (to `method`); others before it are passed over."""
        async with asyncio.timeout(seconds):
            while True:
                message = await self.arrivals.get()
                if isinstance(message, Response) and message.code == status and method in (None, message.cseq.method):
                    return message

    async def request(self, method: str, seconds: float = 5.0) -> Request:
        """The next request of `method`; others before it are passed over."""
        async with asyncio.timeout(seconds):
            while True:
                message = await self.arrivals.get()
                if isinstance(message, Request) and message.method == method:
                    return message

    def compose(
        self,
        method: str,
        *,
        to: str = "",
        cseq: int = 1,
        call_id: str = "call-1",
        branch: str = "",
        body: str = "",
        headers: str = "",
        uri: str = "",
    ) -> str:
        """A request as a phone would write it; `to`: the To value of the dialog. `headers`: whole lines with CRLF."""
        host, port = self.address
        uri = uri or f"sip:1000@{self.target[0]}:{self.target[1]}"
        branch = branch or f"z9hG4bK-{call_id}-{cseq}-{'INVITE' if method == 'CANCEL' else method}"
        if body and "content-type" not in headers.lower():
            headers += "Content-Type: application/sdp\r\n"
        return (
            f"{method} {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {host}:{port};branch={branch}\r\n"
            f'From: "Phone" <sip:200@{host}:{port}>;tag=phone\r\nTo: {to or f"<{uri}>"}\r\n'
            f"Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:200@{host}:{port}>\r\n"
            f"Max-Forwards: 70\r\n{headers}Content-Length: {len(body.encode())}\r\n\r\n{body}"
        )

    async def call(self, inbox: Inbox, *, call_id: str = "call-1", body: str | None = None) -> tuple[Leg, str]:
        """An established call from this peer: the endpoint's leg and the To value of the dialog."""
        self.send(self.compose("INVITE", call_id=call_id, body=sdp() if body is None else body))
        leg = await inbox.answered()
        to = (await self.response(200, "INVITE")).headers["To"]
        self.send(self.compose("ACK", to=to, call_id=call_id, branch=f"z9hG4bK-{call_id}-ack"))
        await next_event(leg)
        return leg, to

    def answer(
        self,
        request: Request,
        status: int,
        headers: Mapping[str, str] | None = None,
        *,
        body: str = "",
        tag: str = "peer",
    ) -> None:
        """Answers a request of the endpoint."""
        response = respond(request, status, to_tag=tag)
        for name, value in {"Contact": "<sip:200@{}:{}>".format(*self.address), **(headers or {})}.items():
            response.headers.set(name, value)
        if body:
            response.headers.set("Content-Type", "application/sdp")
            response.body = body.encode()
        self.send(encode(response))

    @property
    def _last_ok(self) -> Response:
        return [m for m in self.received if isinstance(m, Response) and m.code == 200][-1]

    @property
    def last_body(self) -> str:
        """The body of the last 200 that came."""
        return self._last_ok.body.decode()

    @property
    def last_contact(self) -> str:
        """The Contact of the last 200 that came."""
        return header(self._last_ok, "Contact")

    def count(self, status: int, method: str) -> int:
        """How many responses with `status` to `method` came."""
        return sum(isinstance(m, Response) and m.code == status and m.cseq.method == method for m in self.received)


def header(message: Message, name: str) -> str:
    """A header that must be there."""
    value = message.headers.get(name)
    assert value is not None, f"{name} is missing"
    return value


def free_udp_port() -> int:
    """A UDP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tag_of(value: str) -> str:
    """The tag in a From or To value, empty where there is none."""
    match = re.search(r";tag=([^;>\s]+)", value)
    return match[1] if match else ""
