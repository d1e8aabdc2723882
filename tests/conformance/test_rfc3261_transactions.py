"""RFC 3261 section 17 and RFC 6026: the four transactions, in virtual time."""

from __future__ import annotations

import itertools

import pytest

from connector.errors import ProtocolError
from connector.sip.message import Request, Response, encode, parse, parse_uri, respond
from connector.sip.transactions import (
    MACHINES,
    AckReceived,
    Ended,
    Event,
    Input,
    Key,
    RequestReceived,
    ResponseReceived,
    State,
    TimedOut,
    Timer,
    Transactions,
    cancel_request,
    cancelled_key,
)

PEER = ("192.0.2.1", 5060)
US = ("192.0.2.2", 5060)


def request(
    method: str = "INVITE", branch: str = "z9hG4bK1", cseq: int = 1, via: str = "192.0.2.1", extra: str = ""
) -> Request:
    message = parse(
        (
            f"{method} sip:1000@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch={branch}{extra}\r\n"
            "From: <sip:200@192.0.2.1>;tag=a\r\nTo: <sip:1000@192.0.2.2>\r\nCall-ID: c1\r\n"
            f"CSeq: {cseq} {method}\r\n\r\n"
        ).encode()
    )
    assert isinstance(message, Request)
    return message


def ours(method: str = "INVITE") -> Request:
    message = Request(method, parse_uri("sip:200@192.0.2.1"))
    for name, value in {
        "Max-Forwards": "70",
        "From": "<sip:1000@192.0.2.2>;tag=b",
        "To": "<sip:200@192.0.2.1>",
        "Call-ID": "c2",
        "CSeq": f"7 {method}",
    }.items():
        message.headers.set(name, value)
    return message


class Bench:
    """Transactions with a clock that the test turns."""

    def __init__(self) -> None:
        numbers = itertools.count(1)
        self.transactions = Transactions(lambda: f"ours{next(numbers)}")
        self.now = 100.0

    def sent(self) -> list[Request | Response]:
        """What went out since the last look."""
        return [parse(data) for data, _ in self.transactions.datagrams()]

    def events(self) -> list[Event]:
        return self.transactions.events()

    def receive(self, message: Request | Response) -> list[Event]:
        self.transactions.receive(message, PEER, self.now)
        return self.events()

    def serve(self, message: Request) -> Key:
        """A new server transaction for `message`."""
        (event,) = self.receive(message)
        assert isinstance(event, RequestReceived)
        return event.key

    def respond(self, key: Key, message: Request, status: int) -> None:
        self.transactions.respond(key, respond(message, status, to_tag="t"), self.now)

    def retransmissions(self, seconds: float) -> list[float]:
        """Turns the clock on and returns when something was sent, relative to the start."""
        start, times = self.now, []
        while (at := self.transactions.next_timeout) is not None and at <= start + seconds:
            self.now = at
            self.transactions.advance(at)
            times += [round(at - start, 6)] * len(self.transactions.datagrams())
        self.now = start + seconds
        return times

    def answer(self, key: Key, sent: Request, status: int, tag: str = "t") -> list[Event]:
        """The peer answers a request of ours."""
        response = parse(encode(respond(sent, status, to_tag=tag)))
        return self.receive(response)


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_every_state_of_a_table_can_be_reached_and_left(machine) -> None:
    reached, frontier = {machine.initial}, [machine.initial]
    while frontier:
        state = frontier.pop()
        exits = [target for (source, _), (target, _) in machine.table.items() if source is state]
        assert state is State.TERMINATED or any(target is not state for target in exits)
        frontier += [target for target in exits if target not in reached]
        reached |= set(exits)
    assert reached == {s for s, _ in machine.table} | {State.TERMINATED}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_every_timer_that_a_state_starts_is_served_there(machine) -> None:
    for state, timers in machine.timers.items():
        assert all((state, timer) in machine.table for timer in timers)
    assert {t for _, t in machine.table if isinstance(t, Timer)} == {t for ts in machine.timers.values() for t in ts}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
