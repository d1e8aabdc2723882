"""A UA OpenSIPS as the connector sees it: documented MI and E_UA_SESSION events over real UDP, and a far end.

It has the bugs of the stock module b2b_entities, so that a test fails where they are not worked round:

- extra headers without a body would be sent as uninitialised memory: `AssertionError`;
- after CANCEL, and after a refusal, the session stays until it is terminated;
- a request of the far end that nobody answered makes its next one fail with 500;
- a BYE that meets such a request, or an answer without its ACK, leaves the session behind;
- a session whose INVITE was not answered cannot be terminated: one of ours that is ringing can;
- so an outgoing call that is refused after ringing stays for good.

Usable in virtual time: loopback delivers at once.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import pytest

from connector.config.model import MediaSettings, PairSettings
from connector.errors import MediaError
from connector.interfaces import Clock
from connector.leg.endpoint import Refusal
from connector.leg.opensips import OpenSipsEndpoint
from connector.leg.opensips_leg import OpenSipsLeg
from connector.mi.sessions import SessionState
from connector.udp.ports import PortPool
from connector.udp.ticker import Ticker
from tests.fakes.clock import LoopClock
from tests.fakes.sip import Inbox, free_udp_port, media_ports, sdp

FIXED = ("key", "method", "body", "content_type", "code", "reason", "ruri", "to", "from", "proxy", "flags", "socket")
"""Parameters of the one combination that every release takes."""


class MiFailure(Exception):
    """What MI answers with."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Heard:
    """A message that the far end got: `message` is a method, or a status. `headers`: whole lines."""

    message: str | int
    method: str
    headers: str = ""
    body: str = ""


@dataclass
class FarEnd:
    """One session and who is at its other end."""

    ua: FakeOpenSips
    key: str
    state: SessionState
    entity: str = "UAS"
    sequence: int = 1
    heard: asyncio.Queue[Heard] = field(default_factory=asyncio.Queue)
    log: list[Heard] = field(default_factory=list)
    open_request: str | None = None
    """A request of theirs that has no final answer or no ACK yet."""
    answered: bool = False
    """Whether that has its final answer."""
    our_invite: bool = False
    """Whether an INVITE of the connector waits for its final answer."""

    # ------------------------------------------------------------ what the far end does

    def request(self, method: str, body: str = "", headers: str = "", sequence: int | None = None) -> int | None:
        """Sends a request; the status that OpenSIPS answers with by itself, None where it raises an event."""
        if method == "UPDATE":
            self.sequence += 1
        else:
            if self.our_invite:
                return 491
            if self.open_request is not None:
                return 500
            self.sequence += 1
            self.open_request, self.answered = method, False
        if method == "INVITE":
            self.state = SessionState.MODIFIED
        self.ua.raise_event(self, "UPDATED", method, body=body, headers=headers, sequence=sequence)
        return None

    def ack(self, body: str = "") -> None:
        """Acknowledges the connector's answer."""
        self.open_request = None
        if self.state is SessionState.CONFIRMED:
            self.state = SessionState.ESTABLISHED
        self.ua.raise_event(self, "UPDATED", "ACK", body=body)

    def bye(self) -> None:
        """Hangs up."""
        pending = self.open_request is not None
        self.state = SessionState.TERMINATED
        self.sequence += 1
        self.ua.raise_event(self, "TERMINATED", "BYE")
        if not pending:
            self.ua.sessions.pop(self.key, None)

    def cancel(self) -> None:
        """Gives up its INVITE."""
        self.state = SessionState.TERMINATED
        self.ua.raise_event(self, "TERMINATED", "CANCEL")

    def respond(
        self, status: int, reason: str = "", *, method: str = "INVITE", body: str = "", headers: str = ""
    ) -> None:
        """Answers a request of the connector."""
        kind = "EARLY" if status < 200 else "ANSWERED" if status < 300 else "REJECTED"
        if method == "INVITE":
            early = self.state in (SessionState.NEW, SessionState.EARLY)
            if status < 200:
                self.state = SessionState.EARLY if early else self.state
            else:
                self.our_invite = False
                gone = self.state is SessionState.TERMINATED or (self.state is SessionState.NEW and status >= 300)
                if gone:
                    self.ua.sessions.pop(self.key, None)
                elif status < 300:
                    self.state = SessionState.ESTABLISHED
        if body and not headers:
            headers = "Content-Type: application/sdp\r\n"
        self.ua.raise_event(self, kind, method, status=status, reason=reason or "Any", body=body, headers=headers)

    async def hears(self, message: str | int, method: str = "") -> Heard:
        """The next message of this kind; others before it are passed over."""
        async with asyncio.timeout(5):
            while True:
                heard = await self.heard.get()
                if heard.message == message and method in ("", heard.method):
                    return heard

    def said(self) -> list[str | int]:
        """Every message so far."""
        return [heard.message for heard in self.log]

    # ------------------------------------------------------------ what the connector does

    def take(self, heard: Heard) -> None:
        self.log.append(heard)
        self.heard.put_nowait(heard)


