"""The embedded endpoint: a SIP user agent over UDP for laptops and labs (RFC 3261 UAS and UAC).

It serves calls without a SIP server beside it, on loopback, or further where an allow-list or
digest users keep strangers out. No TLS, no registrar, no trunks: OpenSIPS does those.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote

from connector.config.model import IdentitySettings, MediaSettings, SipSettings
from connector.errors import (
    BadRequest,
    CallFailed,
    ConfigError,
    Forbidden,
    MediaError,
    Overloaded,
    Problem,
    Unauthorized,
    VoxtrunkError,
)
from connector.interfaces import CallInfo, Clock, Leg
from connector.leg.admission import BadExtension, offer_of, refusal_headers
from connector.leg.embedded_leg import EmbeddedLeg, contact
from connector.leg.endpoint import Refusal, capabilities
from connector.leg.events import Ladder
from connector.leg.invitation import Identity, Invitation
from connector.leg.notes import shown
from connector.leg.rtp_audio import RtpAudio
from connector.leg.sip_leg import ALLOW, CAPABILITIES, KNOWN, Asked, Incoming
from connector.leg.sip_socket import SipSocket
from connector.sip.bodies import sdp_body
from connector.sip.dialog import Dialog, DialogId
from connector.sip.digest import DigestClient, DigestServer, MissingCredentials, Stale
from connector.sip.identity import call_info
from connector.sip.message import (
    DEFAULT_PORT,
    Address,
    BadMessage,
    Request,
    Response,
    Uri,
    from_tag,
    host_of,
    hostport,
    parse_uri,
    respond,
    stateless_tag,
    to_tag,
    tokens,
)
from connector.sip.offer_answer import Negotiation
from connector.sip.sdp import SessionDescription, parse_sdp
from connector.sip.transactions import Key, Timing, cancelled_key
from connector.udp.ports import PortPool
from connector.udp.ticker import Ticker

log = logging.getLogger(__name__)

IN_DIALOG = frozenset({"BYE", "INFO", "UPDATE", "NOTIFY", "PRACK"})
"""Methods that make sense within a call alone: outside of one they are answered 481."""

CLOSING_SECONDS = 2.0
"""How long `aclose` waits for the answers to its BYEs."""


class Merged(BadRequest):
    """A request that came before, another way (RFC 3261 section 8.2.2.2)."""

    sip_status = 482
    sip_reason = "Loop Detected"


class EmbeddedEndpoint:
    """The user agent. `on_call` gets each incoming leg once it may be answered: admitted, its media open.

    Refused before that: 400, 415, 416, 420, 482, 488, and 401, 403, 503 by `sip`'s settings; `on_refused`
    is told, but for requests to prove oneself first, which belong to digest. The called number is not
    looked at: `on_call` rejects with 404.
    """

    def __init__(
        self,
        sip: SipSettings,
        media: MediaSettings,
        *,
        clock: Clock,
        ticker: Ticker,
        ports: PortPool,
        on_call: Callable[[Leg], None],
        on_refused: Callable[[Refusal], None] = lambda refusal: None,
        identity: IdentitySettings | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._sip = sip
        self._media = media
        self._capabilities = capabilities(media)
        self._identity = identity or IdentitySettings()
        self._clock = clock
        self._ticker = ticker
        self._ports = ports
        self._on_call = on_call
        self._on_refused = on_refused
        self._socket = SipSocket(
            clock,
            timing or Timing(),
            _advertised(sip.advertise),
            self._on_request,
            self._on_ack,
            self._on_unreadable,
        )
        self._host, self._port = listen_address(sip.listen)
        self._digest = (
            DigestServer(
                sip.realm,
                {user.name: user.password.get_secret_value() for user in sip.users},
                secrets.token_bytes(32),
            )
            if sip.users
            else None
        )
        self._dialogs: dict[DialogId, EmbeddedLeg] = {}
        self._invited: dict[Key, EmbeddedLeg] = {}
        """Incoming legs without a final answer, for CANCEL."""
        self._opening: dict[Key, Request] = {}
        """Admitted INVITEs whose media is being opened."""
        self._calls: set[EmbeddedLeg] = set()
        self._tasks: set[asyncio.Future[None]] = set()
        self._closing = False

    # ---------------------------------------------------------------- life

    async def start(self) -> None:
        """Binds. Raises `MediaError` (port taken, address not local), `ConfigError` (open to strangers)."""
        if not ipaddress.ip_address(self._host).is_loopback and not (self._sip.allow or self._digest):
            raise ConfigError(
                [
                    Problem(
                        "voxtrunk.yml",
                        0,
                        "sip.listen",
                        f"{self._sip.listen} is reachable by strangers",
                        "list the networks that may call in sip.allow, or users in sip.users, or listen on 127.0.0.1",
                    )
                ]
            )
        self._socket.open(self._host, self._port)

    async def aclose(self) -> None:
        """Refuses new calls, hangs up all others, and closes. Idempotent."""
        self._closing = True
        for leg in tuple(self._calls):
            await leg.hang_up("shutdown")
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                await self._socket.drained()
        except TimeoutError:
            log.info("closed before every BYE was answered")
        self._socket.close()
        for leg in self._dialogs.values():
            leg.abandon()
        while self._tasks:
            # `wait` does not yield where all are done, and their own callbacks would never run.
            done, _ = await asyncio.wait(self._tasks)
            self._tasks -= done

    @property
    def local(self) -> Address:
        """Address and port of the SIP socket."""
        return self._socket.bound

    @property
    def problem(self) -> str:
        """Why no call can come now: nothing keeps them away once it is started."""
        return ""

    @property
    def calls(self) -> int:
        """Calls that count against `max_calls`."""
        return len(self._calls) + len(self._opening)

    # ---------------------------------------------------------------- calling

    async def dial(
        self,
        uri: str,
        *,
        calling: str = "voxtrunk",
        username: str | None = None,
        password: str | None = None,
        headers: Mapping[str, str] | None = None,
        on_provisional: Callable[[int, str], None] | None = None,
    ) -> Leg:
        """Calls `uri` and returns the answered leg; cancelling the task cancels the call.

        `calling`: user part of From. `username`, `password`: for digest, where the peer asks.
        `headers`: more headers for the INVITE. `on_provisional(status, reason)`: 180 and the like.
        Raises `CallFailed` with the final status (408: nobody answered), `BadRequest` for an URI
        that is none, `MediaError` where no socket can be had.
        """
        target = parse_uri(uri)
        if target.scheme != "sip" or (target.parameters.get("transport") or "udp").lower() != "udp":
            raise BadRequest("only sip: URIs over UDP can be called")
        peer = await _resolve(target, self.local[0])
        sent_by = self._socket.sent_by(peer[0])
        audio = await self._open_audio(peer[0])
        negotiation = Negotiation(sent_by[0], audio.local[1], _session_id(), self._capabilities)
        credentials = None
        if password is not None:
            credentials = DigestClient(username or calling, password, lambda: secrets.token_hex(8))
        host = host_of(sent_by[0])
        local = f"<sip:{quote(calling, safe='+*')}@{host}:{sent_by[1]}>;tag={secrets.token_hex(8)}"
        identity = Identity(target, local, contact(sent_by), f"{secrets.token_hex(16)}@{host}")
        info = CallInfo(identity.call_id, target.user or "", calling, peer=hostport(peer))
        early: list[SessionDescription] = []
        ladder = Ladder(self._clock)

        def provisional(response: Response) -> None:
            early.extend(_early_description(response))
            if on_provisional is not None:
                on_provisional(response.code, response.phrase)

        def establish(dialog: Dialog, response: Response) -> EmbeddedLeg:
            body = sdp_body(response)
            # Who sent the answer in a 183 need not repeat it, some do not.
            if body is None and early:
                negotiation.accept(early[-1])
            else:
                negotiation.accept(parse_sdp(body or b""))
            leg = EmbeddedLeg(
                self._socket, self, info, dialog, negotiation, audio, ladder=ladder, credentials=credentials
            )
            self._calls.add(leg)
            self._dialogs[dialog.id] = leg
            return leg

        invitation = Invitation(
            self._socket,
            identity,
            peer,
            str(negotiation.offer()).encode(),
            headers=headers or {},
            credentials=credentials,
            ladder=ladder,
            establish=establish,
            on_provisional=provisional,
        )
        try:
            return await invitation.answered()
        except BaseException:
            invitation.cancel()
            await audio.aclose()
            raise

    # ---------------------------------------------------------------- LegOwner

    def ended(self, leg: EmbeddedLeg) -> None:
        self._calls.discard(leg)
        self._invited = {key: other for key, other in self._invited.items() if other is not leg}

    def closed(self, leg: EmbeddedLeg) -> None:
        self._dialogs.pop(leg.dialog_id, None)

    def spawn(self, work: Awaitable[None]) -> asyncio.Future[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---------------------------------------------------------------- requests

    def _on_ack(self, request: Request, source: Address) -> None:
        leg = self._dialogs.get(DialogId(request.call_id, to_tag(request), from_tag(request)))
        if leg is not None:
            leg.on_ack(request)

    def _on_unreadable(self, error: BadMessage, source: Address) -> None:
        log.debug("unreadable SIP message", extra={"peer": source[0], "error": str(error)})
        if error.response is not None and (error.response.headers.get("CSeq") or "").endswith("INVITE"):
            self._on_refused(Refusal(CallInfo("", "", "", peer=hostport(source)), error.response.code, str(error)))

    def _on_request(self, key: Key, request: Request, source: Address) -> None:
        if request.method == "CANCEL":
            self._cancel(key, request)
        elif tag := to_tag(request):
            self._within(key, request, source, tag)
        else:
            self._outside(key, request, source)

    def _within(self, key: Key, request: Request, source: Address, tag: str) -> None:
        """A request in a dialog: whoever knows its tags was admitted, or was told them."""
        leg = self._dialogs.get(DialogId(request.call_id, tag, from_tag(request)))
        if leg is None:
            self._socket.respond_once(key, respond(request, 481, to_tag=tag))
        elif unsupported := tokens(request, "Require"):
            self._refuse(key, request, BadExtension(unsupported))
        else:
            leg.on_request(key, request, source)

    def _outside(self, key: Key, request: Request, source: Address) -> None:
        """A request outside of any dialog (section 8.2): first of all, may its sender ask?"""
        method = request.method
        try:
            self._admit(request, source)
        except VoxtrunkError as error:
            self._socket.respond_once(key, self._refusal(request, error))
            log.debug("not admitted", extra={"peer": hostport(source), "method": method, "reason": str(error)})
            if method == "INVITE" and not isinstance(error, MissingCredentials | Stale):
                self._on_refused(Refusal(self._info(request, source), error.sip_status, str(error)))
            return
        if method == "INVITE":
            self._invite(key, request, source)
        elif unsupported := tokens(request, "Require"):
            self._refuse(key, request, BadExtension(unsupported))
        elif method == "OPTIONS":
            self._respond(key, request, 200, CAPABILITIES)
        elif method in IN_DIALOG:
            self._respond(key, request, 481)
        else:
            self._respond(key, request, 405 if method in KNOWN else 501, {"Allow": ALLOW})

    def _respond(self, key: Key, request: Request, status: int, headers: Mapping[str, str] | None = None) -> None:
        response = respond(request, status, to_tag=stateless_tag(request))
        for name, value in (headers or {}).items():
            response.headers.set(name, value)
        self._socket.respond(key, response)

    def _cancel(self, key: Key, request: Request) -> None:
        """RFC 3261 section 9.2: 200 to the CANCEL, and 487 to what it cancels where that is not answered."""
        invite = cancelled_key(request)
        if not self._socket.known(invite):
            self._socket.respond_once(key, respond(request, 481, to_tag=stateless_tag(request)))
            return
        self._respond(key, request, 200)
        if leg := self._invited.get(invite):
            leg.cancel(request)
        elif opening := self._opening.pop(invite, None):
            self._respond(invite, opening, 487)

    def _invite(self, key: Key, request: Request, source: Address) -> None:
        """An INVITE of somebody who may call."""
        ladder = Ladder(self._clock)
        ladder.received(*shown(request))
        self._respond(key, request, 100)
        ladder.sent("100 Trying")
        try:
            if self._socket.merged(key, request):
                raise Merged("the request came before, another way")
            offer = offer_of(request, self._socket.local_ip(source[0]), self._capabilities)
            if self._closing or self.calls >= self._sip.max_calls:
                raise Overloaded("the cap on calls is reached", self._sip.retry_after)
        except VoxtrunkError as error:
            self._refuse_call(key, request, source, error)
            return
        self._opening[key] = request
        self.spawn(self._open(Incoming(Asked(request, key), offer), key, source, ladder))

    def _admit(self, request: Request, source: Address) -> None:
        """Raises `Forbidden`, or `Unauthorized` where digest could still let the caller in."""
        if self._trusted(source):
            return
        if self._digest is None:
            raise Forbidden("the address is not on the allow-list")
        credentials = request.headers.getlist("Authorization")
        self._digest.verify(request.method, credentials, self._clock.now())

    def _trusted(self, source: Address) -> bool:
        address = ipaddress.ip_address(source[0].partition("%")[0])
        if any(address in network for network in self._sip.allow):
            return True
        loopback = ipaddress.ip_address(self._socket.bound[0]).is_loopback
        return self._digest is None and loopback and address.is_loopback

    def _refuse_call(self, key: Key, request: Request, source: Address, error: VoxtrunkError) -> None:
        self._refuse(key, request, error)
        self._on_refused(Refusal(self._info(request, source), error.sip_status, str(error)))

    def _refuse(self, key: Key, request: Request, error: VoxtrunkError) -> None:
        self._socket.respond(key, self._refusal(request, error))

    def _refusal(self, request: Request, error: VoxtrunkError) -> Response:
        """The response that `error` stands for."""
        response = respond(request, error.sip_status, error.sip_reason, to_tag=stateless_tag(request))
        if isinstance(error, Unauthorized) and self._digest is not None:
            challenges = self._digest.challenges(self._clock.now(), stale=isinstance(error, Stale))
            response.headers.setlist("WWW-Authenticate", challenges)
        for name, value in refusal_headers(error).items():
            response.headers.set(name, value)
        return response

    async def _open(self, incoming: Incoming, key: Key, source: Address, ladder: Ladder) -> None:
        """Opens the media of an admitted call and hands it over."""
        request = incoming.asked.request
        try:
            audio = await self._open_audio(source[0])
        except MediaError as error:
            if self._opening.pop(key, None) is not None:
                self._refuse_call(key, request, source, error)
            return
        if self._opening.pop(key, None) is None:
            await audio.aclose()  # cancelled meanwhile
            return
        if self._closing:
            self._refuse_call(key, request, source, Overloaded("the endpoint closes", self._sip.retry_after))
            await audio.aclose()
            return
        address = self._socket.local_ip(source[0])
        dialog = Dialog.from_request(request, secrets.token_hex(8), source, secrets.randbelow(2**16))
        negotiation = Negotiation(address, audio.local[1], _session_id(), self._capabilities)
        leg = EmbeddedLeg(
            self._socket,
            self,
            self._info(request, source),
            dialog,
            negotiation,
            audio,
            ladder=ladder,
            incoming=incoming,
        )
        self._calls.add(leg)
        self._invited[key] = leg
        self._dialogs[dialog.id] = leg
        self._on_call(leg)

    def _info(self, request: Request, source: Address) -> CallInfo:
        return call_info(
            request_uri=str(request.uri),
            headers=request.headers,
            call_id=request.call_id,
            peer=hostport(source),
            settings=self._identity,
        )

    async def _open_audio(self, peer: str) -> RtpAudio:
        return await RtpAudio.open(
            address=self._socket.bind_ip(peer),
            ports=self._ports,
            ticker=self._ticker,
            clock=self._clock,
            timeout=self._media.timeout,
            signalling=peer if self._media.nat else None,
        )


def listen_address(listen: str) -> Address:
    """ADDRESS:PORT, IPv6 in brackets. Raises `ConfigError`."""
    host, _, port = listen.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        ipaddress.ip_address(host)
        number = int(port)
    except ValueError:
        number = -1
    if not 0 <= number < 65536:
        hint = "ADDRESS:PORT with a numeric address, such as 127.0.0.1:5060"
        raise ConfigError([Problem("voxtrunk.yml", 0, "sip.listen", f"{listen!r} is no address to listen on", hint)])
    return host, number


def _advertised(address: str | None) -> str | None:
    """Raises `ConfigError` where it is no address."""
    try:
        return None if address is None else str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        hint = "a numeric address, such as 192.0.2.10"
        problem = Problem("voxtrunk.yml", 0, "sip.advertise", f"{address!r} is no address", hint)
        raise ConfigError([problem]) from None


def _session_id() -> int:
    return secrets.randbelow(2**31) + 1


def _early_description(response: Response) -> list[SessionDescription]:
    """The SDP of a provisional response, where there is a readable one."""
    try:
        body = sdp_body(response)
        return [] if body is None else [parse_sdp(body)]
    except VoxtrunkError:
        return []


async def _resolve(target: Uri, local: str) -> Address:
    """Where to send requests for `target`: an address that a socket bound to `local` can reach. Raises `CallFailed`."""
    family = socket.AF_INET6 if ":" in local else socket.AF_INET
    if local == "::":
        family = socket.AF_UNSPEC
    host, port = target.host.strip("[]"), target.port or DEFAULT_PORT
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise CallFailed(503, f"{host} cannot be resolved: {error.strerror or error}") from error
    address = found[0][4]
    return str(address[0]), int(address[1])