def test_whatever_the_network_sends_finds_an_entry_in_every_state(machine) -> None:
    client = "client" in machine.name
    network = {Input.PROVISIONAL, Input.SUCCESS, Input.FAILURE} if client else {Input.REQUEST}
    if machine.name.startswith("INVITE server"):
        network.add(Input.ACK)
    for state in {s for s, _ in machine.table}:
        assert all((state, event) in machine.table for event in network)


# ---------------------------------------------------------------- INVITE server


def test_a_copy_of_the_invite_is_answered_with_the_last_provisional() -> None:
    bench, invite = Bench(), request()
    key = bench.serve(invite)
    bench.respond(key, invite, 180)
    assert [m.code for m in bench.sent()] == [180]
    assert bench.receive(request()) == []
    assert [m.code for m in bench.sent()] == [180]


def test_timer_g_repeats_a_refusal_from_t1_to_t2_and_timer_h_gives_up() -> None:
    bench, invite = Bench(), request()
    bench.respond(bench.serve(invite), invite, 486)
    bench.sent()
    assert bench.retransmissions(40) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert [type(e) for e in bench.events()] == [TimedOut, Ended]
    assert len(bench.transactions) == 0


def test_the_ack_ends_the_repetition_and_timer_i_absorbs_its_copies() -> None:
    bench, invite = Bench(), request()
    bench.respond(bench.serve(invite), invite, 486)
    bench.sent()
    ack = request("ACK")
    assert bench.receive(ack) == []
    assert bench.receive(request("ACK")) == []
    assert bench.receive(request()) == []
    assert bench.retransmissions(4.9) == []
    assert len(bench.transactions) == 1
    bench.retransmissions(0.2)
    assert len(bench.transactions) == 0


def test_rfc_6026_accepted_absorbs_the_invite_and_lets_only_a_2xx_through() -> None:
    bench, invite = Bench(), request()
    key = bench.serve(invite)
    bench.respond(key, invite, 200)
    assert [m.code for m in bench.sent()] == [200]
    assert bench.receive(request()) == []
    assert bench.sent() == []
    bench.respond(key, invite, 200)
    assert [m.code for m in bench.sent()] == [200]
    assert bench.retransmissions(32.1) == []
    assert len(bench.transactions) == 0


@pytest.mark.parametrize(("first", "second"), [(200, 405), (200, 180), (486, 200), (486, 487), (404, 404)])
def test_a_second_final_answer_is_refused_and_nothing_is_sent(first: int, second: int) -> None:
    bench, invite = Bench(), request()
    key = bench.serve(invite)
    bench.respond(key, invite, first)
    bench.sent()
    with pytest.raises(ProtocolError):
        bench.respond(key, invite, second)
    assert bench.sent() == []


def test_the_ack_of_a_2xx_goes_to_the_user_though_no_transaction_matches() -> None:
    bench, invite = Bench(), request()
    bench.respond(bench.serve(invite), invite, 200)
    (event,) = bench.receive(request("ACK", branch="z9hG4bK2"))
    assert isinstance(event, AckReceived)


def test_a_user_agent_of_rfc_2543_is_matched_without_the_magic_cookie() -> None:
    bench, invite = Bench(), request(branch="1")
    key = bench.serve(invite)
    assert bench.receive(request(branch="1")) == []
    other = request(branch="1", cseq=2)
    assert bench.serve(other) != key


def test_the_same_branch_from_another_host_is_another_transaction() -> None:
    bench = Bench()
    assert bench.serve(request()) != bench.serve(request(via="192.0.2.9"))


def test_a_request_that_came_two_ways_is_merged() -> None:
    bench = Bench()
    first, second = request(), request(branch="z9hG4bKother")
    assert not bench.transactions.merged(bench.serve(first), first)
    assert bench.transactions.merged(bench.serve(second), second)


