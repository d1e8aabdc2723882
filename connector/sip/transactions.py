"""The transactions of RFC 3261 section 17, with the Accepted states of RFC 6026, over UDP.

Each of the four machines is a table. Messages and `now` go in; datagrams to send and events for the
transaction user come out. An input from the network that a table lacks is impossible by
construction; one from the transaction user (a second final answer) raises `ProtocolError` and
changes nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from itertools import count

from connector.errors import ProtocolError
from connector.sip.message import (
    Address,
    Message,
    Request,
    Response,
    encode,
    from_tag,
    hostport,
    parse_via,
    top_via,
)

MAGIC_COOKIE = "z9hG4bK"
"""RFC 3261 section 8.1.1.7."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The base timers of RFC 3261 section 17.1.1.1, seconds."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0

    @property
    def give_up(self) -> float:
        """64*T1: timers B, D, F, H, J, L and M over UDP."""
        return 64 * self.t1


class State(Enum):
    """The states of sections 17.1.1.2, 17.1.2.2, 17.2.1 and 17.2.2, and of RFC 6026."""

    CALLING = auto()
    TRYING = auto()
    PROCEEDING = auto()
    ACCEPTED = auto()
    COMPLETED = auto()
    CONFIRMED = auto()
    TERMINATED = auto()


class Timer(Enum):
    """Timers by the letters of RFC 3261 table 4 and RFC 6026 section 8.4."""

    A = "A"
    B = "B"
    D = "D"
    E = "E"
    F = "F"
    G = "G"
    H = "H"
    I = "I"  # noqa: E741 - the RFC's name
    J = "J"
    K = "K"
    L = "L"
    M = "M"


class Input(Enum):
    """What a transaction can meet, timers apart."""

    REQUEST = auto()
    """A copy of the request came in."""
    ACK = auto()
    PROVISIONAL = auto()
    SUCCESS = auto()
    FAILURE = auto()


class Action(Enum):
    """What a transition does."""

    SEND = auto()
    """Send the message at hand and keep it for retransmission."""
    RESEND = auto()
    """Send the kept message once more."""
    PASS = auto()
    """Give the message to the transaction user."""
    SEND_ACK = auto()
    """Acknowledge the refusal at hand (section 17.1.1.3), and keep the ACK for retransmission."""
    TIME_OUT = auto()
    """Tell the transaction user that nobody answered."""


S, I, T, A = State, Input, Timer, Action  # noqa: E741 - short, for the tables
Table = Mapping[tuple[State, Input | Timer], tuple[State, tuple[Action, ...]]]


@dataclass(frozen=True, slots=True)
class Machine:
    """One of the four kinds.

    `table` maps (state, input) to (next state, actions). `timers` run in a state: they start on
    entry, or run on where the state before had them too.
    """

    name: str
    initial: State
    table: Table
    timers: Mapping[State, tuple[Timer, ...]]


INVITE_SERVER = Machine(
    "INVITE server (section 17.2.1, RFC 6026 section 7.1)",
    S.PROCEEDING,
    {
        (S.PROCEEDING, I.REQUEST): (S.PROCEEDING, (A.RESEND,)),
        (S.PROCEEDING, I.PROVISIONAL): (S.PROCEEDING, (A.SEND,)),
        (S.PROCEEDING, I.SUCCESS): (S.ACCEPTED, (A.SEND,)),
        (S.PROCEEDING, I.FAILURE): (S.COMPLETED, (A.SEND,)),
        (S.PROCEEDING, I.ACK): (S.PROCEEDING, ()),
        (S.ACCEPTED, I.REQUEST): (S.ACCEPTED, ()),
        (S.ACCEPTED, I.SUCCESS): (S.ACCEPTED, (A.SEND,)),
        (S.ACCEPTED, I.ACK): (S.ACCEPTED, (A.PASS,)),
        (S.ACCEPTED, T.L): (S.TERMINATED, ()),
        (S.COMPLETED, I.REQUEST): (S.COMPLETED, (A.RESEND,)),
        (S.COMPLETED, I.ACK): (S.CONFIRMED, ()),
        (S.COMPLETED, T.G): (S.COMPLETED, (A.RESEND,)),
        (S.COMPLETED, T.H): (S.TERMINATED, (A.TIME_OUT,)),
        (S.CONFIRMED, I.REQUEST): (S.CONFIRMED, ()),
        (S.CONFIRMED, I.ACK): (S.CONFIRMED, ()),
        (S.CONFIRMED, T.I): (S.TERMINATED, ()),
    },
    {S.ACCEPTED: (T.L,), S.COMPLETED: (T.G, T.H), S.CONFIRMED: (T.I,)},
)

