"""One call leg of the embedded endpoint, from its INVITE to its end.

`EmbeddedLeg` sends and receives on the endpoint's own SIP socket, in transactions of our own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from connector.errors import BadRequest, VoxtrunkError
from connector.interfaces import CallInfo, Party
from connector.leg.events import Ladder
from connector.leg.notes import shown
from connector.leg.rtp_audio import RtpAudio
from connector.leg.sip_leg import CAPABILITIES, Asked, Incoming, LegOwner, Phase, SipLeg
from connector.leg.sip_socket import SipSocket
from connector.sip.bodies import SDP
from connector.sip.dialog import Dialog, DialogId, Unacknowledged
from connector.sip.digest import DigestClient, NoChallenge
from connector.sip.message import Address, Request, Response, hostport, respond
from connector.sip.offer_answer import Negotiation
from connector.sip.sdp import SessionDescription
from connector.sip.transactions import Key

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Repeated:
    """A 200 of ours that waits for its ACK."""

    key: Key
    response: Response
    schedule: Unacknowledged
    timer: asyncio.TimerHandle


class EmbeddedLeg(SipLeg):
    """A `Leg` over the endpoint's SIP socket. `incoming`: their INVITE, None where ours was answered already.

    `ladder` has what was said before.
    """

    def __init__(
        self,
        socket: SipSocket,
        owner: LegOwner[EmbeddedLeg],
        info: CallInfo,
        dialog: Dialog,
        negotiation: Negotiation,
        audio: RtpAudio,
        *,
        ladder: Ladder,
        incoming: Incoming | None = None,
        credentials: DigestClient | None = None,
    ) -> None:
        self._socket = socket
        self._owner = owner
        self._dialog = dialog
        self._credentials = credentials
        self._repeated: _Repeated | None = None
        super().__init__(
            info,
            negotiation,
            audio,
            clock=socket.clock,
            ladder=ladder,
            give_up=socket.timing.give_up,
            incoming=incoming,
        )
        self._handlers["BYE"] = self._on_bye

    @property
    def dialog_id(self) -> DialogId:
        """What its messages are matched by."""
        return self._dialog.id

    # ---------------------------------------------------------------- what the endpoint hands over

    def on_request(self, key: Key, request: Request, source: Address) -> None:
        """Takes a request of the dialog, and answers it."""
        self._ladder.received(*shown(request))
        asked = Asked(request, key)
        if self._phase is Phase.ENDED:
            if request.method == "BYE":
                # Both hung up at once.
                self._respond(asked, 200)
                self._forget_answer()
                self._close()
            else:
                self._respond(asked, 481)
            return
        try:
            self._dialog.receive(request, source)
        except VoxtrunkError as error:
            self._respond(asked, error.sip_status, error.sip_reason)
        else:
            self._serve(asked)

    def on_ack(self, request: Request) -> None:
        """Takes the ACK of a 200."""
        self._acknowledged(request)

    def cancel(self, request: Request) -> None:
        """Their CANCEL of the INVITE, which was answered 200: 487, unless the INVITE has its final answer."""
        self._ladder.received(*shown(request))
        self._ladder.sent("200 OK")
        if self._phase is Phase.INCOMING:
            self._refuse_invite(487)
            self._end(Party.CALLER, "cancelled", 487)
            self._close()

    def abandon(self) -> None:
        """Stops repeating: the socket is closed."""
        self._forget_answer()

    def _on_bye(self, asked: Asked) -> None:
        self._respond(asked, 200)
        if self._phase is Phase.INCOMING:
            self._refuse_invite(487)
        self._forget_answer()
        self._end(Party.CALLER, "hung up")
        self._close()

    # ---------------------------------------------------------------- how messages travel

    @property
    def _contact(self) -> str:
        return contact(self._socket.sent_by(self._dialog.peer[0]))

    @property
    def _dialog_headers(self) -> Mapping[str, str]:
        return {"Contact": self._contact}

    @property
    def _peer_host(self) -> str:
        target = self._dialog.target
        return target.host + (f":{target.port}" if target.port else "")

    def _refresh(self, message: Request | Response) -> None:
        self._dialog.refresh(message)

    def _respond(
        self,
        asked: Asked,
        status: int,
        reason: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        description: SessionDescription | None = None,
    ) -> None:
        self._respond_with(asked, self._response(asked, status, reason, headers or {}, description))

    def _response(
        self,
        asked: Asked,
        status: int,
        reason: str,
        headers: Mapping[str, str],
        description: SessionDescription | None,
    ) -> Response:
        response = respond(asked.request, status, reason, to_tag=self._dialog.id.local_tag)
        for name, value in headers.items():
            response.headers.set(name, value)
        if description is not None:
            response.headers.set("Content-Type", SDP)
            response.body = str(description).encode()
        return response

    def _respond_with(self, asked: Asked, response: Response) -> Key:
        if asked.key is None:
            raise ValueError("the request has no transaction")
        self._socket.respond(asked.key, response)
        self._ladder.sent(*shown(response))
        return asked.key

    def _send_answer(self, asked: Asked, description: SessionDescription) -> None:
        headers = {**self._dialog_headers, **CAPABILITIES}
        response = self._response(asked, 200, "", headers, description)
        key = self._respond_with(asked, response)
        schedule = Unacknowledged(self._socket.timing, self._socket.clock.now())
        timer = asyncio.get_running_loop().call_at(schedule.next, self._repeat)
        self._repeated = _Repeated(key, response, schedule, timer)

    def _stop_repeating(self) -> None:
        if self._repeated is not None:
            self._repeated.timer.cancel()
            self._repeated = None

    def _repeat(self) -> None:
        repeated, now = self._repeated, self._socket.clock.now()
        if repeated is None:
            return
        if now >= repeated.schedule.deadline:
            self._unacknowledged()
            return
        if repeated.schedule.due(now):
            self._socket.respond(repeated.key, repeated.response)
        repeated.timer = asyncio.get_running_loop().call_at(repeated.schedule.next, self._repeat)

    def _close(self) -> None:
        self._owner.closed(self)

    def _ended(self) -> None:
        self._owner.ended(self)
        self._owner.spawn(self._audio.aclose())

    async def _transact(self, method: str, headers: Mapping[str, str], body: bytes = b"") -> Response:
        """The final response to a request in the dialog. Raises `CallFailed` where none comes."""
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._pending.add(future)

        def on_final(response: Response | None) -> None:
            if response is None or response.code in (408, 481):
                self._forgotten(response)
            elif not future.done():
                future.set_result(response)

        self._request(method, headers, body, on_final)
        try:
            return await future
        finally:
            self._pending.discard(future)

    def _request(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes,
        on_final: Callable[[Response | None], None],
        authorization: tuple[str, str] | None = None,
    ) -> None:
        """Sends a request in the dialog, once more with credentials where they are asked for."""
        request = self._dialog.request(method)
        for name, value in headers.items():
            request.headers.set(name, value)
        if authorization is not None:
            request.headers.set(*authorization)
        request.body = body
        self._ladder.sent(*shown(request))
        ack: bytes | None = None
        told: set[int] = set()

        def on_response(response: Response | None, source: Address) -> None:
            nonlocal ack
            if response is not None and response.code not in told:
                told.add(response.code)
                self._ladder.received(*shown(response))
            if response is not None and response.code < 200:
                return
            if response is not None and response.code < 300 and method == "INVITE":
                if ack is not None:
                    self._socket.resend(ack, self._dialog.next_hop)
                    return
                self._take_contact(response, source)
                acknowledgement = self._dialog.ack(request)
                ack = self._socket.acknowledge(acknowledgement, self._dialog.next_hop)
                self._ladder.sent(*shown(acknowledgement))
            again = None if authorization is not None else authorize(self._credentials, request, response)
            if again is not None:
                self._request(method, headers, body, on_final, again)
            else:
                on_final(response)

        self._socket.request(request, self._dialog.next_hop, on_response)

    def _take_contact(self, response: Response, source: Address) -> None:
        self._dialog.peer = source
        try:
            self._dialog.refresh(response)
        except BadRequest as error:
            log.info("unusable Contact: %s", error)

    def _bye(self) -> None:
        self._request("BYE", {}, b"", lambda response: self._owner.closed(self))


def contact(address: Address) -> str:
    """Our Contact at `address`."""
    return f"<sip:voxtrunk@{hostport(address)}>"


def authorize(credentials: DigestClient | None, request: Request, response: Response | None) -> tuple[str, str] | None:
    """The header that answers a 401 or 407 to `request`, None where there is nothing to answer with."""
    if credentials is None or response is None or response.code not in (401, 407):
        return None
    names = {401: ("WWW-Authenticate", "Authorization"), 407: ("Proxy-Authenticate", "Proxy-Authorization")}
    asked, answered = names[response.code]
    try:
        return answered, credentials.authorize(request.method, str(request.uri), response.headers.getlist(asked))
    except NoChallenge:
        return None