def test_cancel_finds_the_invite_by_branch() -> None:
    bench = Bench()
    key = bench.serve(request())
    cancel = request("CANCEL")
    assert cancelled_key(cancel) == key
    assert bench.serve(cancel) != key
    assert not bench.transactions.known(cancelled_key(request("CANCEL", branch="z9hG4bKx")))


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_a_stranger_is_refused_once_and_forgotten(method: str) -> None:
    """Section 26.3.2.4: no retransmission, and nothing is kept."""
    bench, asked = Bench(), request(method)
    key = bench.serve(asked)
    bench.transactions.respond_once(key, respond(asked, 403, to_tag="t"))
    assert [m.code for m in bench.sent()] == [403]
    assert len(bench.transactions) == 0
    assert bench.retransmissions(60) == []
    assert isinstance(bench.receive(request("ACK"))[-1], AckReceived)
    assert bench.serve(request(method)) == key
    assert not bench.transactions.merged(key, asked)


def test_what_was_answered_cannot_be_refused_and_forgotten() -> None:
    bench, invite = Bench(), request()
    key = bench.serve(invite)
    bench.respond(key, invite, 100)
    bench.sent()
    with pytest.raises(ProtocolError):
        bench.transactions.respond_once(key, respond(invite, 403, to_tag="t"))
    assert bench.sent() == []
    assert bench.transactions.known(key)


# ---------------------------------------------------------------- non-INVITE server


def test_a_non_invite_is_answered_again_until_timer_j() -> None:
    bench, options = Bench(), request("OPTIONS")
    key = bench.serve(options)
    assert bench.receive(request("OPTIONS")) == []
    assert bench.sent() == []
    bench.respond(key, options, 200)
    bench.receive(request("OPTIONS"))
    assert [m.code for m in bench.sent()] == [200, 200]
    assert bench.retransmissions(31.9) == []
    assert len(bench.transactions) == 1
    bench.retransmissions(0.2)
    assert len(bench.transactions) == 0


def test_a_provisional_to_a_non_invite_starts_no_timer() -> None:
    bench, options = Bench(), request("OPTIONS")
    bench.respond(bench.serve(options), options, 100)
    assert bench.transactions.next_timeout is None


# ---------------------------------------------------------------- INVITE client


def test_timer_a_doubles_without_end_and_timer_b_gives_up() -> None:
    bench = Bench()
    key = bench.transactions.request(ours(), US, PEER, bench.now)
    assert len(bench.sent()) == 1
    assert bench.retransmissions(40) == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert bench.events() == [TimedOut(key), Ended(key)]


def test_a_provisional_stops_the_repetition() -> None:
    bench, invite = Bench(), ours()
    key = bench.transactions.request(invite, US, PEER, bench.now)
    (event,) = bench.answer(key, invite, 180)
    assert isinstance(event, ResponseReceived)
    bench.sent()
    assert bench.retransmissions(600) == []
    assert len(bench.transactions) == 1


def test_a_refusal_is_acknowledged_by_the_transaction_as_often_as_it_comes() -> None:
    bench, invite = Bench(), ours()
    key = bench.transactions.request(invite, US, PEER, bench.now)
    bench.sent()
    (event,) = bench.answer(key, invite, 486)
    assert isinstance(event, ResponseReceived)
    (ack,) = bench.sent()
    assert ack.method == "ACK"
    assert ack.headers["CSeq"] == "7 ACK"
    assert ack.headers["Via"] == invite.headers["Via"]
    assert ack.headers["To"].endswith(";tag=t")
    assert bench.answer(key, invite, 486) == []
    assert [m.method for m in bench.sent()] == ["ACK"]
    bench.retransmissions(32.1)
    assert len(bench.transactions) == 0


def test_rfc_6026_every_2xx_is_passed_on_and_not_acknowledged_by_the_transaction() -> None:
    bench, invite = Bench(), ours()
    key = bench.transactions.request(invite, US, PEER, bench.now)
    bench.sent()
    for tag in ("t", "t", "fork"):
        (event,) = bench.answer(key, invite, 200, tag)
        assert isinstance(event, ResponseReceived)
    assert bench.sent() == []
    assert bench.answer(key, invite, 180) == []
    bench.retransmissions(32.1)
    assert len(bench.transactions) == 0


