"""RFC 3261 sections 12 and 13.3.1.4: dialogs, route sets, order, and the 2xx that waits for its ACK."""

from __future__ import annotations

import pytest

from connector.errors import BadRequest
from connector.sip.dialog import Dialog, OutOfOrder, Unacknowledged
from connector.sip.message import Request, Response, encode, parse, respond
from connector.sip.transactions import Timing

PEER = ("192.0.2.1", 5060)


def invite(*lines: str, contact: str = "<sip:200@192.0.2.1:5070;ob>") -> Request:
    text = (
        "INVITE sip:1000@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n"
        'From: "A" <sip:200@192.0.2.1>;tag=their+tag\r\nTo: <sip:1000@192.0.2.2>\r\nCall-ID: c1\r\nCSeq: 314 INVITE\r\n'
        + (f"Contact: {contact}\r\n" if contact else "")
        + "".join(f"{line}\r\n" for line in lines)
        + "\r\n"
    )
    parsed = parse(text.encode())
    assert isinstance(parsed, Request)
    return parsed


def in_dialog(cseq: int, method: str = "INFO") -> Request:
    request = invite()
    request.method = method
    request.headers.set("CSeq", f"{cseq} {method}")
    return request


def uas(*lines: str) -> Dialog:
    return Dialog.from_request(invite(*lines), "ours", PEER, 1)


def test_the_callee_swaps_from_and_to_and_keeps_their_tags_byte_for_byte() -> None:
    dialog = uas()
    bye = dialog.request("BYE")
    assert bye.headers["From"] == "<sip:1000@192.0.2.2>;tag=ours"
    assert bye.headers["To"] == '"A" <sip:200@192.0.2.1>;tag=their+tag'
    assert bye.headers["CSeq"] == "2 BYE"
    assert str(bye.uri) == "sip:200@192.0.2.1:5070;ob"
    assert dialog.next_hop == ("192.0.2.1", 5070)


def test_the_route_set_is_in_order_for_the_callee_and_reversed_for_the_caller() -> None:
    routes = ("Record-Route: <sip:p2.example.net;lr>", "Record-Route: <sip:p1.example.net;lr>")
    assert uas(*routes).routes == ["<sip:p2.example.net;lr>", "<sip:p1.example.net;lr>"]
    request = invite(*routes)
    response = respond(request, 200, to_tag="theirs")
    response.headers.set("Contact", "<sip:1000@192.0.2.2>")
    parsed = parse(encode(response))
    assert isinstance(parsed, Response)
    dialog = Dialog.from_response(request, parsed, PEER)
    assert dialog.routes == ["<sip:p1.example.net;lr>", "<sip:p2.example.net;lr>"]
    assert dialog.id.remote_tag == "theirs"


def test_a_loose_router_keeps_the_target_as_request_uri() -> None:
    request = uas("Record-Route: <sip:198.51.100.1:5080;lr>").request("BYE")
    assert str(request.uri) == "sip:200@192.0.2.1:5070;ob"
    assert request.headers.getlist("Route") == ["<sip:198.51.100.1:5080;lr>"]


def test_a_strict_router_takes_the_request_uri_and_the_target_goes_last() -> None:
    """Section 12.2.1.1."""
    request = uas("Record-Route: <sip:198.51.100.1>, <sip:198.51.100.2;lr>").request("BYE")
    assert str(request.uri) == "sip:198.51.100.1"
    assert request.headers.getlist("Route") == ["<sip:198.51.100.2;lr>", "<sip:200@192.0.2.1:5070;ob>"]


@pytest.mark.parametrize(
    ("contact", "route", "expected"),
    [
        ("<sip:200@192.0.2.1:5070>", "", ("192.0.2.1", 5070)),
        ("<sip:200@phone.example.net>", "", PEER),
        ("<sip:200@10.0.0.7:5070>", "", PEER),
        ("<sip:200@10.0.0.7:5070>", "Record-Route: <sip:198.51.100.1:5080;lr>", ("198.51.100.1", 5080)),
    ],
)
def test_requests_go_to_the_route_the_contact_or_back_through_the_nat(contact, route, expected) -> None:
    lines = [route] if route else []
    assert Dialog.from_request(invite(*lines, contact=contact), "ours", PEER, 1).next_hop == expected


def test_the_ack_of_a_2xx_has_the_number_of_its_invite() -> None:
    dialog = uas()
    request = dialog.request("INVITE")
    request.headers.set("Authorization", "Digest x")
    dialog.request("INFO")
    ack = dialog.ack(request)
    assert ack.headers["CSeq"] == "2 ACK"
    assert ack.headers["Authorization"] == "Digest x"


@pytest.mark.parametrize("sequence", [313, 314])
def test_a_request_out_of_order_is_refused_with_500(sequence: int) -> None:
    dialog = uas()
    with pytest.raises(OutOfOrder) as caught:
        dialog.receive(in_dialog(sequence), PEER)
    assert caught.value.sip_status == 500
    dialog.receive(in_dialog(400), PEER)
    assert dialog.remote_sequence == 400


def test_a_target_refresh_moves_the_dialog() -> None:
    dialog = uas()
    moved = invite(contact="<sip:200@192.0.2.1:6000>")
    dialog.refresh(moved)
    assert str(dialog.request("BYE").uri) == "sip:200@192.0.2.1:6000"


@pytest.mark.parametrize("contact", ["", "<mailto:a@b>"])
def test_without_a_sip_contact_there_is_no_dialog(contact: str) -> None:
    with pytest.raises(BadRequest):
        Dialog.from_request(invite(contact=contact), "ours", PEER, 1)


def test_the_2xx_is_repeated_from_t1_to_t2_and_given_up_after_64_t1() -> None:
    repeat, times = Unacknowledged(Timing(), sent=10.0), []
    while repeat.next < repeat.deadline:
        now = repeat.next
        assert repeat.due(now)
        times.append(now - 10.0)
    assert times == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert repeat.deadline == 42.0


def test_it_is_not_repeated_early() -> None:
    repeat = Unacknowledged(Timing(), sent=10.0)
    assert not repeat.due(10.49)
    assert repeat.next == 10.5
