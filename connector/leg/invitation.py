"""Our INVITE on its way to a final answer (RFC 3261 sections 9.1, 13.2 and 22)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from connector.errors import CallFailed, VoxtrunkError
from connector.leg.embedded_leg import EmbeddedLeg, authorize
from connector.leg.events import Ladder
from connector.leg.notes import shown
from connector.leg.sip_leg import ALLOW
from connector.leg.sip_socket import SipSocket
from connector.sip.bodies import SDP
from connector.sip.dialog import MAX_FORWARDS, Dialog
from connector.sip.digest import DigestClient
from connector.sip.message import Address, Request, Response, Uri, to_tag
from connector.sip.transactions import Key


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls whom: header values and the Call-ID. `local` has our tag."""

    uri: Uri
    local: str
    contact: str
    call_id: str


class Invitation:
    """Sends an INVITE with `offer` and awaits its answer.

    Every 2xx is acknowledged, as often as it comes; one that comes too late, from a second branch of
    a fork, or that `establish` raises on, is hung up on. `establish(dialog, response)` makes the leg
    of the first one at once, so that no request of the peer can come before it. `on_provisional`
    sees 101 to 199, `ladder` everything.
    """

    def __init__(
        self,
        socket: SipSocket,
        identity: Identity,
        peer: Address,
        offer: bytes,
        *,
        headers: Mapping[str, str],
        credentials: DigestClient | None,
        ladder: Ladder,
        establish: Callable[[Dialog, Response], EmbeddedLeg],
        on_provisional: Callable[[Response], None],
    ) -> None:
        self._socket = socket
        self._identity = identity
        self._peer = peer
        self._offer = offer
        self._headers = headers
        self._credentials = credentials
        self._ladder = ladder
        self._establish = establish
        self._on_provisional = on_provisional
        self._sequence = 0
        self._authorized = False
        self._proceeding = False
        self._cancelled = False
        self._running: tuple[Key, Request] | None = None
        self._acks: dict[str, tuple[bytes, Address]] = {}
        self._result: asyncio.Future[EmbeddedLeg] = asyncio.get_running_loop().create_future()

    async def answered(self) -> EmbeddedLeg:
        """Sends the INVITE; the leg once it is answered. Raises `CallFailed` with the refusal."""
        self._send()
        return await self._result

    def cancel(self) -> None:
        """Gives up: CANCEL, as soon as the peer was heard of (section 9.1). Idempotent."""
        if not self._cancelled:
            self._cancelled = True
            self._result.cancel()
            self._send_cancel()

    def _send(self, authorization: tuple[str, str] | None = None) -> None:
        self._sequence += 1
        self._proceeding = False
        identity = self._identity
        request = Request("INVITE", identity.uri, self._offer)
        for name, value in {
            "Max-Forwards": MAX_FORWARDS,
            "From": identity.local,
            "To": f"<{identity.uri}>",
            "Call-ID": identity.call_id,
            "CSeq": f"{self._sequence} INVITE",
            "Contact": identity.contact,
            "Allow": ALLOW,
            "Content-Type": SDP,
            **self._headers,
        }.items():
            request.headers.set(name, value)
        if authorization is not None:
            request.headers.set(*authorization)

        self._ladder.sent(*shown(request))
        told: set[tuple[int, str | None]] = set()

        def on_response(response: Response | None, source: Address) -> None:
            if response is not None and (kind := (response.code, response.headers.get("To"))) not in told:
                told.add(kind)
                self._ladder.received(*shown(response))
            self._receive(request, response, source)

        self._running = self._socket.request(request, self._peer, on_response), request

    def _send_cancel(self) -> None:
        if self._running is not None and self._proceeding:
            self._socket.cancel(*self._running, self._peer)
            self._ladder.sent("CANCEL")
            self._running = None

    def _receive(self, request: Request, response: Response | None, source: Address) -> None:
        if response is None:
            self._fail(CallFailed(408, "nobody answered"))
        elif response.code < 200:
            self._proceeding = True
            if self._cancelled:
                self._send_cancel()
            elif response.code > 100 and not self._result.done():
                self._on_provisional(response)
        elif response.code < 300:
            self._running = None
            self._accept(request, response, source)
        else:
            self._running = None
            header = None if self._authorized or self._cancelled else authorize(self._credentials, request, response)
            if header is not None:
                self._authorized = True
                self._send(header)
            else:
                self._fail(CallFailed(response.code, response.phrase))

    def _accept(self, request: Request, response: Response, source: Address) -> None:
        tag = to_tag(response)
        if tag in self._acks:
            self._socket.resend(*self._acks[tag])
            return
        try:
            dialog = Dialog.from_response(request, response, source)
        except VoxtrunkError as error:
            self._fail(error)
            return
        acknowledgement = dialog.ack(request)
        ack = self._socket.acknowledge(acknowledgement, dialog.next_hop)
        self._ladder.sent(*shown(acknowledgement))
        self._acks[tag] = ack, dialog.next_hop
        try:
            if self._result.done():
                raise CallFailed(487, "the call was given up")
            self._result.set_result(self._establish(dialog, response))
        except VoxtrunkError as error:
            self._fail(error)
            self._socket.request(dialog.request("BYE"), dialog.next_hop, lambda response, source: None)

    def _fail(self, error: VoxtrunkError) -> None:
        if not self._result.done():
            self._result.set_exception(error)
