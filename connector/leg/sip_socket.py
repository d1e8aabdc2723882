"""The one UDP socket of the embedded endpoint, with the SIP transactions on it."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable

from connector.errors import MediaError
from connector.interfaces import Clock
from connector.sip.message import Address, BadMessage, Request, Response, hostport, parse
from connector.sip.transactions import (
    AckReceived,
    Ended,
    Key,
    RequestReceived,
    ResponseReceived,
    TimedOut,
    Timing,
    Transactions,
    cancel_request,
)
from connector.udp.control import ControlSocket

OnResponse = Callable[[Response | None, Address], None]
"""Takes each response to a request of ours; None: nobody answered."""

NOWHERE: Address = ("", 0)


class SipSocket:
    """Datagrams to transactions, transactions to callbacks, and their timers to the event loop.

    `on_request(key, request, source)`, `on_ack(request, source)` and `on_unreadable(error, source)`,
    for what was no SIP message, are called on the event loop.
    `advertise`: the address that peers see, None for the one they reach us at.
    """

    def __init__(
        self,
        clock: Clock,
        timing: Timing,
        advertise: str | None,
        on_request: Callable[[Key, Request, Address], None],
        on_ack: Callable[[Request, Address], None],
        on_unreadable: Callable[[BadMessage, Address], None],
    ) -> None:
        self.clock = clock
        self.timing = timing
        self._advertise = advertise
        self._on_request = on_request
        self._on_ack = on_ack
        self._on_unreadable = on_unreadable
        self._transactions = Transactions(lambda: secrets.token_hex(12), timing)
        self._waiting: dict[Key, OnResponse] = {}
        self._unanswered: set[Key] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._socket: ControlSocket | None = None
        self._bound: Address = NOWHERE
        self._idle = asyncio.Event()

    def open(self, address: str, port: int) -> None:
        """Binds; `::` takes IPv4 too. Raises `MediaError`."""
        try:
            self._socket = ControlSocket(self.received, local=(address, port))
        except OSError as error:
            where = hostport((address, port))
            raise MediaError(f"SIP cannot listen on {where} (UDP): {error.strerror or error}") from error
        self._bound = self._socket.local

    def close(self) -> None:
        """Stops at once; nothing is sent or received after it. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    async def drained(self) -> None:
        """Waits until every request of ours has its final answer."""
        while self._unanswered:
            self._idle.clear()
            await self._idle.wait()

    @property
    def bound(self) -> Address:
        """Where the socket listens."""
        return self._bound

    def local_ip(self, peer: str) -> str:
        """The address of ours that `peer` reaches; never the unspecified one."""
        if self._advertise is not None:
            return self._advertise
        return self.bind_ip(peer)

    def bind_ip(self, peer: str) -> str:
        """The address of this machine that talks to `peer`: the bound one, or by the routes of the system.

        Raises `MediaError` where no route leads there.
        """
        if self._bound[0] not in ("0.0.0.0", "::"):  # noqa: S104  (compared, not bound)
            return self._bound[0]
        family = socket.AF_INET6 if ":" in peer else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.setblocking(False)
            # Connecting a UDP socket sends nothing, it looks up the route.
            try:
                probe.connect((peer, 9))
            except OSError as error:
                raise MediaError(f"no route to {peer}: {error.strerror or error}") from error
            return str(probe.getsockname()[0])

    def sent_by(self, peer: str) -> Address:
        """What our Via, Contact and SDP say to `peer`."""
        return self.local_ip(peer), self._bound[1]

    # ---------------------------------------------------------------- verbs

    def request(self, request: Request, peer: Address, on_response: OnResponse) -> Key:
        """Sends `request` in a transaction of its own."""
        key = self._transactions.request(request, self.sent_by(peer[0]), peer, self.clock.now())
        self._waiting[key] = on_response
        self._unanswered.add(key)
        self._flush()
        return key

    def cancel(self, key: Key, invite: Request, peer: Address) -> None:
        """Sends the CANCEL of our INVITE `key`; its own answer tells nothing."""
        request = cancel_request(invite)
        self._transactions.request(request, self.sent_by(peer[0]), peer, self.clock.now(), branch=key.branch)
        self._flush()

    def respond(self, key: Key, response: Response) -> None:
        """Answers request `key`. Raises `ProtocolError` where it has its final answer."""
        self._transactions.respond(key, response, self.clock.now())
        self._flush()

    def respond_once(self, key: Key, response: Response) -> None:
        """Refuses request `key` of a stranger. Raises `ProtocolError` where it was answered."""
        self._transactions.respond_once(key, response)
        self._flush()

    def acknowledge(self, ack: Request, peer: Address) -> bytes:
        """Sends an ACK for a 2xx; returns its datagram for `resend`."""
        data = self._transactions.send(ack, self.sent_by(peer[0]), peer)
        self._flush()
        return data

    def resend(self, data: bytes, peer: Address) -> None:
        """Sends a datagram of ours once more."""
        self._transactions.resend(data, peer)
        self._flush()

    def known(self, key: Key) -> bool:
        """Whether transaction `key` is running."""
        return self._transactions.known(key)

    def final_sent(self, key: Key) -> bool:
        """Whether request `key` has had its final answer."""
        return self._transactions.final_sent(key)

    def merged(self, key: Key, request: Request) -> bool:
        """Whether `request` came before, another way (RFC 3261 section 8.2.2.2)."""
        return self._transactions.merged(key, request)

    # ---------------------------------------------------------------- datagrams

    def received(self, data: bytes, source: Address) -> None:
        """Takes what came from `source`, a SIP message or not."""
        source = unmapped(source)
        if not data.strip(b"\r\n\0"):
            return  # keep-alive (RFC 5626 section 3.5.1, and what phones send for it)
        try:
            message = parse(data)
        except BadMessage as error:
            if error.response is not None:
                self._transactions.reply(error.response, source)
                self._flush()
            self._on_unreadable(error, source)
            return
        self._transactions.receive(message, source, self.clock.now())
        self._dispatch()

    # ---------------------------------------------------------------- inside

    def _advance(self) -> None:
        self._transactions.advance(self.clock.now())
        self._dispatch()

    def _dispatch(self) -> None:
        for event in self._transactions.events():
            match event:
                case RequestReceived(key, request, source):
                    self._on_request(key, request, source)
                case AckReceived(request, source):
                    self._on_ack(request, source)
                case ResponseReceived(key, response, source):
                    self._answered(key, response, source)
                case TimedOut(key):
                    self._answered(key, None, NOWHERE)
                case Ended(key):
                    self._waiting.pop(key, None)
        self._flush()

    def _answered(self, key: Key, response: Response | None, source: Address) -> None:
        if response is None or response.code >= 200:
            self._unanswered.discard(key)
            self._idle.set()
        if on_response := self._waiting.get(key):
            on_response(response, source)

    def _flush(self) -> None:
        for data, peer in self._transactions.datagrams():
            if self._socket is not None:
                self._socket.send(data, mapped(peer) if ":" in self._bound[0] else peer)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._transactions.next_timeout
        if at is not None and self._socket is not None:
            self._timer = asyncio.get_running_loop().call_at(at, self._advance)


def unmapped(address: Address) -> Address:
    """`address` as all but dual-stack sockets write it: IPv4 that is mapped into IPv6 (RFC 4291 section 2.5.5.2) plain.

    Allow-lists, headers and SDP name IPv4 addresses, never mapped ones.
    """
    host, port = address
    return (host.removeprefix("::ffff:"), port) if "." in host else address


def mapped(address: Address) -> Address:
    """`address` as an IPv6 socket must be told it: IPv4 mapped into IPv6."""
    host, port = address
    return address if ":" in host else (f"::ffff:{host}", port)