SERVER = Machine(
    "non-INVITE server (section 17.2.2)",
    S.TRYING,
    {
        (S.TRYING, I.REQUEST): (S.TRYING, ()),
        (S.TRYING, I.PROVISIONAL): (S.PROCEEDING, (A.SEND,)),
        (S.TRYING, I.SUCCESS): (S.COMPLETED, (A.SEND,)),
        (S.TRYING, I.FAILURE): (S.COMPLETED, (A.SEND,)),
        (S.PROCEEDING, I.REQUEST): (S.PROCEEDING, (A.RESEND,)),
        (S.PROCEEDING, I.PROVISIONAL): (S.PROCEEDING, (A.SEND,)),
        (S.PROCEEDING, I.SUCCESS): (S.COMPLETED, (A.SEND,)),
        (S.PROCEEDING, I.FAILURE): (S.COMPLETED, (A.SEND,)),
        (S.COMPLETED, I.REQUEST): (S.COMPLETED, (A.RESEND,)),
        (S.COMPLETED, T.J): (S.TERMINATED, ()),
    },
    {S.COMPLETED: (T.J,)},
)

INVITE_CLIENT = Machine(
    "INVITE client (section 17.1.1, RFC 6026 section 7.2)",
    S.CALLING,
    {
        (S.CALLING, T.A): (S.CALLING, (A.RESEND,)),
        (S.CALLING, T.B): (S.TERMINATED, (A.TIME_OUT,)),
        (S.CALLING, I.PROVISIONAL): (S.PROCEEDING, (A.PASS,)),
        (S.CALLING, I.SUCCESS): (S.ACCEPTED, (A.PASS,)),
        (S.CALLING, I.FAILURE): (S.COMPLETED, (A.SEND_ACK, A.PASS)),
        (S.PROCEEDING, I.PROVISIONAL): (S.PROCEEDING, (A.PASS,)),
        (S.PROCEEDING, I.SUCCESS): (S.ACCEPTED, (A.PASS,)),
        (S.PROCEEDING, I.FAILURE): (S.COMPLETED, (A.SEND_ACK, A.PASS)),
        (S.ACCEPTED, I.PROVISIONAL): (S.ACCEPTED, ()),
        (S.ACCEPTED, I.SUCCESS): (S.ACCEPTED, (A.PASS,)),
        (S.ACCEPTED, I.FAILURE): (S.ACCEPTED, ()),
        (S.ACCEPTED, T.M): (S.TERMINATED, ()),
        (S.COMPLETED, I.PROVISIONAL): (S.COMPLETED, ()),
        (S.COMPLETED, I.SUCCESS): (S.COMPLETED, ()),
        (S.COMPLETED, I.FAILURE): (S.COMPLETED, (A.RESEND,)),
        (S.COMPLETED, T.D): (S.TERMINATED, ()),
    },
    {S.CALLING: (T.A, T.B), S.ACCEPTED: (T.M,), S.COMPLETED: (T.D,)},
)

CLIENT = Machine(
    "non-INVITE client (section 17.1.2)",
    S.TRYING,
    {
        (S.TRYING, T.E): (S.TRYING, (A.RESEND,)),
        (S.TRYING, T.F): (S.TERMINATED, (A.TIME_OUT,)),
        (S.TRYING, I.PROVISIONAL): (S.PROCEEDING, (A.PASS,)),
        (S.TRYING, I.SUCCESS): (S.COMPLETED, (A.PASS,)),
        (S.TRYING, I.FAILURE): (S.COMPLETED, (A.PASS,)),
        (S.PROCEEDING, T.E): (S.PROCEEDING, (A.RESEND,)),
        (S.PROCEEDING, T.F): (S.TERMINATED, (A.TIME_OUT,)),
        (S.PROCEEDING, I.PROVISIONAL): (S.PROCEEDING, (A.PASS,)),
        (S.PROCEEDING, I.SUCCESS): (S.COMPLETED, (A.PASS,)),
        (S.PROCEEDING, I.FAILURE): (S.COMPLETED, (A.PASS,)),
        (S.COMPLETED, I.PROVISIONAL): (S.COMPLETED, ()),
        (S.COMPLETED, I.SUCCESS): (S.COMPLETED, ()),
        (S.COMPLETED, I.FAILURE): (S.COMPLETED, ()),
        (S.COMPLETED, T.K): (S.TERMINATED, ()),
    },
    {S.TRYING: (T.E, T.F), S.PROCEEDING: (T.E, T.F), S.COMPLETED: (T.K,)},
)

MACHINES = (INVITE_SERVER, SERVER, INVITE_CLIENT, CLIENT)

