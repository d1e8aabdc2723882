"""The endpoint behind OpenSIPS: the UA's events become legs, and the UA learns that we live.

It shares one UA OpenSIPS (opensips/ua.cfg) with nobody: whatever session that has is ours, or is ended.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

from connector.config.model import EdgeSettings, IdentitySettings, MediaSettings, PairSettings, split_address
from connector.errors import (
    BadEvent,
    CallFailed,
    MediaError,
    MiError,
    MiRefused,
    Overloaded,
    VoxtrunkError,
)
from connector.interfaces import CallInfo, Clock, Leg
from connector.leg.admission import offer_of, refusal_headers
from connector.leg.endpoint import Refusal, capabilities
from connector.leg.events import Ladder
from connector.leg.notes import described, shown
from connector.leg.opensips_leg import OpenSipsLeg
from connector.leg.opensips_messages import request_of, response_of
from connector.leg.rtp_audio import RtpAudio
from connector.leg.sip_leg import ALLOW, Asked, Incoming, description_of
from connector.mi.client import MiClient
from connector.mi.event_socket import EventCounts, EventSocket
from connector.mi.events import EVENT, EventType, UaEvent, parse_event
from connector.mi.sessions import Session, SessionState, UaSessions
from connector.sip.bodies import SDP
from connector.sip.dialog import contact_uri
from connector.sip.identity import call_info
from connector.sip.message import REASONS, Address, Request, Response, host_of, hostport, parse_uri
from connector.sip.offer_answer import Negotiation
from connector.sip.sdp import SessionDescription
from connector.udp.ports import PortPool
from connector.udp.ticker import Ticker

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 1.0
"""ua.cfg takes us for dead after 3 s without one."""

SILENT_SECONDS = 3.0
"""Without a reply for so long MI counts as silent."""

CHECK_SECONDS = 15.0
"""Each leg's session is looked for in OpenSIPS so often."""

SWEEP_SECONDS = 60.0
"""Sessions that nobody knows are looked for so often, while the list fits into a datagram."""

LISTABLE = 60
"""Calls up to which `ua_session_list` is asked for all sessions: some 120 fit into its reply."""

STRAY_SECONDS = 2.0
"""How long events of an unknown session wait for it to become known, before it is ended."""

MOST_STRAYS = 256
"""Unknown sessions whose events wait, and events of one of them that do."""

REMEMBERED = 4096
"""Sessions that are over and whose late events tell nothing."""

SILENT_MEDIA_SECONDS = 5.0
"""Without RTP for so long a leg asks whether anybody is there."""

CANCEL_SECONDS = 10.0
"""How long a cancelled call may take to its final response."""

CLOSING_SECONDS = 2.0
"""How long `aclose` waits for OpenSIPS to end our sessions."""

UA_START_SECONDS = 6.0
"""A UA process takes no calls for so long after its start, in whole seconds of both clocks (opensips/ua.cfg)."""

PEER_HEADER = "X-Voxtrunk-Peer"
"""Who sent the INVITE to the edge (opensips/edge.cfg)."""


@dataclass(slots=True)
class _Opening:
    """A call whose media is being opened. `cancelled`: its caller gave up meanwhile."""

    cancelled: bool = False


