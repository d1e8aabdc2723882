"""One call leg behind OpenSIPS: its session's events in, MI commands out.

OpenSIPS (modules/b2b_entities) runs the transactions, adds Contact and route set, repeats answers until
their ACK, and answers a re-INVITE that meets ours with 491. Here is what it leaves to do, and what it
leaves undone:

- every request of the peer but ACK is answered at once: an unanswered one makes the next fail with 500;
- after a CANCEL it sends no 487 and keeps the session, as it does after a refusal: both are terminated;
- a BYE that meets an unanswered request leaves the session behind: terminated, too;
- events overtake each other and the replies to our commands.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from connector.errors import BadEvent, CallFailed, MiError, MiRefused, MiTimeout, ProtocolError, VoxtrunkError
from connector.interfaces import CallInfo, Clock, MediaTimeout, Party
from connector.leg.events import Ladder
from connector.leg.notes import shown
from connector.leg.opensips_messages import request_of, response_of
from connector.leg.rtp_audio import RtpAudio
from connector.leg.sip_leg import CAPABILITIES, Asked, Incoming, LegOwner, Phase, SipLeg
from connector.mi.events import EventType, UaEvent
from connector.mi.sessions import Session, SessionState, UaSessions
from connector.sip.bodies import SDP
from connector.sip.dialog import contact_uri
from connector.sip.message import REASONS, Request, Response, Uri
from connector.sip.offer_answer import Negotiation
from connector.sip.sdp import SessionDescription
from connector.sip.transactions import Timing

log = logging.getLogger(__name__)

GIVE_UP = Timing().give_up
"""Seconds, 64*T1 (RFC 3261 section 17.1.1.2): for an ACK, or a final response to a request of ours."""

ACK_SECONDS = 8.0
"""OpenSIPS repeats a 200 for 5 s (tm's `fr_timeout` in ua.cfg): an ACK that is not there by now does not come."""

RECOVERY_SECONDS = 3.0
"""How long a re-INVITE for silent media may take, glare included."""

OVERTAKEN_SECONDS = 0.5
"""How long a request waits for the ACK that went before it, and that its event overtook."""

MOST_OVERTAKEN = 16
"""Requests that wait so; what comes above that is dropped."""

REMEMBERED = 64
"""Requests of the peer whose CSeq is remembered, so that a copy of an event is none of a request."""


class OpenSipsOwner(LegOwner["OpenSipsLeg"], Protocol):
    """What a leg wants of its endpoint."""

    def terminate(self, key: str) -> None:
        """Has OpenSIPS end and forget session `key`, as soon as it listens."""

    def reconcile(self, leg: OpenSipsLeg) -> None:
        """Asks OpenSIPS whether it still has the leg's session."""


class OpenSipsLeg(SipLeg):
    """A `Leg` whose messages OpenSIPS carries. `key`: its session's. `contact`: a SIP URI of ours.

    `media_timeout`: seconds of silence at which the call is given up, although re-INVITEs are answered.
    """

    def __init__(
        self,
        sessions: UaSessions,
        owner: OpenSipsOwner,
        key: str,
        info: CallInfo,
        negotiation: Negotiation,
        audio: RtpAudio,
        *,
        clock: Clock,
        ladder: Ladder,
        contact: str,
        peer: Uri,
        media_timeout: float,
        incoming: Incoming | None = None,
    ) -> None:
        self.key = key
        self._sessions = sessions
        self._owner = owner
        self._own_contact = f"<{contact}>"
        self._peer = peer
        self._media_timeout = media_timeout
        self._hearing_since: float | None = None
        """Since when the peer should send; None while it need not."""
        self._turn = asyncio.Lock()
        """Commands for OpenSIPS, one after the other."""
        self._last: asyncio.Future[None] | None = None
        self._owed = 0
        """Requests of the peer whose answer is not with OpenSIPS yet."""
        self._asking: dict[str, asyncio.Lock] = {}
        """One request of a method at a time, so that its answers can be told."""
        self._awaited: dict[str, asyncio.Future[Response]] = {}
        self._seen: deque[int] = deque(maxlen=REMEMBERED)
        self._overtaken: deque[Request] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._ack_overdue = False
        self._recovering = False
        super().__init__(info, negotiation, audio, clock=clock, ladder=ladder, give_up=GIVE_UP, incoming=incoming)

    # ---------------------------------------------------------------- Leg

    async def answer(self) -> None:
        """200 OK with our answer, or with our offer where they made none.

        Returns once OpenSIPS has it. Raises `ProtocolError` where the call has had its final answer or was
        cancelled.
        """
        await super().answer()
        if self._last is not None:
            await asyncio.wait({self._last})
        if self._phase is Phase.ENDED and not self._was_up:
            raise ProtocolError("the call ended before its answer")

    # ---------------------------------------------------------------- what the endpoint hands over

    def on_event(self, event: UaEvent) -> None:
        """Takes an event of the session. Raises `BadEvent`."""
        match event.type:
            case EventType.EARLY | EventType.ANSWERED | EventType.REJECTED:
                self._on_response(event)
            case EventType.UPDATED:
                self._on_request(request_of(event))
            case EventType.TERMINATED:
                self._ladder.received(event.method)
                self._ladder.sent("200 OK")
                self._on_terminated(event.method)
            case EventType.NEW:
                raise BadEvent("the session is known")

    def on_session(self, session: Session | None) -> None:
        """Takes what OpenSIPS says about the session; None: it has none."""
        if session is None or session.state is SessionState.TERMINATED:
            self.lost("OpenSIPS no longer has the call", there=session is not None)
        elif session.state is SessionState.ESTABLISHED and self._answer is not None and not self._answer.offered:
            self._take_for_acknowledged()
        elif session.state is SessionState.CONFIRMED and self._ack_overdue:
            self._unacknowledged()

    def lost(self, reason: str, *, there: bool) -> None:
        """Ends the leg: its session is gone, or of no more use but still `there`."""
        if self._phase is not Phase.ENDED:
            self._forget_answer()
            self._end(Party.SYSTEM, reason)
            if there:
                self._close()
            else:
                self._owner.closed(self)

    def abandon(self) -> None:
        """Stops its timers: the endpoint closes."""
        self._stop_repeating()
        self._overtaken.clear()

    # ---------------------------------------------------------------- requests of the peer

    def _on_request(self, request: Request) -> None:
        if request.method == "ACK":
            self._acknowledged(request)
            self._serve_overtaken()
            return
        if request.cseq.sequence in self._seen:
            return
        self._seen.append(request.cseq.sequence)
        if self._answer is not None and request.method != "UPDATE":
            # OpenSIPS takes no other request before the ACK: its event was overtaken, or got lost.
            if len(self._overtaken) < MOST_OVERTAKEN:
                self._overtaken.append(request)
                asyncio.get_running_loop().call_later(OVERTAKEN_SECONDS, self._take_for_acknowledged)
            return
        self._take(request)

    def _take(self, request: Request) -> None:
        self._ladder.received(*shown(request))
        asked = Asked(request)
        if self._phase is Phase.ENDED:
            self._respond(asked, 481)
        else:
            self._serve(asked)

    def _take_for_acknowledged(self) -> None:
        """Goes on without the event of an ACK that OpenSIPS must have had."""
        if self._answer is not None and (self._overtaken or not self._answer.offered):
            ack = Request("ACK", Uri("sip", ""))
            ack.headers.set("CSeq", f"{self._answer.sequence} ACK")
            self._acknowledged(ack)
        self._serve_overtaken()

    def _serve_overtaken(self) -> None:
        while self._overtaken and self._answer is None:
            self._take(self._overtaken.popleft())

    def _on_terminated(self, method: str) -> None:
        """BYE, or CANCEL of an INVITE. OpenSIPS has answered it 200."""
        if self._phase is Phase.ENDED:
            return  # both hung up at once
        forgotten = method == "BYE" and self._answer is None and not self._owed
        unanswered = self._phase is Phase.INCOMING
        if unanswered:
            self._refuse_invite(487)
        self._forget_answer()
        if method == "CANCEL":
            self._end(Party.CALLER, "cancelled", 487)
        else:
            self._end(Party.CALLER, "hung up")
        if forgotten:
            self._owner.closed(self)
        else:
            self._close()

    # ---------------------------------------------------------------- commands

    @property
    def _contact(self) -> str:
        return self._own_contact

    @property
    def _dialog_headers(self) -> Mapping[str, str]:
        return {}

    @property
    def _peer_host(self) -> str:
        return self._peer.host + (f":{self._peer.port}" if self._peer.port else "")

    def _refresh(self, message: Request) -> None:
        if message.headers.get("Contact"):
            self._peer = contact_uri(message)

    def _respond(
        self,
        asked: Asked,
        status: int,
        reason: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        description: SessionDescription | None = None,
    ) -> None:
        method = asked.request.method
        response = Response(status, reason or REASONS.get(status, "Unknown"))
        for name, value in (headers or {}).items():
            response.headers.set(name, value)
        if description is not None:
            response.headers.set("Content-Type", SDP)
            response.body = str(description).encode()
        self._ladder.sent(*shown(response))
        lines = {name: response.headers[name] for name in response.headers.keys()}  # noqa: SIM118  (no mapping)
        if status >= 200:
            self._owed += 1

        async def send() -> None:
            try:
                await self._sessions.reply(self.key, method, status, response.phrase, lines, response.body.decode())
            except MiRefused as refused:
                # The transaction is over: by a BYE or CANCEL whose event comes, or with the session.
                log.info("not answered", extra={"call_id": self._info.call_id, "status": status, "mi": str(refused)})
                self._owner.reconcile(self)
            if status >= 200:
                self._owed -= 1

        self._send(send)

    def _send_answer(self, asked: Asked, description: SessionDescription) -> None:
        self._respond(asked, 200, headers=CAPABILITIES, description=description)
        self._timer = asyncio.get_running_loop().call_later(ACK_SECONDS, self._ask_for_ack)

    def _ask_for_ack(self) -> None:
        """Asks OpenSIPS, since the event of the ACK may be lost; if that is silent, it has until `give_up`."""
        self._ack_overdue = True
        self._timer = asyncio.get_running_loop().call_later(self._give_up - ACK_SECONDS, self._unacknowledged)
        self._owner.reconcile(self)

    def _stop_repeating(self) -> None:
        self._ack_overdue = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self, command: Callable[[], Awaitable[None]]) -> None:
        """Has `command` run after those before it."""

        async def run() -> None:
            async with self._turn:
                try:
                    await command()
                except MiError as error:
                    # Repeated in vain: the endpoint reconciles its legs once OpenSIPS is heard again.
                    log.warning("OpenSIPS is silent", extra={"call_id": self._info.call_id, "mi": str(error)})

        self._last = self._owner.spawn(run())

    def _bye(self) -> None:
        self._ladder.sent("BYE")
        self._close()

    def _close(self) -> None:
        """Forgets the session, after what is on its way to it. OpenSIPS sends BYE where that is due."""

        async def terminate() -> None:
            self._owner.terminate(self.key)

        self._send(terminate)
        self._owner.closed(self)

    def _ended(self) -> None:
        self._owner.ended(self)
        self._owner.spawn(self._audio.aclose())

    # ---------------------------------------------------------------- requests of ours

    async def _transact(self, method: str, headers: Mapping[str, str], body: bytes = b"") -> Response:
        async with self._asking.setdefault(method, asyncio.Lock()):
            self._need_established()
            answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
            self._awaited[method] = answered
            self._pending.add(answered)
            request = Request(method, Uri("sip", ""), body)
            for name, value in headers.items():
                request.headers.set(name, value)
            self._ladder.sent(*shown(request))
            try:
                async with asyncio.timeout(self._give_up):
                    await self._command(method, headers, body)
                    response = await answered
            except TimeoutError:
                self._forgotten(None)
                raise CallFailed(408, "the peer did not answer") from None
            finally:
                del self._awaited[method]
                self._pending.discard(answered)
        if response.code in (408, 481):
            self._forgotten(response)
            raise CallFailed(response.code, response.phrase)
        if method == "INVITE" and response.code < 300:
            self._ladder.sent("ACK")
        return response

    async def _command(self, method: str, headers: Mapping[str, str], body: bytes) -> None:
        async with self._turn:
            try:
                await self._sessions.request(self.key, method, headers, body.decode())
            except MiTimeout:
                return  # it may have gone out all the same: then its answer comes
            except MiRefused as refused:
                self._owner.reconcile(self)
                raise CallFailed(500, f"OpenSIPS does not send {method}: {refused.message}") from refused

    def _on_response(self, event: UaEvent) -> None:
        response = response_of(event)
        self._ladder.received(*shown(response))
        answered = self._awaited.get(event.method)
        if response.code >= 200 and answered is not None and not answered.done():
            answered.set_result(response)

    # ---------------------------------------------------------------- silence

    def _configure(self) -> None:
        super()._configure()
        agreement = self._negotiation.agreement
        if agreement is None or not (agreement.direction.sends and agreement.direction.receives):
            self._hearing_since = None
        elif self._hearing_since is None:
            self._hearing_since = self._clock.now()

    def _on_media_timeout(self, seconds: float) -> None:
        """Asks with a re-INVITE whether anybody is there: through the edge it also mends a restarted rtpengine.

        While that is answered the silence may last, up to `media_timeout`: the phone is muted.
        """
        silent = seconds
        if self._hearing_since is not None:
            silent = self._clock.now() - max(self._audio.heard, self._hearing_since)
        if silent >= self._media_timeout:
            self._events.emit(MediaTimeout(silent))
        elif self._phase is not Phase.ENDED and not self._recovering:
            self._recovering = True
            self._owner.spawn(self._recover(silent))

    async def _recover(self, silent: float) -> None:
        log.info("no RTP: re-INVITE", extra={"call_id": self._info.call_id, "seconds": round(silent, 1)})
        heard = self._audio.heard
        try:
            await self._settled.wait()
            if self._audio.heard == heard:
                async with asyncio.timeout(RECOVERY_SECONDS):
                    await self._reinvite(self._negotiation.on_hold)
        except (TimeoutError, VoxtrunkError) as error:
            if self._phase is Phase.ESTABLISHED:
                log.warning("media lost", extra={"call_id": self._info.call_id, "error": str(error)})
                self._end(Party.SYSTEM, "no RTP, and no answer to a re-INVITE")
                self._bye()
        finally:
            self._recovering = False
