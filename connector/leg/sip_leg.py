"""What a SIP call leg does, whoever carries its messages: our own transactions, or OpenSIPS.

`SipLeg` turns the verbs of `Leg` into requests of its dialog, and the peer's requests into events and
media settings. How a message is sent and acknowledged is its subclasses' business.
"""

from __future__ import annotations

import asyncio
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, TypeVar

from connector.errors import BadRequest, CallFailed, ProtocolError, VoxtrunkError
from connector.interfaces import (
    AudioPort,
    CallInfo,
    Clock,
    Established,
    Held,
    LegEvent,
    MediaTimeout,
    Party,
    Resumed,
    SignallingStep,
    Terminated,
)
from connector.leg.events import Ladder, LegEvents
from connector.leg.notes import shown
from connector.leg.rtp_audio import MediaTarget, RtpAudio
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
from connector.sip.message import Address, Request, Response
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


L = TypeVar("L", contravariant=True)


class LegOwner(Protocol[L]):
    """What a leg tells its endpoint."""

    def ended(self, leg: L) -> None:
        """The leg no longer counts as a call."""

    def closed(self, leg: L) -> None:
        """Its dialog needs nothing more."""

    def spawn(self, work: Awaitable[None]) -> asyncio.Future[None]:
        """Runs `work` beside, until it is done or the endpoint closes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of the peer. `key`: its transaction, None where that is not ours."""

    request: Request
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """Their INVITE. `offer`: its SDP, None where our 200 makes the offer (RFC 3261 section 13.3.1)."""

    asked: Asked
    offer: SessionDescription | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200 of ours to an INVITE that waits for its ACK. `offered`: the ACK must bring the SDP answer."""

    sequence: int
    offered: bool


class SipLeg(ABC):
    """A `Leg` of SIP. `incoming`: their INVITE, None where ours was answered already. `give_up`: seconds, 64*T1."""

    def __init__(
        self,
        info: CallInfo,
        negotiation: Negotiation,
        audio: RtpAudio,
        *,
        clock: Clock,
        ladder: Ladder,
        give_up: float,
        incoming: Incoming | None = None,
    ) -> None:
        self._info = info
        self._negotiation = negotiation
        self._audio = audio
        self._clock = clock
        self._ladder = ladder
        self._give_up = give_up
        self._incoming = incoming
        self._phase = Phase.INCOMING if incoming else Phase.ESTABLISHED
        self._events = LegEvents()
        self._answer: Answer | None = None
        self._settled = asyncio.Event()
        """No 200 of ours waits for its ACK: an offer of ours may go out (RFC 3261 section 14.1)."""
        self._settled.set()
        self._changing = asyncio.Lock()
        self._inviting = False
        self._pending: set[asyncio.Future[Response]] = set()
        self._referred: asyncio.Future[int] | None = None
        self._held = False
        self._was_up = False
        """Whether it was ever established."""
        self._media_address: Address = ("0.0.0.0", 0)  # noqa: S104  (nobody yet)
        self._handlers: dict[str, Callable[[Asked], None]] = {
            "INVITE": self._on_invite,
            "UPDATE": self._on_update,
            "INFO": self._on_info,
            "OPTIONS": self._on_options,
            "NOTIFY": self._on_notify,
        }
        audio.on_digit = self._events.emit
        audio.on_timeout = self._on_media_timeout
        audio.on_failure = self._on_media_failure
        if incoming is None:
            self._set_up()
            self._configure()

    # ---------------------------------------------------------------- how messages travel

    @property
    @abstractmethod
    def _contact(self) -> str:
        """Our Contact, as a header value."""

    @property
    @abstractmethod
    def _dialog_headers(self) -> Mapping[str, str]:
        """Headers of target refresh requests and their 2xx that the carrier does not add by itself."""

    @property
    @abstractmethod
    def _peer_host(self) -> str:
        """`host[:port]` of the peer's Contact."""

    @abstractmethod
    def _respond(
        self,
        asked: Asked,
        status: int,
        reason: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        description: SessionDescription | None = None,
    ) -> None:
        """Answers a request of the peer."""

    @abstractmethod
    def _send_answer(self, asked: Asked, description: SessionDescription) -> None:
        """200 to an INVITE, repeated until its ACK (RFC 3261 section 13.3.1.4)."""

    @abstractmethod
    def _stop_repeating(self) -> None:
        """The 200 needs no more repeating."""

    @abstractmethod
    async def _transact(self, method: str, headers: Mapping[str, str], body: bytes = b"") -> Response:
        """The final response to a request in the dialog; a 2xx to INVITE is acknowledged. Raises `CallFailed`."""

    @abstractmethod
    def _bye(self) -> None:
        """Ends the dialog, and closes the leg."""

    @abstractmethod
    def _ended(self) -> None:
        """The leg no longer counts as a call; its media is to be closed."""

    @abstractmethod
    def _close(self) -> None:
        """The dialog needs nothing more."""

    @abstractmethod
    def _refresh(self, message: Request) -> None:
        """Takes the peer's new Contact (RFC 3261 section 12.2). Raises `BadRequest`."""

    # ---------------------------------------------------------------- Leg

    @property
    def info(self) -> CallInfo:
        return self._info

    @property
    def audio(self) -> AudioPort:
        return self._audio

    @property
    def signalling(self) -> Sequence[SignallingStep]:
        return self._ladder.steps

    @property
    def rtp(self) -> RtpAudio:
        """The same, with what RTP adds: statistics and the local address."""
        return self._audio

    @property
    def agreement(self) -> Agreement | None:
        """The media in force."""
        return self._negotiation.agreement

    def events(self) -> AsyncIterator[LegEvent]:
        return self._events.read()

    async def ring(self) -> None:
        """180 Ringing; nothing where the call is past that."""
        if self._incoming is not None and self._phase is Phase.INCOMING:
            self._respond(self._incoming.asked, 180, headers=self._dialog_headers)

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
        self._accept(incoming.asked, description, offered=incoming.offer is None)

    async def reject(self, status: int, reason: str, retry_after: int | None = None) -> None:
        """Refuses; nothing where the caller gave up already. Raises `ProtocolError` once the call was answered."""
        if self._phase is Phase.ENDED:
            return
        if self._incoming is None or self._phase is not Phase.INCOMING:
            raise ProtocolError("the call was answered")
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._respond(self._incoming.asked, status, reason, headers=headers)
        self._end(Party.AGENT, reason, status)
        self._close()

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
        where = refer_to(target, self._peer_host)
        self._need_established()
        self._referred = asyncio.get_running_loop().create_future()
        headers = {"Refer-To": where, "Referred-By": self._contact, **self._dialog_headers}
        response = await self._transact("REFER", headers)
        succeed(response)
        if (response.headers.get("Refer-Sub") or "").lower() != "false":
            try:
                async with asyncio.timeout(self._give_up):
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
            succeed(await self._transact("INFO", {"Content-Type": DTMF_RELAY}, dtmf_relay(digit)))

    # ---------------------------------------------------------------- requests of the peer

    def _serve(self, asked: Asked) -> None:
        """Answers a request within the dialog."""
        method = asked.request.method
        try:
            handler = self._handlers.get(method)
            if handler is None:
                self._respond(asked, 405 if method in KNOWN else 501, headers={"Allow": ALLOW})
            else:
                handler(asked)
        except UnsupportedMediaType as error:
            self._respond(asked, error.sip_status, headers={"Accept": error.accept})
        except VoxtrunkError as error:
            self._respond(asked, error.sip_status, error.sip_reason)

    def _acknowledged(self, ack: Request) -> None:
        """Takes the ACK of a 200."""
        answer = self._answer
        if answer is None or ack.cseq.sequence != answer.sequence:
            return
        self._ladder.received(*shown(ack))
        self._forget_answer()
        if self._phase is Phase.ENDED:
            self._bye()
            return
        if self._phase is Phase.ANSWERED:
            self._step(Step.ACKNOWLEDGE)
            self._set_up()
        if answer.offered:
            try:
                self._negotiation.accept(description_of(ack))
                self._configure()
            except VoxtrunkError as error:
                log.info("unusable answer in ACK: %s", error)
                self._hang_up(Party.SYSTEM, "unusable answer")

    def _unacknowledged(self) -> None:
        """The ACK never came (RFC 3261 section 13.3.1.4)."""
        self._forget_answer()
        self._end(Party.SYSTEM, "the answer was not acknowledged", 408)
        self._bye()

    def _on_invite(self, asked: Asked) -> None:
        if self._phase is Phase.INCOMING:
            # RFC 3261 section 14.2.
            self._respond(asked, 500, headers={"Retry-After": str(random.randint(0, 10))})
            return
        if self._glare:
            self._respond(asked, 491)
            return
        body = sdp_body(asked.request)
        if body is None:
            description = self._negotiation.offer()
        else:
            description = self._negotiation.answer(parse_sdp(body))
            self._configure()
        self._refresh(asked.request)
        self._forget_answer()  # whoever asks again has had it
        self._accept(asked, description, offered=body is None)

    def _on_update(self, asked: Asked) -> None:
        """RFC 3311 section 5.2: with an offer it is answered like a re-INVITE, without one it refreshes."""
        headers = {**self._dialog_headers, "Allow": ALLOW}
        body = sdp_body(asked.request)
        if body is None:
            self._refresh(asked.request)
            self._respond(asked, 200, headers=headers)
        elif self._phase is Phase.INCOMING:
            self._respond(asked, 500, headers={"Retry-After": str(random.randint(0, 10))})
        elif self._glare:
            self._respond(asked, 491)
        else:
            description = self._negotiation.answer(parse_sdp(body))
            self._configure()
            self._refresh(asked.request)
            self._respond(asked, 200, headers=headers, description=description)

    @property
    def _glare(self) -> bool:
        """Whether an offer of ours is on its way (RFC 3261 section 14.2)."""
        return self._inviting or (self._answer is not None and self._answer.offered)

    def _on_info(self, asked: Asked) -> None:
        """A DTMF key, or a sign of life without a body (RFC 6086 section 4.2.2)."""
        if asked.request.body.strip():
            self._events.emit(parse_dtmf(asked.request))
        self._respond(asked, 200)

    def _on_options(self, asked: Asked) -> None:
        self._respond(asked, 200, headers=CAPABILITIES)

    def _on_notify(self, asked: Asked) -> None:
        """Progress of our REFER (RFC 3515 section 2.4.4)."""
        event = (asked.request.headers.get("Event") or "").partition(";")[0].strip().lower()
        if event != "refer":
            self._respond(asked, 489, headers={"Allow-Events": "refer"})
            return
        status = sipfrag_status(asked.request)
        self._respond(asked, 200)
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
                    succeed(response)
                    return
                if attempt < GLARE_RETRIES:
                    # RFC 3261 section 14.1: who made the Call-ID waits longer.
                    ours = self._incoming is None
                    await self._clock.sleep(random.uniform(2.1, 4.0) if ours else random.uniform(0.0, 2.0))
            raise CallFailed(491, "Request Pending")

    async def _offer(self, on_hold: bool) -> Response:
        """The final response to one re-INVITE; a 2xx is in force then."""
        before, self._negotiation.on_hold = self._negotiation.on_hold, on_hold
        self._inviting, agreed = True, False
        try:
            headers = {**self._dialog_headers, "Allow": ALLOW, "Content-Type": SDP}
            response = await self._transact("INVITE", headers, str(self._negotiation.offer()).encode())
            if response.code < 300:
                self._negotiation.accept(description_of(response))
                agreed = True
                self._configure()
        finally:
            self._inviting = False
            if not agreed:
                self._negotiation.on_hold = before
        return response

    def _forgotten(self, response: Response | None) -> None:
        """The peer no longer knows the dialog (RFC 3261 section 12.2.1.2); None: it did not answer."""
        self._end(Party.SYSTEM, "the peer no longer knows the call", 408 if response is None else response.code)
        self._close()

    # ---------------------------------------------------------------- inside

    def _step(self, step: Step) -> None:
        try:
            self._phase = PHASES[self._phase, step]
        except KeyError:
            raise ProtocolError(f"{step.name} in phase {self._phase.name}") from None

    def _set_up(self) -> None:
        self._was_up = True
        self._events.emit(Established())

    def _need_established(self) -> None:
        if self._phase is not Phase.ESTABLISHED:
            raise ProtocolError(f"the call is not up: {self._phase.name}")

    def _hang_up(self, by: Party, reason: str) -> None:
        if self._phase is Phase.ENDED:
            return
        if self._phase is Phase.INCOMING:
            self._refuse_invite(480)
            self._end(by, reason, 480)
            self._close()
            return
        # RFC 3261 section 15: no BYE before the ACK; `_acknowledged` or `_unacknowledged` sends it.
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
        self._ended()

    def _refuse_invite(self, status: int) -> None:
        if self._incoming is not None:
            self._respond(self._incoming.asked, status)

    def _accept(self, asked: Asked, description: SessionDescription, *, offered: bool) -> None:
        self._settled.clear()
        self._answer = Answer(asked.request.cseq.sequence, offered)
        self._send_answer(asked, description)

    def _forget_answer(self) -> None:
        if self._answer is not None:
            self._stop_repeating()
            self._answer = None
            self._settled.set()

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
                parameters=agreement.parameters,
                event_rate=agreement.event_rate,
                receives=agreement.receives,
                receives_events=agreement.receives_events,
                rtcp_port=agreement.rtcp_port,
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


def succeed(response: Response) -> None:
    """Raises `CallFailed` for a refusal."""
    if response.code >= 300:
        raise CallFailed(response.code, response.phrase)


def description_of(message: Request | Response) -> SessionDescription:
    """The SDP that `message` must have. Raises `BadRequest`."""
    body = sdp_body(message)
    if body is None:
        raise BadRequest("there is no SDP answer")
    return parse_sdp(body)