class OpenSipsEndpoint:
    """Serves the calls of one pair. `on_call` gets each incoming leg once it may be answered, its media open.

    Refused before that, and told to `on_refused`: 400, 415, 416, 420, 488, and 503 above `max_calls`.
    `edge`: SIP URI that outgoing calls go by way of.
    """

    def __init__(
        self,
        pair: PairSettings,
        media: MediaSettings,
        *,
        max_calls: int,
        retry_after: int,
        clock: Clock,
        ticker: Ticker,
        ports: PortPool,
        on_call: Callable[[Leg], None],
        on_refused: Callable[[Refusal], None] = lambda refusal: None,
        identity: IdentitySettings | None = None,
        edge: str | None = None,
    ) -> None:
        self._pair = pair
        self._media = media
        self._capabilities = capabilities(media)
        self._max_calls = max_calls
        self._retry_after = retry_after
        self._clock = clock
        self._ticker = ticker
        self._ports = ports
        self._on_call = on_call
        self._on_refused = on_refused
        self._identity = identity or IdentitySettings()
        self._edge = edge
        self._local = split_address(pair.listen)
        self._mi = MiClient(_reachable(split_address(pair.mi)), clock)
        self._sessions = UaSessions(self._mi, split_address(pair.listen))
        self._events = EventSocket(split_address(pair.events), self._sources(), self._on_datagram)
        self._contact = f"sip:voxtrunk@{hostport(self._local)}"

        self._legs: dict[str, OpenSipsLeg] = {}
        self._calls: set[OpenSipsLeg] = set()
        self._opening: dict[str, _Opening] = {}
        self._dialling: dict[str, asyncio.Queue[UaEvent]] = {}
        self._strays: OrderedDict[str, list[UaEvent]] = OrderedDict()
        self._over: OrderedDict[str, None] = OrderedDict()
        self._condemned: set[str] = set()
        """Sessions that OpenSIPS is to end, as soon as it listens."""
        self._undying: set[str] = set()
        """Sessions that a sweep ended. OpenSIPS cannot be made to forget some: those are left alone."""
        self._checked: dict[str, float] = {}
        self._swept = 0.0
        self._up_since: str | None = None
        self._missing_events = ""
        self._takes_calls_at = 0.0
        self._started = clock.now()
        self._gap = True
        """MI was silent, or OpenSIPS was restarted: nothing that we believe is certain."""
        self._beating: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        self._closing = False

    # ---------------------------------------------------------------- life

    async def start(self) -> None:
        """Takes events and begins the heartbeat. OpenSIPS need not be there yet. Raises `MediaError`."""
        self._events.open()
        try:
            self._mi.open()
        except MediaError:
            self._events.close()
            raise
        self._started = self._clock.now()
        self._beating = asyncio.create_task(self._beat(), name="heartbeat")

    async def aclose(self) -> None:
        """Refuses new calls, hangs up all others, and closes. Idempotent."""
        self._closing = True
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait({self._beating})
            self._beating = None
            # From now on ua.cfg refuses calls at once.
            self.spawn(self._quietly(self._mi.call("shv_set", name="hb", type="int", value=0)))
        for leg in tuple(self._calls):
            await leg.hang_up("shutdown")
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                while self._tasks:
                    await asyncio.wait(self._tasks)
                    await asyncio.sleep(0)
        except TimeoutError:
            log.info("closed before OpenSIPS ended every session")
        for task in tuple(self._tasks):
            task.cancel()
        self._mi.close()
        self._events.close()
        for leg in tuple(self._legs.values()):
            leg.abandon()
        while self._tasks:
            await asyncio.wait(self._tasks)
            await asyncio.sleep(0)

    @property
    def local(self) -> Address:
        """Address and port of the UA's SIP socket."""
        return self._local

    @property
    def calls(self) -> int:
        """Calls that count against `max_calls`."""
        return len(self._calls) + len(self._opening)

    @property
    def problem(self) -> str:
        """Why no call can come now, in words; "" where one can."""
        silent = self._clock.now() - (self._started if self._mi.heard is None else self._mi.heard)
        if silent >= SILENT_SECONDS:
            return f"OpenSIPS does not answer at {self._pair.mi} (MI, UDP) for {silent:.0f} s: is the UA running?"
        if self._mi.heard is None:
            return f"OpenSIPS has not answered at {self._pair.mi} (MI, UDP) yet"
        if self._clock.now() < self._takes_calls_at:
            return "OpenSIPS has just been started: it takes calls a few seconds later"
        return self._missing_events

    # ---------------------------------------------------------------- calling

    async def dial(
        self,
        uri: str,
        *,
        calling: str = "voxtrunk",
        headers: Mapping[str, str] | None = None,
        on_provisional: Callable[[int, str], None] | None = None,
    ) -> Leg:
        """Calls `uri` by way of the edge and returns the answered leg; cancelling the task cancels the call.

        `calling`: user part of From. `headers`: more headers for the INVITE. `on_provisional(status, reason)`: 180
        and the like. Raises `CallFailed` with the final status, `BadRequest` for an URI that is none,
        `MediaError` where no socket can be had, `MiError` where OpenSIPS does not take the call.
        """
        target = parse_uri(uri)
        audio = await self._open_audio()
        negotiation, ladder = self._negotiation(audio), Ladder(self._clock)
        offer = negotiation.offer()
        ladder.sent("INVITE", described(offer))
        host = host_of(self._local[0])
        starting = asyncio.ensure_future(
            self._sessions.start(
                uri,
                f"sip:{quote(calling, safe='+*')}@{host}:{self._local[1]}",
                {"Content-Type": SDP, "Allow": ALLOW, **(headers or {})},
                str(offer),
                socket=f"udp:{host}:{self._local[1]}",
                proxy=self._edge or uri,
            )
        )
        key = ""
        try:
            key = await asyncio.shield(starting)
            events = self._dialling[key] = asyncio.Queue()
            for event in self._strays.pop(key, []):
                events.put_nowait(event)
            answer = await self._answered(events, negotiation, ladder, on_provisional)
            info = CallInfo(key, target.user or "", calling, peer=self._edge or uri)
            leg = self._leg(key, info, negotiation, audio, ladder, answer, None)
        except BaseException as error:
            self._dialling.pop(key, None)
            if isinstance(error, CallFailed):
                self._forget(key)
            elif key and isinstance(error, VoxtrunkError):
                self.terminate(key)  # its answer is of no use
            else:
                self.spawn(self._quietly(self._cancel(starting)))
            await audio.aclose()
            raise
        del self._dialling[key]
        while not events.empty():
            try:
                leg.on_event(events.get_nowait())
            except BadEvent as error:
                self._unusable(error)
        return leg

    async def _answered(
        self,
        events: asyncio.Queue[UaEvent],
        negotiation: Negotiation,
        ladder: Ladder,
        on_provisional: Callable[[int, str], None] | None,
    ) -> Response:
        """The 2xx to our INVITE, its answer taken. Raises `CallFailed`, and what an unusable answer stands for."""
        early: list[SessionDescription] = []
        while True:
            event = await events.get()
            if event.type is EventType.TERMINATED:
                raise CallFailed(487, "the call was ended before its answer")
            if event.type is EventType.UPDATED or event.method != "INVITE":
                continue
            response = response_of(event)
            ladder.received(*shown(response))
            if event.type is EventType.REJECTED:
                raise CallFailed(event.status, event.reason)
            if event.type is EventType.EARLY:
                with suppress(VoxtrunkError):
                    early.append(description_of(response))
                if on_provisional is not None and event.status > 100:
                    on_provisional(event.status, event.reason)
                continue
            ladder.sent("ACK")
            # Who sent the answer in a 183 need not repeat it, some do not.
            negotiation.accept(early[-1] if early and not response.body.strip() else description_of(response))
            return response

    async def _cancel(self, starting: asyncio.Future[str]) -> None:
        """Gives up an outgoing call. Raises `MiError`."""
        key = await starting
        self._strays.pop(key, None)
        self._forget(key)
        asyncio.get_running_loop().call_later(CANCEL_SECONDS, self._bury, key)
        try:
            await self._sessions.cancel(key)
        except MiRefused:
            self.terminate(key)  # answered meanwhile

    def _bury(self, key: str) -> None:
        """Ends a session that should be gone by now."""
        if not self._closing:
            self.spawn(self._quietly(self._terminate_if_there(key)))

    async def _terminate_if_there(self, key: str) -> None:
        if await self._sessions.find(key) is not None:
            self.terminate(key)

    # ---------------------------------------------------------------- heartbeat and reconciliation

    async def _beat(self) -> None:
        while True:
            due = self._clock.now() + HEARTBEAT_SECONDS
            try:
                await self._mi.call("shv_set", name="hb", type="int", value=int(self._clock.wall()))
                await self._look()
            except MiError as error:
                if not self._gap:
                    log.warning("OpenSIPS is silent", extra={"mi": str(error)})
                self._gap = True
            await self._clock.sleep(max(0.0, due - self._clock.now()))

    async def _look(self) -> None:
        """What is done while OpenSIPS answers. Raises `MiError`."""
        uptime = await self._mi.call("uptime")
        up_since = str(uptime.get("Up since")) if isinstance(uptime, dict) else ""
        seconds = re.match("[0-9]+", str(uptime.get("Up time"))) if isinstance(uptime, dict) else None
        self._takes_calls_at = self._clock.now() + max(0.0, UA_START_SECONDS - int(seconds[0])) if seconds else 0.0
        if self._up_since not in (None, up_since):
            log.warning("OpenSIPS was restarted", extra={"up_since": up_since})
            self._gap = True
        self._up_since = up_since
        now = self._clock.now()
        if self._gap or self._missing_events:
            # MI answers before startup_route has subscribed.
            self._missing_events = await self._subscription()
        if self._gap:
            self._gap = False
            self._swept = now
            self.spawn(self._quietly(self._sweep()))
            for leg in self._legs.values():
                self.reconcile(leg)
        elif now - self._swept >= SWEEP_SECONDS and len(self._legs) <= LISTABLE:
            self._swept = now
            self.spawn(self._quietly(self._sweep()))
        for key, leg in self._legs.items():
            if now - self._checked.setdefault(key, now) >= CHECK_SECONDS:
                self.reconcile(leg)
        for key in tuple(self._condemned):
            self.terminate(key)

    async def _subscription(self) -> str:
        """What is wrong with where OpenSIPS sends its events, "" for nothing. Raises `MiError`."""
        wanted = f"udp:{self._pair.events}"
        listed = await self._mi.call("subscribers_list")
        if wanted in str(listed):
            return ""
        return f"OpenSIPS sends no {EVENT} to {self._pair.events}: was ua-site.cfg written for another pair?"

    def reconcile(self, leg: OpenSipsLeg) -> None:
        if self._legs.get(leg.key) is leg:
            self._checked[leg.key] = self._clock.now()
            self.spawn(self._quietly(self._check(leg)))

    async def _check(self, leg: OpenSipsLeg) -> None:
        session = await self._sessions.find(leg.key)
        if session is None:
            # Its BYE may be on the way to us.
            await self._clock.sleep(0.2)
        if self._legs.get(leg.key) is leg:
            leg.on_session(session)

    async def _sweep(self) -> None:
        """Ends sessions that nobody here knows: of an earlier life of ours, or whose first event was lost.

        Raises `MiError`, also where there are too many for one datagram.
        """
        listed = {session.key for session in await self._sessions.all()}
        self._undying &= listed
        suspects = [key for key in listed - self._undying if not self._known(key)]
        if not suspects:
            return
        await self._clock.sleep(STRAY_SECONDS)  # its first event may be on the way to us
        for key in suspects:
            session = None if self._known(key) else await self._sessions.find(key)
            if session is not None and not self._known(key):
                log.info("a session that nobody knows is ended", extra={"session": key})
                self._undying.add(key)
                await self._end_stray(session)

    async def _end_stray(self, session: Session) -> None:
        """Ends a session that nobody here knows. Raises `MiTimeout`."""
        if session.state < SessionState.CONFIRMED:
            # While its INVITE has no final answer OpenSIPS keeps it, terminated or not. One of ours takes no answer.
            with suppress(MiRefused):
                await self._sessions.reply(session.key, "INVITE", 480, REASONS[480], {})
        self.terminate(session.key)

    def _known(self, key: str) -> bool:
        return key in self._legs or key in self._opening or key in self._dialling

    # ---------------------------------------------------------------- OpenSipsOwner

    def ended(self, leg: OpenSipsLeg) -> None:
        self._calls.discard(leg)

    def closed(self, leg: OpenSipsLeg) -> None:
        self._legs.pop(leg.key, None)
        self._checked.pop(leg.key, None)
        self._forget(leg.key)

    def terminate(self, key: str) -> None:
        self._condemned.add(key)
        self._forget(key)
        self.spawn(self._quietly(self._terminate(key)))

    async def _terminate(self, key: str) -> None:
        await self._sessions.terminate(key)
        self._condemned.discard(key)

    def spawn(self, work: Awaitable[None]) -> asyncio.Future[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _quietly(self, work: Awaitable[object]) -> None:
        """What may fail for OpenSIPS' silence, and is done again then."""
        try:
            await work
        except MiError as error:
            log.info("OpenSIPS: %s", error)

    def _forget(self, key: str) -> None:
        self._over[key] = None
        while len(self._over) > REMEMBERED:
            self._over.popitem(last=False)

    # ---------------------------------------------------------------- events

    def _sources(self) -> frozenset[str]:
        """Where events may come from: OpenSIPS shares an address with us, or has one of its sockets'."""
        addresses = (self._pair.mi, self._pair.listen, self._pair.events)
        return frozenset(_reachable(split_address(address))[0] for address in addresses)

    @property
    def dropped(self) -> EventCounts:
        """Events that were none, or came too late."""
        return self._events.counts

    def _on_datagram(self, data: bytes) -> None:
        try:
            self._on_event(parse_event(data))
        except BadEvent as error:
            self._unusable(error)

    def _unusable(self, error: BadEvent) -> None:
        self._events.counts.malformed += 1
        log.debug("unusable event: %s", error)

    def _on_event(self, event: UaEvent) -> None:
        """Raises `BadEvent`."""
        key = event.key
        if leg := self._legs.get(key):
            leg.on_event(event)
        elif opening := self._opening.get(key):
            self._while_opening(opening, event)
        elif dialling := self._dialling.get(key):
            dialling.put_nowait(event)
        elif key in self._over:
            self._events.counts.over += 1
        elif event.type is EventType.NEW:
            self._new(event)
        else:
            self._stray(event)

    def _while_opening(self, opening: _Opening, event: UaEvent) -> None:
        if event.type is EventType.NEW:
            raise BadEvent("the session is known")
        opening.cancelled = opening.cancelled or event.type is EventType.TERMINATED

    def _stray(self, event: UaEvent) -> None:
        """Keeps an event of a session that is not known: its first one was overtaken, or is another process's."""
        waiting = self._strays.get(event.key)
        if waiting is None:
            if len(self._strays) >= MOST_STRAYS:
                self._events.counts.over += 1
                return
            waiting = self._strays[event.key] = []
            asyncio.get_running_loop().call_later(STRAY_SECONDS, self._give_up, event.key)
        if len(waiting) < MOST_STRAYS:
            waiting.append(event)

    def _give_up(self, key: str) -> None:
        """Ends a session that stayed unknown."""
        if self._strays.pop(key, None) is not None and not self._closing:
            self.terminate(key)

    # ---------------------------------------------------------------- incoming calls

    def _new(self, event: UaEvent) -> None:
        """A call. Raises `BadEvent`; the session of such an event is ended by the next sweep."""
        key = event.key
        early = self._strays.pop(key, [])
        if not event.extra:
            raise BadEvent("NEW has no request URI")
        invite = request_of(event)
        ladder = Ladder(self._clock)
        ladder.received(*shown(invite))
        ladder.sent("100 Trying")
        self._opening[key] = opening = _Opening()
        self.spawn(self._quietly(self._sessions.reply(key, "INVITE", 100, REASONS[100], {})))
        try:
            incoming = self._admit(invite)
        except VoxtrunkError as error:
            self._refuse(key, invite, error)
            return
        for other in early:
            self._while_opening(opening, other)
        self.spawn(self._open(key, opening, incoming, ladder))

    def _admit(self, invite: Request) -> Incoming:
        """Raises the `VoxtrunkError` that refuses the call."""
        offer = offer_of(invite, self._pair.media, self._capabilities)
        if self._closing or self.calls > self._max_calls:
            raise Overloaded("the cap on calls is reached", self._retry_after)
        return Incoming(Asked(invite), offer)

    def _refuse(self, key: str, invite: Request, error: VoxtrunkError) -> None:
        self._opening.pop(key, None)
        self._forget(key)
        self.spawn(self._reject(key, error.sip_status, error.sip_reason, refusal_headers(error)))
        self._on_refused(Refusal(self._info(invite), error.sip_status, str(error)))

    async def _reject(self, key: str, status: int, reason: str, headers: Mapping[str, str]) -> None:
        await self._quietly(self._sessions.reply(key, "INVITE", status, reason, headers))
        self.terminate(key)

    async def _open(self, key: str, opening: _Opening, incoming: Incoming, ladder: Ladder) -> None:
        """Opens the media of an admitted call and hands it over."""
        invite = incoming.asked.request
        try:
            audio = await self._open_audio()
        except MediaError as error:
            self._refuse(key, invite, error)
            return
        if opening.cancelled or self._closing:
            del self._opening[key]
            await self._reject(key, 487, REASONS[487], {})
            await audio.aclose()
            return
        leg = self._leg(key, self._info(invite), self._negotiation(audio), audio, ladder, invite, incoming)
        del self._opening[key]
        self._on_call(leg)

    def _leg(
        self,
        key: str,
        info: CallInfo,
        negotiation: Negotiation,
        audio: RtpAudio,
        ladder: Ladder,
        peer: Request | Response,
        incoming: Incoming | None,
    ) -> OpenSipsLeg:
        leg = OpenSipsLeg(
            self._sessions,
            self,
            key,
            info,
            negotiation,
            audio,
            clock=self._clock,
            ladder=ladder,
            contact=self._contact,
            peer=contact_uri(peer),
            media_timeout=self._media.timeout,
            incoming=incoming,
        )
        self._calls.add(leg)
        self._legs[key] = leg
        return leg

    def _info(self, invite: Request) -> CallInfo:
        return call_info(
            request_uri=str(invite.uri),
            headers=invite.headers,
            call_id=invite.headers["Call-ID"],
            peer=_peer(invite.headers.get(PEER_HEADER) or ""),
            settings=self._identity,
        )

    def _negotiation(self, audio: RtpAudio) -> Negotiation:
        return Negotiation(self._pair.media, audio.local[1], secrets.randbelow(2**31) + 1, self._capabilities)

    async def _open_audio(self) -> RtpAudio:
        return await RtpAudio.open(
            address=self._pair.media,
            ports=self._ports,
            ticker=self._ticker,
            clock=self._clock,
            timeout=min(SILENT_MEDIA_SECONDS, self._media.timeout),
        )


def edge_uri(edge: EdgeSettings) -> str:
    """The SIP URI of the edge for requests that leave by it."""
    transport, _, address = next((one for one in edge.listen if one.startswith("udp:")), edge.listen[0]).partition(":")
    host, port = _reachable(split_address(address))
    return f"sip:{hostport((host, port))}" + ("" if transport == "udp" else f";transport={transport}")


def _reachable(address: Address) -> Address:
    """Where to send for something that listens on `address`: the unspecified one is every local one."""
    unspecified = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (compared, not bound)
    return unspecified.get(address[0], address[0]), address[1]


def _peer(value: str) -> str:
    """What the edge says of the peer, an IPv6 address in its usual form."""
    try:
        return hostport(split_address(value))
    except ValueError:
        return value