class FakeOpenSips(asyncio.DatagramProtocol):
    """Listens on `mi`, sends events to `events`; `sessions` is what it has."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.mi = f"127.0.0.1:{free_udp_port()}"
        self.events = f"127.0.0.1:{free_udp_port()}"
        self.subscriber = f"udp:{self.events}"
        self.sessions: dict[str, FarEnd] = {}
        self.heartbeat = 0
        self.silent = False
        """Commands are neither done nor answered."""
        self.lose_reply: Callable[[str], bool] = lambda command: False
        """Whether the reply to a command that was done is lost."""
        self.hold_reply: Callable[[str], float] = lambda command: 0.0
        """Seconds by which the reply to a command is late."""
        self.lose_event: Callable[[str], bool] = lambda kind: False
        self.commands: list[str] = []
        self._started = 0.0
        self._called: asyncio.Queue[FarEnd] = asyncio.Queue()
        self._numbers = count(1)
        self._transport: asyncio.DatagramTransport | None = None
        self._events: asyncio.DatagramTransport | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeOpenSips]:
        loop = asyncio.get_running_loop()
        host, port = self.mi.split(":")
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, int(port)))
        self._events, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=(host, 0))
        try:
            yield self
        finally:
            self._transport.close()
            self._events.close()
            await asyncio.sleep(0)

    def restart(self) -> None:
        """As after `kill -9` and a new start: every session is gone."""
        self.sessions.clear()
        self._started = self.clock.wall()

    # ------------------------------------------------------------ events

    def call(
        self, body: str | None = None, *, headers: str = "", uri: str = "sip:1000@127.0.0.1", quiet: bool = False
    ) -> FarEnd:
        """A far end that calls. `quiet`: the event of its INVITE is lost."""
        number = next(self._numbers)
        far = FarEnd(self, f"B2B.{number}.{number * 7}.{number}.{number}", SessionState.NEW)
        far.open_request = "INVITE"
        self.sessions[far.key] = far
        if not quiet:
            self.raise_event(far, "NEW", "INVITE", body=sdp() if body is None else body, headers=headers, extra=uri)
        return far

    def raise_event(
        self,
        far: FarEnd,
        kind: str,
        method: str,
        *,
        status: int = 0,
        reason: str = "",
        body: str = "",
        headers: str = "",
        extra: str = "",
        sequence: int | None = None,
    ) -> None:
        if self.lose_event(kind):
            return
        self.send_event(self.event(far, kind, method, status, reason, body, headers, extra, sequence))

    def event(
        self,
        far: FarEnd,
        kind: str,
        method: str,
        status: int = 0,
        reason: str = "",
        body: str = "",
        headers: str = "",
        extra: str = "",
        sequence: int | None = None,
    ) -> dict[str, Any]:
        """The parameters of an event, as OpenSIPS writes them."""
        if body and "Content-Type" not in headers:
            headers += "Content-Type: application/sdp\r\n"
        lines = (
            "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKx\r\n"
            f'From: "Phone" <sip:200@127.0.0.1>;tag=phone\r\nTo: <sip:1000@127.0.0.1>;tag={far.key}\r\n'
            f"Call-ID: call-{far.key}\r\nCSeq: {sequence or far.sequence} {method}\r\n"
            "Contact: <sip:200@127.0.0.1:5099>\r\n"
            f"{headers}Content-Length: {len(body)}\r\n"
        )
        return {
            "key": far.key,
            "event_type": kind,
            "entity_type": far.entity,
            "status": status,
            "reason": reason or None,
            "method": method,
            "body": body or None,
            "headers": lines,
            "extra_params": extra or None,
        }

    def send_event(self, fields: Mapping[str, Any] | bytes) -> None:
        """Sends an event as it is, or octets that are none."""
        assert self._events is not None
        host, port = self.events.split(":")
        message = {"jsonrpc": "2.0", "method": "E_UA_SESSION", "params": fields}
        data = fields if isinstance(fields, bytes) else json.dumps(message).encode()
        self._events.sendto(data, (host, int(port)))

    # ------------------------------------------------------------ MI

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        request = json.loads(data)
        command, parameters = request["method"], request.get("params", {})
        if self.silent:
            return
        self.commands.append(command)
        try:
            answer: dict[str, Any] = {"result": self._do(command, parameters)}
        except MiFailure as failure:
            answer = {"error": {"code": failure.code, "message": str(failure)}}
        if self.lose_reply(command):
            return
        reply = json.dumps({"jsonrpc": "2.0", **answer, "id": request["id"]}).encode()
        asyncio.get_running_loop().call_later(self.hold_reply(command), self.send_reply, reply, addr)

    def send_reply(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, addr)

    def _do(self, command: str, parameters: dict[str, Any]) -> Any:
        match command:
            case "shv_set":
                self.heartbeat = parameters["value"]
                return "OK"
            case "uptime":
                return {"Now": str(self.clock.wall()), "Up since": str(self._started)}
            case "subscribers_list":
                return {"Events": [{"name": "E_UA_SESSION", "Subscribers": [{"socket": self.subscriber}]}]}
            case "ua_session_list":
                return self._list(parameters.get("key"))
            case "ua_session_client_start":
                return self._start(parameters)
            case "t_uac_dlg":
                return self._message(parameters)
            case "ua_session_terminate":
                raise AssertionError("of OpenSIPS' processes the SIP worker alone may end sessions")
            case "ua_session_reply" | "ua_session_update":
                far = self.sessions.get(parameters["key"])
                if far is None:
                    raise MiFailure(500, "Failed to send")
                getattr(self, f"_{command.removeprefix('ua_session_')}")(far, parameters)
                return "OK"
        raise MiFailure(-32601, "Method not found")

    def _list(self, key: str | None) -> Any:
        entries = [
            {
                "state": int(far.state),
                "callid": far.key if far.entity == "UAC" else f"call-{far.key}",
                "to_tag": far.key if far.entity == "UAS" else "phone",
            }
            for far in self.sessions.values()
            if key in (None, far.key)
        ]
        if key is None:
            return entries
        if not entries:
            raise MiFailure(404, "Entity not found")
        return entries[0]

    def _heard(self, far: FarEnd, message: str | int, method: str, parameters: dict[str, Any]) -> None:
        assert set(parameters) <= set(FIXED), f"a combination that not every release takes: {sorted(parameters)}"
        content = parameters.get("content_type", "")
        assert not content or content.endswith("\r\n"), "content_type is whole header lines"
        assert ("body" in parameters) == ("content_type" in parameters)
        far.take(Heard(message, method, content, parameters.get("body", "")))

    def _reply(self, far: FarEnd, parameters: dict[str, Any]) -> None:
        method, status = parameters["method"], parameters["code"]
        assert parameters["reason"], "reason is mandatory"
        if method != "UPDATE":
            if far.open_request != method:
                raise MiFailure(500, "Failed to send reply")
            if far.answered:
                return  # taken for a retransmission
            if status >= 200:
                far.answered = True
                if method != "INVITE":
                    far.open_request = None
                elif status < 300:
                    far.state = SessionState.CONFIRMED
                elif far.state is not SessionState.MODIFIED:
                    far.state = SessionState.TERMINATED
        self._heard(far, status, method, parameters)

    def _update(self, far: FarEnd, parameters: dict[str, Any]) -> None:
        method = parameters["method"]
        if method == "CANCEL":
            far.state = SessionState.TERMINATED
        elif method == "INVITE":
            far.our_invite, far.state = True, SessionState.MODIFIED
        self._heard(far, method, method, parameters)

    def _message(self, parameters: dict[str, Any]) -> Any:
        """The MESSAGE that ua.cfg sends to itself."""
        assert set(parameters) == {"method", "ruri", "headers"}
        assert parameters["method"] == "MESSAGE"
        key = re.search(r"^X-Voxtrunk-Session: (\S+)\r$", parameters["headers"], re.MULTILINE)
        assert key is not None
        far = self.sessions.get(key[1])
        if far is None or (far.state < SessionState.CONFIRMED and not far.our_invite):
            return {"Status": "481 Call/Transaction Does Not Exist", "Message": ""}
        self._terminate(far)
        return {"Status": "200 OK", "Message": ""}

    def _terminate(self, far: FarEnd) -> None:
        if far.state is not SessionState.TERMINATED:
            self._heard(far, "BYE", "BYE", {})
        if far.open_request is not None and not far.answered:
            self._heard(far, 408, far.open_request, {})
        del self.sessions[far.key]

    def _start(self, parameters: dict[str, Any]) -> str:
        number = next(self._numbers)
        far = FarEnd(self, f"B2B.{number}.{number}.{number}.{number}", SessionState.NEW, "UAC", our_invite=True)
        self.sessions[far.key] = far
        self._heard(far, "INVITE", "INVITE", parameters)
        self._called.put_nowait(far)
        return far.key

    async def called(self) -> FarEnd:
        """The far end of the next outgoing call."""
        async with asyncio.timeout(5):
            return await self._called.get()


@dataclass
class Pair:
    """A fake UA with the real endpoint at it."""

    ua: FakeOpenSips
    endpoint: OpenSipsEndpoint
    inbox: Inbox
    refusals: list[Refusal]
    ports: PortPool

    async def next(self) -> OpenSipsLeg:
        """The next incoming leg, unanswered."""
        return cast(OpenSipsLeg, await self.inbox.next())

    async def answered(self) -> OpenSipsLeg:
        """The next incoming leg, answered."""
        return cast(OpenSipsLeg, await self.inbox.answered())

    async def established(self, body: str | None = None) -> tuple[OpenSipsLeg, FarEnd]:
        """An established incoming call: our leg and its far end."""
        far = self.ua.call(body)
        leg = await self.answered()
        await far.hears(200)
        far.ack()
        async for _ in leg.events():
            break
        return leg, far


@asynccontextmanager
async def pair(*, max_calls: int = 200, media_timeout: float = 20.0, leftover: int = 0) -> AsyncIterator[Pair]:
    """The endpoint at a fake UA. In the end nothing may be left: no session but `leftover`, no task, no port."""
    clock = LoopClock()
    ticker = Ticker(clock)
    ports = media_ports()
    inbox, refusals = Inbox(), list[Refusal]()
    async with FakeOpenSips(clock).running() as ua:
        endpoint = OpenSipsEndpoint(
            PairSettings(mi=ua.mi, events=ua.events),
            MediaSettings(timeout=media_timeout),
            max_calls=max_calls,
            retry_after=5,
            clock=clock,
            ticker=ticker,
            ports=ports,
            on_call=inbox,
            on_refused=refusals.append,
            edge="sip:127.0.0.1:5060",
        )
        ticking = asyncio.create_task(ticker.run())
        await endpoint.start()
        await asyncio.sleep(0.1)
        try:
            yield Pair(ua, endpoint, inbox, refusals, ports)
            await asyncio.sleep(1.0)
            assert endpoint.calls == 0, "a call is left"
            left = {key: far.state.name for key, far in ua.sessions.items()}
            assert len(left) == leftover, f"sessions are left: {left}"
        finally:
            await endpoint.aclose()
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking
        assert ua.heartbeat == 0 or ua.silent
        for _ in range(ports.size):
            ports.acquire(clock.now())
        with pytest.raises(MediaError):
            ports.acquire(clock.now())
