"""Bodies other than SDP: multipart, DTMF by INFO, progress of a REFER."""

from __future__ import annotations

import pytest

from connector.errors import BadRequest
from connector.interfaces import Digit
from connector.sip.bodies import UnsupportedMediaType, dtmf_relay, parse_dtmf, refer_to, sdp_body, sipfrag_status
from connector.sip.message import Request, parse_uri


def message(body: bytes, kind: str = "", encoding: str = "") -> Request:
    request = Request("INFO", parse_uri("sip:a@b"), body)
    for name, value in {"Content-Type": kind, "Content-Encoding": encoding}.items():
        if value:
            request.headers.set(name, value)
    return request


@pytest.mark.parametrize("digit", "0123456789*#ABCD")
def test_what_we_press_by_info_is_what_is_read(digit: str) -> None:
    assert parse_dtmf(message(dtmf_relay(digit, 250), "application/dtmf-relay")) == Digit(digit, 0.25)


@pytest.mark.parametrize("body", [b"", b"Duration=1", b"Signal=E", b"Signal=99", b"Signal=\xff"])
def test_no_key_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_dtmf(message(body, "application/dtmf-relay"))


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
def test_sdp_is_found_in_a_multipart_body(ending: bytes) -> None:
    body = b"preamble\n--b\nContent-Type: text/plain\n\nx\n--b\ncontent-type : application/sdp\n\nv=0\n--b--\n"
    found = sdp_body(message(body.replace(b"\n", ending), 'multipart/mixed; boundary="b"'))
    assert found == b"v=0"


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [("text/plain", ""), ("", ""), ("application/sdp", "gzip"), ("multipart/mixed;boundary=zz", "")],
)
def test_a_body_without_readable_sdp_is_415(kind: str, encoding: str) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        sdp_body(message(b"v=0", kind, encoding))
    assert caught.value.sip_status == 415
    assert caught.value.accept == "application/sdp"


def test_no_body_is_no_sdp() -> None:
    assert sdp_body(message(b"", "application/sdp")) is None


@pytest.mark.parametrize(("body", "status"), [(b"SIP/2.0 100 Trying\r\n", 100), (b"SIP/2.0 486 Busy", 486)])
def test_the_status_of_a_transfer(body: bytes, status: int) -> None:
    assert sipfrag_status(message(body, "message/sipfrag;version=2.0")) == status


@pytest.mark.parametrize("body", [b"", b"OK", b"SIP/2.0 999 x", b"SIP/2.0 2000"])
def test_a_notify_without_a_status_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        sipfrag_status(message(body))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("2000", "<sip:2000@pbx:5070>"),
        ("+49 30".replace(" ", ""), "<sip:+4930@pbx:5070>"),
        ("*72#", "<sip:*72%23@pbx:5070>"),
        ("sip:a@b;x=y", "<sip:a@b;x=y>"),
        ("tel:+4930", "<tel:+4930>"),
    ],
)
def test_the_target_of_a_transfer_is_a_uri_or_a_number(target: str, expected: str) -> None:
    assert refer_to(target, "pbx:5070") == expected


@pytest.mark.parametrize("target", ["", "a b", "sip:", "a@b", "x\r\nInjected: 1"])
def test_what_is_neither_is_refused(target: str) -> None:
    with pytest.raises(BadRequest):
        refer_to(target, "pbx")
