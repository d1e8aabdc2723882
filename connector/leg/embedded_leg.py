"""One call leg of the embedded endpoint, from its INVITE to its end.

`EmbeddedLeg` turns the verbs of `Leg` into requests of its dialog, and the peer's requests into
events and media settings.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from connector.errors import BadRequest, CallFailed, ProtocolError, VoxtrunkError
from connector.interfaces import (
    AudioPort,
    CallInfo,
    Established,
    Held,
    LegEvent,
    MediaTimeout,
    Party,
    Resumed,
    Terminated,
)
from connector.leg.events import LegEvents
from connector.leg.rtp_audio import MediaTarget, RtpAudio
from connector.leg.sip_socket import SipSocket
from connector.sip.bodies import (
    DTMF_RELAY,
    SDP,
    UnsupportedMediaType,
    dtmf_relay,
    parse_dtmf,
    refer_to,
    sdp_body,
    sipfrag_status,
)
from connector.sip.dialog import Dialog, DialogId, Unacknowledged
from connector.sip.digest import DigestClient, NoChallenge
from connector.sip.message import Address, Request, Response, respond
from connector.sip.offer_answer import Agreement, Negotiation
from connector.sip.sdp import SessionDescription, is_unspecified, parse_sdp
from connector.sip.transactions import Key

log = logging.getLogger(__name__)

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, NOTIFY"
"""What we serve (RFC 3261 section 20.5)."""

KNOWN = frozenset({"REGISTER", "REFER", "SUBSCRIBE", "PUBLISH", "MESSAGE", "PRACK", *ALLOW.split(", ")})
"""Methods that exist: where we do not serve them the answer is 405, to others 501."""

CAPABILITIES = {"Allow": ALLOW, "Accept": SDP, "Supported": ""}
"""What we say about ourselves (RFC 3261 section 11.2); an empty Supported names no extension."""

GLARE_RETRIES = 4
"""How often a re-INVITE that met another one is tried again."""


class Phase(Enum):
    """Where a leg stands."""

    INCOMING = auto()
    """Their INVITE has no final answer yet."""
    ANSWERED = auto()
    """It has our 200, which nobody acknowledged yet."""
    ESTABLISHED = auto()
    ENDED = auto()


class Step(Enum):
    """What moves a leg on."""

    ANSWER = auto()
    ACKNOWLEDGE = auto()
    END = auto()


PHASES: Mapping[tuple[Phase, Step], Phase] = {
    (Phase.INCOMING, Step.ANSWER): Phase.ANSWERED,
    (Phase.INCOMING, Step.END): Phase.ENDED,
    (Phase.ANSWERED, Step.ACKNOWLEDGE): Phase.ESTABLISHED,
    (Phase.ANSWERED, Step.END): Phase.ENDED,
    (Phase.ESTABLISHED, Step.END): Phase.ENDED,
}


class LegOwner(Protocol):
    """What a leg tells its endpoint."""

    def ended(self, leg: EmbeddedLeg) -> None:
        """The leg no longer counts as a call."""

    def closed(self, leg: EmbeddedLeg) -> None:
        """Its dialog needs nothing more."""

    def spawn(self, work: Awaitable[None]) -> None:
        """Runs `work` beside, until it is done or the endpoint closes."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """Their INVITE. `offer`: its SDP, None where our 200 makes the offer (RFC 3261 section 13.3.1)."""

    key: Key
    request: Request
    offer: SessionDescription | None


@dataclass(slots=True)
class _Answer:
    """A 200 of ours to an INVITE that waits for its ACK. `offered`: the ACK must bring the SDP answer."""

    key: Key
    response: Response
    sequence: int
    offered: bool
    repeat: Unacknowledged
    timer: asyncio.TimerHandle


class EmbeddedLeg:
    """A `Leg` over the endpoint's SIP socket. `incoming`: their INVITE, None where ours was answered already."""

    def __init__(
        self,
        socket: SipSocket,
        owner: LegOwner,
        info: CallInfo,
        dialog: Dialog,
        negotiation: Negotiation,
        audio: RtpAudio,
        *,
        incoming: Incoming | None = None,
        credentials: DigestClient | None = None,
    ) -> None:
        self._socket = socket
        self._owner = owner
        self._info = info
        self._dialog = dialog
        self._negotiation = negotiation
        self._audio = audio
        self._incoming = incoming
        self._credentials = credentials
        self._phase = Phase.INCOMING if incoming else Phase.ESTABLISHED
        self._events = LegEvents()
        self._answer: _Answer | None = None
        self._settled = asyncio.Event()
        """No 200 of ours waits for its ACK: an offer of ours may go out (RFC 3261 section 14.1)."""
        self._settled.set()
        self._changing = asyncio.Lock()
        self._inviting = False
        self._pending: set[asyncio.Future[Response]] = set()
        self._referred: asyncio.Future[int] | None = None
        self._held = False
        self._media_address: Address = ("0.0.0.0", 0)  # noqa: S104  (learn it from the first packet)
        self._handlers: dict[str, Callable[[Key, Request], None]] = {
            "INVITE": self._on_invite,
            "UPDATE": self._on_update,
            "BYE": self._on_bye,
            "INFO": self._on_info,
            "OPTIONS": self._on_options,
            "NOTIFY": self._on_notify,
        }
        audio.on_digit = self._events.emit
        audio.on_timeout = self._on_media_timeout
        audio.on_failure = self._on_media_failure
        if incoming is None:
            self._events.emit(Established())
            self._configure()

    # ---------------------------------------------------------------- Leg

    @property
    def info(self) -> CallInfo:
        return self._info

    @property
    def audio(self) -> AudioPort:
        return self._audio

    @property
    def rtp(self) -> RtpAudio:
        """The same, with what RTP adds: statistics and the local address."""
        return self._audio

    @property
    def dialog_id(self) -> DialogId:
        """What its messages are matched by."""
        return self._dialog.id

    @property
    def agreement(self) -> Agreement | None:
        """The media in force."""
        return self._negotiation.agreement

    def events(self) -> AsyncIterator[LegEvent]:
        return self._events.read()

    async def ring(self) -> None:
        """180 Ringing; nothing where the call is past that."""
        if self._incoming is not None and self._phase is Phase.INCOMING:
            self._respond(self._incoming.key, self._incoming.request, 180, headers={"Contact": self._contact})

    async def answer(self) -> None:
        """200 OK with our answer, or with our offer where they made none; repeated until it is acknowledged.

        Raises `ProtocolError` where the call has had its final answer or was cancelled.
        """
        incoming = self._incoming
        if incoming is None or self._phase is not Phase.INCOMING:
            raise ProtocolError(f"there is nothing to answer: the call is {self._phase.name}")
        if incoming.offer is not None:
            description = self._negotiation.answer(incoming.offer)
            self._configure()
        else:
            description = self._negotiation.offer()
        self._step(Step.ANSWER)
        self._accept(incoming.key, incoming.request, description, offered=incoming.offer is None)

    async def reject(self, status: int, reason: str, retry_after: int | None = None) -> None:
        """Refuses; nothing where the caller gave up already. Raises `ProtocolError` once the call was answered."""
        if self._phase is Phase.ENDED:
            return
        if self._incoming is None or self._phase is not Phase.INCOMING:
            raise ProtocolError("the call was answered")
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._respond(self._incoming.key, self._incoming.request, status, reason, headers=headers)
        self._end(Party.AGENT, reason, status)
        self._owner.closed(self)

    async def hang_up(self, reason: str = "") -> None:
        """BYE, or 480 to an INVITE that was not answered. Returns at once; the BYE is repeated until answered."""
        self._hang_up(Party.AGENT, reason)

    async def hold(self) -> None:
        """Puts the peer on hold: re-INVITE with sendonly. Raises `CallFailed` where it refuses."""
        await self._reinvite(on_hold=True)

    async def resume(self) -> None:
        """Takes the peer back: re-INVITE with sendrecv. Raises `CallFailed` where it refuses."""
        await self._reinvite(on_hold=False)

    async def transfer(self, target: str) -> None:
        """REFER (RFC 3515); returns when the target answered, and the leg is over then.

        Raises `CallFailed` where the peer refuses or the target does not answer: the call goes on.
        """
        port = f":{self._dialog.target.port}" if self._dialog.target.port else ""
        where = refer_to(target, self._dialog.target.host + port)
        self._need_established()
        self._referred = asyncio.get_running_loop().create_future()
        contact = self._contact
        response = await self._transact("REFER", {"Refer-To": where, "Referred-By": contact, "Contact": contact})
        _succeed(response)
        if (response.headers.get("Refer-Sub") or "").lower() != "false":
            try:
                async with asyncio.timeout(self._socket.timing.give_up):
                    status = await self._referred
            except TimeoutError:
                raise CallFailed(408, "the peer did not say how the transfer went") from None
            if status >= 300:
                raise CallFailed(status, "the transfer's target did not answer")
        await self.hang_up("transferred")

    async def send_dtmf(self, digits: str) -> None:
        """Presses keys: as telephone-events (RFC 4733), or as INFO where the peer knows none."""
        self._need_established()
        agreement = self._negotiation.agreement
        if agreement is not None and agreement.telephone_event is not None:
            self._audio.send_dtmf(digits)
            return
        for digit in digits:
            _succeed(await self._transact("INFO", {"Content-Type": DTMF_RELAY}, dtmf_relay(digit)))

    # ---------------------------------------------------------------- what the endpoint hands over

    def on_request(self, key: Key, request: Request, source: Address) -> None:
        """Takes a request of the dialog, and answers it."""
        if self._phase is Phase.ENDED:
            if request.method == "BYE":
                # Both hung up at once.
                self._respond(key, request, 200)
                self._forget_answer()
                self._owner.closed(self)
            else:
                self._respond(key, request, 481)
            return
        try:
            self._dialog.receive(request, source)
            handler = self._handlers.get(request.method)
            if handler is None:
                status = 405 if request.method in KNOWN else 501
                self._respond(key, request, status, headers={"Allow": ALLOW})
            else:
                handler(key, request)
        except UnsupportedMediaType as error:
            self._respond(key, request, error.sip_status, headers={"Accept": error.accept})
        except VoxtrunkError as error:
            self._respond(key, request, error.sip_status, error.sip_reason)

    def on_ack(self, request: Request) -> None:
        """Takes the ACK of a 200."""
        answer = self._answer
        if answer is None or request.cseq.sequence != answer.sequence:
            return
        self._forget_answer()
        if self._phase is Phase.ENDED:
            self._bye()
            return
        if self._phase is Phase.ANSWERED:
            self._step(Step.ACKNOWLEDGE)
            self._events.emit(Established())
        if answer.offered:
            try:
                self._negotiation.accept(_description(request))
            except VoxtrunkError as error:
                log.info("unusable answer in ACK: %s", error)
                self._hang_up(Party.SYSTEM, "unusable answer")
                return
            self._configure()

    def cancel(self) -> None:
        """Their CANCEL of the INVITE: 487, unless it has its final answer."""
        if self._phase is Phase.INCOMING:
            self._refuse_invite(487)
            self._end(Party.CALLER, "cancelled", 487)
            self._owner.closed(self)

    def abandon(self) -> None:
        """Stops repeating: the socket is closed."""
        self._forget_answer()

    # ---------------------------------------------------------------- requests of the peer

    def _on_invite(self, key: Key, request: Request) -> None:
        if self._phase is Phase.INCOMING:
            # RFC 3261 section 14.2.
            self._respond(key, request, 500, headers={"Retry-After": str(random.randint(0, 10))})
            return
        if self._glare:
            self._respond(key, request, 491)
            return
        body = sdp_body(request)
        if body is None:
            description = self._negotiation.offer()
        else:
            description = self._negotiation.answer(parse_sdp(body))
            self._configure()
        self._dialog.refresh(request)
        self._forget_answer()  # whoever asks again has had it
        self._accept(key, request, description, offered=body is None)

    def _on_update(self, key: Key, request: Request) -> None:
        """RFC 3311 section 5.2: with an offer it is answered like a re-INVITE, without one it refreshes."""
        headers = {"Contact": self._contact, "Allow": ALLOW}
        body = sdp_body(request)
        if body is None:
            self._dialog.refresh(request)
            self._respond(key, request, 200, headers=headers)
        elif self._phase is Phase.INCOMING:
            self._respond(key, request, 500, headers={"Retry-After": str(random.randint(0, 10))})
        elif self._glare:
            self._respond(key, request, 491)
        else:
            description = self._negotiation.answer(parse_sdp(body))
            self._configure()
            self._dialog.refresh(request)
            self._respond(key, request, 200, headers=headers, description=description)

    @property
    def _glare(self) -> bool:
        """Whether an offer of ours is on its way (RFC 3261 section 14.2)."""
        return self._inviting or (self._answer is not None and self._answer.offered)

    def _on_bye(self, key: Key, request: Request) -> None:
        self._respond(key, request, 200)
        if self._phase is Phase.INCOMING:
            self._refuse_invite(487)
        self._forget_answer()
        self._end(Party.CALLER, "hung up")
        self._owner.closed(self)

    def _on_info(self, key: Key, request: Request) -> None:
        """A DTMF key, or a sign of life without a body (RFC 6086 section 4.2.2)."""
        if request.body.strip():
            self._events.emit(parse_dtmf(request))
        self._respond(key, request, 200)

    def _on_options(self, key: Key, request: Request) -> None:
        self._respond(key, request, 200, headers=CAPABILITIES)

    def _on_notify(self, key: Key, request: Request) -> None:
        """Progress of our REFER (RFC 3515 section 2.4.4)."""
        event = (request.headers.get("Event") or "").partition(";")[0].strip().lower()
        if event != "refer":
            self._respond(key, request, 489, headers={"Allow-Events": "refer"})
            return
        status = sipfrag_status(request)
        self._respond(key, request, 200)
        if status >= 200 and self._referred is not None and not self._referred.done():
            self._referred.set_result(status)

    # ---------------------------------------------------------------- requests of ours

    async def _reinvite(self, on_hold: bool) -> None:
        async with self._changing:
            for attempt in range(GLARE_RETRIES + 1):
                await self._settled.wait()
                self._need_established()
                response = await self._offer(on_hold)
                if response.code != 491:
                    _succeed(response)
                    return
                if attempt < GLARE_RETRIES:
                    # RFC 3261 section 14.1: who made the Call-ID waits longer.
                    ours = self._incoming is None
                    await self._socket.clock.sleep(random.uniform(2.1, 4.0) if ours else random.uniform(0.0, 2.0))
            raise CallFailed(491, "Request Pending")

    async def _offer(self, on_hold: bool) -> Response:
        """The final response to one re-INVITE; a 2xx is in force then."""
        before, self._negotiation.on_hold = self._negotiation.on_hold, on_hold
        self._inviting, agreed = True, False
        try:
            headers = {"Contact": self._contact, "Allow": ALLOW, "Content-Type": SDP}
            response = await self._transact("INVITE", headers, str(self._negotiation.offer()).encode())
            if response.code < 300:
                self._negotiation.accept(_description(response))
                agreed = True
                self._configure()
        finally:
            self._inviting = False
            if not agreed:
                self._negotiation.on_hold = before
        return response

    async def _transact(self, method: str, headers: Mapping[str, str], body: bytes = b"") -> Response:
        """The final response to a request in the dialog. Raises `CallFailed` where none comes."""
        future: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._pending.add(future)

        def on_final(response: Response | None) -> None:
            if response is None or response.code in (408, 481):
                # RFC 3261 section 12.2.1.2: the dialog is no more.
                self._end(Party.SYSTEM, "the peer no longer knows the call", 408 if response is None else response.code)
                self._owner.closed(self)
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
        ack: bytes | None = None

        def on_response(response: Response | None, source: Address) -> None:
            nonlocal ack
            if response is not None and response.code < 200:
                return
            if response is not None and response.code < 300 and method == "INVITE":
                if ack is not None:
                    self._socket.resend(ack, self._dialog.next_hop)
                    return
                self._refresh(response, source)
                ack = self._socket.acknowledge(self._dialog.ack(request), self._dialog.next_hop)
            again = None if authorization is not None else authorize(self._credentials, request, response)
            if again is not None:
                self._request(method, headers, body, on_final, again)
            else:
                on_final(response)

        self._socket.request(request, self._dialog.next_hop, on_response)

    def _refresh(self, response: Response, source: Address) -> None:
        self._dialog.peer = source
        try:
            self._dialog.refresh(response)
        except BadRequest as error:
            log.info("unusable Contact: %s", error)

    def _bye(self) -> None:
        self._request("BYE", {}, b"", lambda response: self._owner.closed(self))

    # ---------------------------------------------------------------- inside

    @property
    def _contact(self) -> str:
        return contact(self._socket.sent_by(self._dialog.peer[0]))

    def _step(self, step: Step) -> None:
        try:
            self._phase = PHASES[self._phase, step]
        except KeyError:
            raise ProtocolError(f"{step.name} in phase {self._phase.name}") from None

    def _need_established(self) -> None:
        if self._phase is not Phase.ESTABLISHED:
            raise ProtocolError(f"the call is not up: {self._phase.name}")

    def _hang_up(self, by: Party, reason: str) -> None:
        if self._phase is Phase.ENDED:
            return
        if self._phase is Phase.INCOMING:
            self._refuse_invite(480)
            self._end(by, reason, 480)
            self._owner.closed(self)
            return
        # RFC 3261 section 15: no BYE before the ACK; `on_ack` or `_repeat` sends it.
        unacknowledged = self._phase is Phase.ANSWERED
        self._end(by, reason)
        if not unacknowledged:
            self._bye()

    def _end(self, by: Party, reason: str, status: int | None = None) -> None:
        if self._phase is Phase.ENDED:
            return
        if self._phase is not Phase.ANSWERED:
            self._forget_answer()
        self._step(Step.END)
        self._events.emit(Terminated(by, reason, status))
        for future in self._pending:
            if not future.done():
                future.set_exception(CallFailed(status or 487, reason or "the call is over"))
        if self._referred is not None and not self._referred.done():
            self._referred.set_result(200)  # who hangs up on a REFER has followed it
        self._owner.ended(self)
        self._owner.spawn(self._audio.aclose())

    def _refuse_invite(self, status: int) -> None:
        if self._incoming is not None:
            self._respond(self._incoming.key, self._incoming.request, status)

    def _respond(
        self,
        key: Key,
        request: Request,
        status: int,
        reason: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        description: SessionDescription | None = None,
    ) -> Response:
        response = respond(request, status, reason, to_tag=self._dialog.id.local_tag)
        for name, value in (headers or {}).items():
            response.headers.set(name, value)
        if description is not None:
            response.headers.set("Content-Type", SDP)
            response.body = str(description).encode()
        self._socket.respond(key, response)
        return response

    def _accept(self, key: Key, request: Request, description: SessionDescription, *, offered: bool) -> None:
        """200 to an INVITE, repeated until its ACK (RFC 3261 section 13.3.1.4)."""
        headers = {"Contact": self._contact, **CAPABILITIES}
        response = self._respond(key, request, 200, headers=headers, description=description)
        repeat = Unacknowledged(self._socket.timing, self._socket.clock.now())
        timer = asyncio.get_running_loop().call_at(repeat.next, self._repeat)
        self._settled.clear()
        self._answer = _Answer(key, response, request.cseq.sequence, offered, repeat, timer)

    def _forget_answer(self) -> None:
        if self._answer is not None:
            self._answer.timer.cancel()
            self._answer = None
            self._settled.set()

    def _repeat(self) -> None:
        answer, now = self._answer, self._socket.clock.now()
        if answer is None:
            return
        if now >= answer.repeat.deadline:
            self._forget_answer()
            self._end(Party.SYSTEM, "the answer was not acknowledged", 408)
            self._bye()
            return
        if answer.repeat.due(now):
            self._socket.respond(answer.key, answer.response)
        answer.timer = asyncio.get_running_loop().call_at(answer.repeat.next, self._repeat)

    def _configure(self) -> None:
        """Brings the media to what was agreed."""
        agreement = self._negotiation.agreement
        if agreement is None:
            return
        if not is_unspecified(agreement.address):
            self._media_address = (agreement.address, agreement.port)
        address, port = self._media_address
        self._audio.configure(
            MediaTarget(
                address,
                port,
                agreement.codec,
                agreement.payload_type,
                agreement.telephone_event,
                send=agreement.direction.sends,
                receive=agreement.direction.receives,
            )
        )
        if agreement.held != self._held:
            self._held = agreement.held
            self._events.emit(Held() if self._held else Resumed())

    def _on_media_timeout(self, seconds: float) -> None:
        self._events.emit(MediaTimeout(seconds))

    def _on_media_failure(self, error: Exception) -> None:
        log.error("media failed", exc_info=error)
        self._hang_up(Party.SYSTEM, "media failed")


def contact(address: Address) -> str:
    """Our Contact at `address`."""
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"<sip:voxtrunk@{host}:{address[1]}>"


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


def _succeed(response: Response) -> None:
    if response.code >= 300:
        raise CallFailed(response.code, response.phrase)


def _description(message: Request | Response) -> SessionDescription:
    body = sdp_body(message)
    if body is None:
        raise BadRequest("there is no SDP answer")
    return parse_sdp(body)
