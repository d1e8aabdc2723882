"""What a ladder says of a SIP message, and what of it redaction hides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.leg.events import LONGEST_LADDER, LONGEST_TEXT, Ladder
from connector.leg.notes import shown
from connector.record.cdr import redact_note
from connector.sip.message import Request, Response, parse
from tests.fakes.clock import LoopClock
from tests.fakes.sip import sdp

HEAD = (
    "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx\r\nFrom: <sip:200@192.0.2.1>;tag=a\r\n"
    "To: <sip:1000@192.0.2.2>;tag=b\r\nCall-ID: call-1\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n"
)


def request(method: str, headers: str = "", body: str = "") -> Request:
    text = f"{method} sip:1000@192.0.2.2 SIP/2.0\r\n{HEAD.format(method=method)}{headers}"
    made = parse(f"{text}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    assert isinstance(made, Request)
    return made


def response(line: str, headers: str = "", body: str = "") -> Response:
    text = f"SIP/2.0 {line}\r\n{HEAD.format(method='INVITE')}{headers}"
    made = parse(f"{text}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    assert isinstance(made, Response)
    return made


@pytest.mark.parametrize(
    ("body", "note"),
    [
        (sdp(), "PCMU PCMA TELEPHONE-EVENT sendrecv 127.0.0.1:41000"),
        (sdp(formats="8", direction="sendonly"), "PCMA sendonly 127.0.0.1:41000"),
        (sdp(port=0), "audio refused"),
        (sdp().replace("RTP/AVP", "RTP/SAVP"), "RTP/SAVP PCMU PCMA TELEPHONE-EVENT sendrecv 127.0.0.1:41000"),
        (sdp().replace("IN IP4 127.0.0.1", "IN IP6 ::1"), "PCMU PCMA TELEPHONE-EVENT sendrecv [::1]:41000"),
        (sdp().replace("m=audio", "m=video"), "no audio"),
        ("nonsense", "unreadable body"),
        ("", ""),
    ],
)
def test_an_offer_is_told_by_codecs_direction_and_address(body: str, note: str) -> None:
    headers = "Content-Type: application/sdp\r\n"
    assert shown(request("INVITE", headers, body)) == ("INVITE", note)
    assert shown(response("200 OK", headers, body)) == ("200 OK", note)


@pytest.mark.parametrize(
    ("method", "headers", "body", "note"),
    [
        ("INFO", "Content-Type: application/dtmf-relay\r\n", "Signal=5\r\nDuration=160\r\n", "Signal=5"),
        ("INFO", "Content-Type: application/dtmf\r\n", "#", "Signal=#"),
        ("REFER", "Refer-To: <sip:1002@192.0.2.1>\r\n", "", "Refer-To: <sip:1002@192.0.2.1>"),
        ("NOTIFY", "Content-Type: message/sipfrag\r\n", "SIP/2.0 180 Ringing\r\n", "SIP/2.0 180 Ringing"),
        ("BYE", 'Reason: Q.850;cause=16;text="Normal"\r\n', "", 'Reason: Q.850;cause=16;text="Normal"'),
        ("MESSAGE", "Content-Type: text/plain\r\n", "secret", "text/plain"),
    ],
)
def test_other_messages_are_told_by_what_matters(method: str, headers: str, body: str, note: str) -> None:
    assert shown(request(method, headers, body)) == (method, note)


def test_a_refusal_is_told_by_its_reason() -> None:
    warning = '399 voxtrunk "no common codec"'
    assert shown(response("488 Not Acceptable Here", f"Warning: {warning}\r\n")) == (
        "488 Not Acceptable Here",
        f"Warning: {warning}",
    )


@pytest.mark.parametrize(
    ("note", "redacted"),
    [
        ("Signal=5", "Signal=*"),
        ("Refer-To: <sip:+4930123456@192.0.2.1>", "Refer-To: <sip:***56@192.0.2.1>"),
        ("Refer-To: <sips:1002@192.0.2.1;x=y>", "Refer-To: <sips:***02@192.0.2.1;x=y>"),
        ("Refer-To: <tel:+4930123456>", "Refer-To: <tel:***56>"),
        ("Refer-To: <sip:192.0.2.1>", "Refer-To: <sip:192.0.2.1>"),
        ("PCMU sendrecv 192.0.2.1:41000", "PCMU sendrecv 192.0.2.1:41000"),
    ],
)
def test_redaction_hides_keys_and_numbers(note: str, redacted: str) -> None:
    assert redact_note(note) == redacted


@given(
    st.sampled_from(
        ["application/sdp", "application/dtmf-relay", "message/sipfrag", "multipart/mixed;boundary=x", ";"]
    ),
    st.binary(max_size=300) | st.text(max_size=300).map(lambda text: f"v=0\r\nm=audio {text}".encode()),
)
def test_no_body_costs_a_call(kind: str, body: bytes) -> None:
    message = request("INVITE", f"Content-Type: {kind}\r\n")
    message.body = body
    assert shown(message)[0] == "INVITE"


async def test_a_far_end_that_talks_for_ever_fills_no_memory() -> None:
    ladder = Ladder(LoopClock())
    for _ in range(2 * LONGEST_LADDER):
        ladder.received("x" * 10_000, "y" * 10_000)
    assert len(ladder.steps) == LONGEST_LADDER
    assert len(ladder.steps[0].message) == len(ladder.steps[0].note) == LONGEST_TEXT