def test_cancel_takes_branch_number_and_route_of_its_invite() -> None:
    bench, invite = Bench(), ours()
    invite.headers.set("Route", "<sip:proxy.example.net;lr>")
    key = bench.transactions.request(invite, US, PEER, bench.now)
    bench.transactions.request(cancel_request(invite), US, PEER, bench.now, branch=key.branch)
    sent_invite, cancel = bench.sent()
    for header in ("Via", "From", "To", "Call-ID", "Route"):
        assert cancel.headers[header] == sent_invite.headers[header]
    assert cancel.headers["CSeq"] == "7 CANCEL"
    assert str(cancel.uri) == str(sent_invite.uri)


# ---------------------------------------------------------------- non-INVITE client


def test_timer_e_doubles_to_t2_and_timer_f_gives_up() -> None:
    bench = Bench()
    key = bench.transactions.request(ours("BYE"), US, PEER, bench.now)
    bench.sent()
    assert bench.retransmissions(40) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert bench.events() == [TimedOut(key), Ended(key)]


def test_after_a_provisional_timer_e_is_t2_and_timer_f_runs_on() -> None:
    bench, bye = Bench(), ours("BYE")
    key = bench.transactions.request(bye, US, PEER, bench.now)
    bench.sent()
    bench.now += 0.4
    bench.answer(key, bye, 100)
    assert bench.retransmissions(40) == [4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 28.0]
    assert TimedOut(key) in bench.events()


def test_copies_of_a_final_answer_are_absorbed_until_timer_k() -> None:
    bench, bye = Bench(), ours("BYE")
    key = bench.transactions.request(bye, US, PEER, bench.now)
    assert len(bench.answer(key, bye, 200)) == 1
    assert bench.answer(key, bye, 200) == []
    bench.retransmissions(5.1)
    assert bench.events() == [Ended(key)]


def test_a_response_that_is_not_ours_is_dropped() -> None:
    bench, bye = Bench(), ours("BYE")
    bench.transactions.request(bye, US, PEER, bench.now)
    stray = respond(request("BYE", branch="z9hG4bKstray"), 200, to_tag="t")
    assert bench.receive(parse(encode(stray))) == []
    two_vias = respond(bye, 200, to_tag="t")
    two_vias.headers.add("Via", "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK0")
    assert bench.receive(parse(encode(two_vias))) == []


# ---------------------------------------------------------------- where answers go (18.2, RFC 3581)


@pytest.mark.parametrize(
    ("via", "extra", "source", "expected"),
    [
        ("192.0.2.1:5070", "", ("192.0.2.1", 33000), ("192.0.2.1", 5070)),
        ("192.0.2.1", "", ("192.0.2.1", 33000), ("192.0.2.1", 5060)),
        ("192.0.2.1:5070", ";rport", ("192.0.2.1", 33000), ("192.0.2.1", 33000)),
        ("10.0.0.5:5070", "", ("192.0.2.1", 33000), ("192.0.2.1", 33000)),
        ("phone.example.net", "", ("192.0.2.1", 33000), ("192.0.2.1", 33000)),
    ],
)
def test_answers_go_where_the_via_or_the_nat_says(via, extra, source, expected) -> None:
    transactions = Transactions(lambda: "b")
    message = request("OPTIONS", via=via, extra=extra)
    transactions.receive(message, source, 0.0)
    (event,) = transactions.events()
    assert isinstance(event, RequestReceived)
    transactions.respond(event.key, respond(message, 200, to_tag="t"), 0.0)
    ((_, address),) = transactions.datagrams()
    assert address == expected


def test_rport_and_received_are_filled_in() -> None:
    transactions = Transactions(lambda: "b")
    message = request("OPTIONS", via="10.0.0.5:5070", extra=";rport")
    transactions.receive(message, ("192.0.2.1", 33000), 0.0)
    via = respond(message, 200, to_tag="t").headers["Via"]
    assert via == "SIP/2.0/UDP 10.0.0.5:5070;branch=z9hG4bK1;rport=33000;received=192.0.2.1"


def test_the_first_timer_of_many_is_the_next_timeout() -> None:
    bench = Bench()
    for _ in range(3):
        bench.transactions.request(ours("OPTIONS"), US, PEER, bench.now)
        bench.now += 0.1
    assert bench.transactions.next_timeout == pytest.approx(100.5)