REPEATING = frozenset({T.A, T.E, T.G})
"""Timers that retransmit: they double from T1, A without end, E and G up to T2."""


@dataclass(frozen=True, slots=True)
class Key:
    """Identity of a transaction (sections 17.1.3 and 17.2.3). `client`: whether the request was ours."""

    client: bool
    branch: str
    sent_by: str
    method: str


# ------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A request of a new server transaction; each wants one final `respond(key, ...)`."""

    key: Key
    request: Request
    source: Address


@dataclass(frozen=True, slots=True)
class AckReceived:
    """An ACK for a 2xx; it belongs to no transaction and is never answered."""

    request: Request
    source: Address


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """A response to our request `key`: every provisional, the final one, every copy of a 2xx to INVITE."""

    key: Key
    response: Response
    source: Address


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Nobody answered our request, or nobody acknowledged our refusal."""

    key: Key


@dataclass(frozen=True, slots=True)
class Ended:
    """The transaction is over; nothing more will be told of it."""

    key: Key


Event = RequestReceived | AckReceived | ResponseReceived | TimedOut | Ended


@dataclass(slots=True)
class Transaction:
    """One running machine."""

    key: Key
    machine: Machine
    request: Request
    peer: Address
    state: State
    kept: bytes = b""
    deadlines: dict[Timer, float] = field(default_factory=dict)
    interval: float = 0.0


def _kind(status: int) -> Input:
    return Input.PROVISIONAL if status < 200 else Input.SUCCESS if status < 300 else Input.FAILURE


class Transactions:
    """All transactions of one UDP socket.

    `new_branch` makes the random part of a branch. After any call, `datagrams()` holds what is to be
    sent, `events()` what the transaction user must see, and `next_timeout` when `advance` is due.
    """

    def __init__(self, new_branch: Callable[[], str], timing: Timing | None = None) -> None:
        self.timing = timing or Timing()
        self._new_branch = new_branch
        self._transactions: dict[Key, Transaction] = {}
        self._identities: dict[tuple[str, str, str], Key] = {}
        self._due: list[tuple[float, int, Key, Timer]] = []
        self._order = count()
        self._datagrams: list[tuple[bytes, Address]] = []
        self._events: list[Event] = []

    def __len__(self) -> int:
        return len(self._transactions)

    # ---------------------------------------------------------------- out

    def datagrams(self) -> list[tuple[bytes, Address]]:
        """Takes what is to be sent, in order."""
        taken, self._datagrams = self._datagrams, []
        return taken

    def events(self) -> list[Event]:
        """Takes what the transaction user must see, in order."""
        taken, self._events = self._events, []
        return taken

    @property
    def next_timeout(self) -> float | None:
        """When `advance` is due, None for never."""
        while self._due:
            at, _, key, timer = self._due[0]
            transaction = self._transactions.get(key)
            if transaction is not None and transaction.deadlines.get(timer) == at:
                return at
            heapq.heappop(self._due)
        return None

    # ---------------------------------------------------------------- in

    def advance(self, now: float) -> None:
        """Lets every timer fire that is due at `now`."""
        while (at := self.next_timeout) is not None and at <= now:
            _, _, key, timer = heapq.heappop(self._due)
            transaction = self._transactions[key]
            del transaction.deadlines[timer]
            self._step(transaction, timer, now)
            if timer in REPEATING and transaction.state is not State.TERMINATED:
                self._repeat(transaction, timer, now)

    def receive(self, message: Message, source: Address, now: float) -> None:
        """Takes a message that `parse` accepted, which came from `source`."""
        if isinstance(message, Response):
            self._receive_response(message, source, now)
        else:
            self._receive_request(message, source, now)

    def respond(self, key: Key, response: Response, now: float) -> None:
        """Answers the request of server transaction `key`.

        Raises `ProtocolError`, and sends nothing, where it is over or has had its final answer.
        """
        transaction = self._transactions.get(key)
        if transaction is None:
            raise ProtocolError(f"{key.method}: the transaction is over")
        self._step(transaction, _kind(response.code), now, response)

    def respond_once(self, key: Key, response: Response) -> None:
        """Refuses the request of server transaction `key` and forgets it: what was lost is not repeated.

        For requests of strangers (RFC 3261 section 26.3.2.4): whoever writes a victim's address on
        his makes us send no more than he does himself, and keep nothing. A copy of the request is a
        new one. Raises `ProtocolError`, and sends nothing, where it is over or was answered already.
        """
        transaction = self._transactions.get(key)
        if transaction is None or transaction.state is not transaction.machine.initial or transaction.kept:
            raise ProtocolError(f"{key.method}: the transaction is over, or was answered")
        self._datagrams.append((encode(response), transaction.peer))
        self._forget(transaction)

    def reply(self, response: Response, source: Address) -> None:
        """Answers a request from `source` without a transaction (RFC 3261 section 8.2.7)."""
        mark_source(response, source)
        self._datagrams.append((encode(response), response_address(response, source)))

    def request(self, request: Request, sent_by: Address, peer: Address, now: float, branch: str | None = None) -> Key:
        """Sends `request` to `peer` in a new client transaction, with a Via of its own on top.

        `branch`: given for a CANCEL, which takes its INVITE's (section 9.1).
        """
        branch = branch or MAGIC_COOKIE + self._new_branch()
        _push_via(request, sent_by, branch)
        key = Key(True, branch, "", request.method)
        machine = INVITE_CLIENT if request.method == "INVITE" else CLIENT
        transaction = Transaction(key, machine, request, peer, machine.initial, encode(request))
        self._transactions[key] = transaction
        self._datagrams.append((transaction.kept, peer))
        self._start_timers(transaction, now)
        return key

    def send(self, request: Request, sent_by: Address, peer: Address) -> bytes:
        """Sends an ACK for a 2xx: it has a branch but no transaction (section 17.1.1.3). Returns the datagram."""
        _push_via(request, sent_by, MAGIC_COOKIE + self._new_branch())
        data = encode(request)
        self.resend(data, peer)
        return data

    def resend(self, data: bytes, peer: Address) -> None:
        """Sends a datagram of ours once more."""
        self._datagrams.append((data, peer))

    def known(self, key: Key) -> bool:
        """Whether transaction `key` is running."""
        return key in self._transactions

    def final_sent(self, key: Key) -> bool:
        """Whether server transaction `key` has had its final answer (or is over)."""
        transaction = self._transactions.get(key)
        return transaction is None or transaction.state not in (State.TRYING, State.PROCEEDING)

    def merged(self, key: Key, request: Request) -> bool:
        """Whether `request` is another running one that came a second way (section 8.2.2.2)."""
        return self._identities.get(_identity(request), key) != key

    # ---------------------------------------------------------------- inside

    def _receive_response(self, response: Response, source: Address, now: float) -> None:
        if len(response.headers.getlist("Via")) != 1:
            return  # section 8.1.3.3
        transaction = self._transactions.get(Key(True, top_via(response).branch, "", response.cseq.method))
        if transaction is not None:
            self._step(transaction, _kind(response.code), now, response, source)

    def _receive_request(self, request: Request, source: Address, now: float) -> None:
        mark_source(request, source)
        key = server_key(request)
        transaction = self._transactions.get(key)
        if request.method == "ACK":
            if transaction is None:
                self._events.append(AckReceived(request, source))
            else:
                self._step(transaction, Input.ACK, now, request, source)
        elif transaction is not None:
            self._step(transaction, Input.REQUEST, now, request, source)
        else:
            machine = INVITE_SERVER if request.method == "INVITE" else SERVER
            self._transactions[key] = Transaction(
                key, machine, request, response_address(request, source), machine.initial
            )
            self._identities.setdefault(_identity(request), key)
            self._events.append(RequestReceived(key, request, source))

    def _step(
        self,
        transaction: Transaction,
        event: Input | Timer,
        now: float,
        message: Message | None = None,
        source: Address | None = None,
    ) -> None:
        try:
            state, actions = transaction.machine.table[transaction.state, event]
        except KeyError:
            raise ProtocolError(f"{transaction.machine.name}: {event.name} in state {transaction.state.name}") from None
        for action in actions:
            self._act(transaction, action, message, source)
        if state is not transaction.state:
            transaction.state = state
            self._start_timers(transaction, now)
            if state is State.TERMINATED:
                self._forget(transaction)

    def _act(self, transaction: Transaction, action: Action, message: Message | None, source: Address | None) -> None:
        if action is Action.TIME_OUT:
            self._events.append(TimedOut(transaction.key))
            return
        if action is Action.PASS:
            if isinstance(message, Response) and source is not None:
                self._events.append(ResponseReceived(transaction.key, message, source))
            elif isinstance(message, Request) and source is not None:
                self._events.append(AckReceived(message, source))
            return
        if action is Action.SEND and message is not None:
            transaction.kept = encode(message)
        elif action is Action.SEND_ACK and isinstance(message, Response):
            transaction.kept = encode(_refusal_ack(transaction.request, message))
        if transaction.kept:
            self._datagrams.append((transaction.kept, transaction.peer))

    def _start_timers(self, transaction: Transaction, now: float) -> None:
        running, transaction.deadlines = transaction.deadlines, {}
        for timer in transaction.machine.timers.get(transaction.state, ()):
            if timer in REPEATING:
                # Section 17.1.2.2: once there was a provisional answer, the request is repeated each T2.
                late = transaction.state is State.PROCEEDING
                transaction.interval = self.timing.t2 if late else self.timing.t1
                self._arm(transaction, timer, now + transaction.interval)
            elif timer in running:
                transaction.deadlines[timer] = running[timer]
            else:
                self._arm(transaction, timer, now + self._duration(timer))

    def _forget(self, transaction: Transaction) -> None:
        del self._transactions[transaction.key]
        self._events.append(Ended(transaction.key))
        if not transaction.key.client:
            identity = _identity(transaction.request)
            if self._identities.get(identity) == transaction.key:
                del self._identities[identity]

    def _duration(self, timer: Timer) -> float:
        return self.timing.t4 if timer in (Timer.I, Timer.K) else self.timing.give_up

    def _repeat(self, transaction: Transaction, timer: Timer, now: float) -> None:
        transaction.interval *= 2
        if timer is not Timer.A:
            transaction.interval = min(transaction.interval, self.timing.t2)
        self._arm(transaction, timer, now + transaction.interval)

    def _arm(self, transaction: Transaction, timer: Timer, at: float) -> None:
        transaction.deadlines[timer] = at
        heapq.heappush(self._due, (at, next(self._order), transaction.key, timer))


def server_key(request: Request) -> Key:
    """The server transaction that `request` belongs to (section 17.2.3); an ACK belongs to its INVITE's."""
    via = top_via(request)
    method = "INVITE" if request.method == "ACK" else request.method
    if via.branch.startswith(MAGIC_COOKIE):
        return Key(False, via.branch, via.sent_by, method)
    # A user agent of RFC 2543: matched by what identifies its request.
    identity = (request.call_id, from_tag(request), str(request.cseq.sequence), via.branch)
    return Key(False, "\0".join(identity), via.sent_by, method)


