"""Dialogs (RFC 3261 section 12) and the 2xx that is repeated until its ACK comes (section 13.3.1.4)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from connector.errors import BadRequest, ProtocolError
from connector.sip.message import (
    DEFAULT_PORT,
    Address,
    Request,
    Response,
    Uri,
    from_tag,
    parse_name_addr,
    to_tag,
)
from connector.sip.transactions import Timing

MAX_FORWARDS = "70"
"""RFC 3261 section 8.1.1.6."""


class OutOfOrder(ProtocolError):
    """A request whose CSeq is not above the last one (RFC 3261 section 12.2.2): 500."""


@dataclass(frozen=True, slots=True)
class DialogId:
    """What a request or response in a dialog is matched by."""

    call_id: str
    local_tag: str
    remote_tag: str


@dataclass(slots=True)
class Dialog:
    """One dialog, from our side.

    `local`, `remote`: From and To as header values, tags included. `routes`: the route set, as
    header values. `target`: the peer's Contact. `peer`: where its last message came from.
    """

    id: DialogId
    local: str
    remote: str
    target: Uri
    routes: list[str]
    peer: Address
    local_sequence: int
    remote_sequence: int | None = None

    @classmethod
    def from_request(cls, request: Request, local_tag: str, source: Address, local_sequence: int) -> Dialog:
        """The dialog that a request makes at its receiver (section 12.1.1). Raises `BadRequest`."""
        return cls(
            id=DialogId(request.call_id, local_tag, from_tag(request)),
            local=f"{request.headers['To']};tag={local_tag}",
            remote=request.headers["From"],
            target=contact_uri(request),
            routes=list(request.headers.getlist("Record-Route")),
            peer=source,
            local_sequence=local_sequence,
            remote_sequence=request.cseq.sequence,
        )

    @classmethod
    def from_response(cls, request: Request, response: Response, source: Address) -> Dialog:
        """The dialog that a 101 to 299 makes at the sender of the request (section 12.1.2). Raises `BadRequest`."""
        return cls(
            id=DialogId(request.call_id, from_tag(request), to_tag(response)),
            local=request.headers["From"],
            remote=response.headers["To"],
            target=contact_uri(response),
            routes=list(reversed(response.headers.getlist("Record-Route"))),
            peer=source,
            local_sequence=request.cseq.sequence,
        )

    def request(self, method: str) -> Request:
        """A request in the dialog (section 12.2.1.1). ACK takes the number of its INVITE: see `ack`."""
        self.local_sequence += 1
        return self._request(method, self.local_sequence)

    def ack(self, invite: Request) -> Request:
        """The ACK for the 2xx that `invite` got (section 13.2.2.4)."""
        ack = self._request("ACK", invite.cseq.sequence)
        for header in ("Authorization", "Proxy-Authorization"):
            if values := invite.headers.getlist(header):
                ack.headers.setlist(header, list(values))
        return ack

    def _request(self, method: str, sequence: int) -> Request:
        uri, routes = self.target, self.routes
        if routes:
            first = parse_name_addr(routes[0]).uri
            if "lr" not in first.parameters:
                # A strict router: it takes the request URI, our target becomes the last route.
                uri, routes = first, [*routes[1:], f"<{self.target}>"]
        request = Request(method, uri)
        headers = request.headers
        if routes:
            headers.setlist("Route", list(routes))
        headers.set("Max-Forwards", MAX_FORWARDS)
        headers.set("From", self.local)
        headers.set("To", self.remote)
        headers.set("Call-ID", self.id.call_id)
        headers.set("CSeq", f"{sequence} {method}")
        return request

    @property
    def next_hop(self) -> Address:
        """Where requests go (section 8.1.2).

        A host that is a name, or, without a proxy between, an address that its messages do not come
        from, stands behind something that rewrites addresses: then to where they came from.
        """
        uri = parse_name_addr(self.routes[0]).uri if self.routes else self.target
        host = uri.host.strip("[]")
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return self.peer
        if not self.routes and host != self.peer[0]:
            return self.peer
        return host, uri.port or DEFAULT_PORT

    def receive(self, request: Request, source: Address) -> None:
        """Takes a request of the peer in order (section 12.2.2). Raises `OutOfOrder`."""
        sequence = request.cseq.sequence
        if self.remote_sequence is not None and sequence <= self.remote_sequence:
            raise OutOfOrder(f"CSeq {sequence} after {self.remote_sequence}")
        self.remote_sequence = sequence
        self.peer = source

    def refresh(self, message: Request | Response) -> None:
        """Takes the new Contact of a target refresh request or its 2xx (section 12.2). Raises `BadRequest`."""
        if message.headers.get("Contact"):
            self.target = contact_uri(message)


def contact_uri(message: Request | Response) -> Uri:
    """The SIP URI of the one Contact (section 8.1.1.8). Raises `BadRequest`."""
    contacts = message.headers.getlist("Contact")
    if not contacts:
        raise BadRequest("there is no Contact")
    uri = parse_name_addr(contacts[0]).uri
    if uri.scheme not in ("sip", "sips"):
        raise BadRequest("Contact is no SIP URI")
    return uri


@dataclass(slots=True)
class Unacknowledged:
    """A 2xx to INVITE on its way: repeated after T1, doubling up to T2, given up after 64*T1."""

    timing: Timing
    sent: float
    next: float = field(init=False)
    _interval: float = field(init=False)

    def __post_init__(self) -> None:
        self._interval = self.timing.t1
        self.next = self.sent + self._interval

    @property
    def deadline(self) -> float:
        """When the answer is given up, and the dialog with it."""
        return self.sent + self.timing.give_up

    def due(self, now: float) -> bool:
        """Whether to repeat it at `now`; moves `next` on."""
        if now < self.next:
            return False
        self._interval = min(self._interval * 2, self.timing.t2)
        self.next = min(now + self._interval, self.deadline)
        return True