def mark_source(message: Message, source: Address) -> None:
    """Notes in the topmost Via where a request came from (section 18.2.1, RFC 3581 section 4)."""
    values = message.headers.getlist("Via")
    via = parse_via(values[0])
    marks = ""
    if "rport" in via.parameters:
        marks += f";rport={source[1]}"
    if marks or via.host.strip("[]") != source[0]:
        marks += f";received={source[0]}"
    if marks:
        plain = [
            part for part in values[0].split(";") if part.partition("=")[0].strip().lower() not in ("rport", "received")
        ]
        message.headers.setlist("Via", [";".join(plain) + marks, *values[1:]])


def response_address(message: Message, source: Address) -> Address:
    """Where the answer to a request goes, by the Via of either (section 18.2.2, RFC 3581 section 4).

    To the source where the peer asked for it, or where its Via names another host: then a NAT is
    between us and no other port leads back.
    """
    via = top_via(message)
    if "rport" in via.parameters or via.host.strip("[]") != source[0]:
        return source
    return source[0], via.port or 5060


def cancelled_key(cancel: Request) -> Key:
    """The INVITE server transaction that a CANCEL asks to end (section 9.2)."""
    return replace(server_key(cancel), method="INVITE")


def cancel_request(invite: Request) -> Request:
    """The CANCEL of `invite` (section 9.1), without its Via."""
    request = Request("CANCEL", invite.uri)
    for header in ("Max-Forwards", "Route", "From", "To", "Call-ID"):
        if values := invite.headers.getlist(header):
            request.headers.setlist(header, list(values))
    request.headers.set("CSeq", f"{invite.cseq.sequence} CANCEL")
    return request


def _refusal_ack(invite: Request, response: Response) -> Request:
    """The ACK for a refusal (section 17.1.1.3)."""
    ack = Request("ACK", invite.uri)
    ack.headers.set("Via", invite.headers["Via"])
    for header in ("Max-Forwards", "Route", "From"):
        if values := invite.headers.getlist(header):
            ack.headers.setlist(header, list(values))
    ack.headers.set("To", response.headers["To"])
    ack.headers.set("Call-ID", invite.headers["Call-ID"])
    ack.headers.set("CSeq", f"{invite.cseq.sequence} ACK")
    return ack


def _push_via(request: Request, sent_by: Address, branch: str) -> None:
    via = f"SIP/2.0/UDP {hostport(sent_by)};rport;branch={branch}"
    request.headers.setlist("Via", [via, *request.headers.getlist("Via")])


def _identity(request: Request) -> tuple[str, str, str]:
    return request.call_id, from_tag(request), str(request.cseq)
