"""E_UA_SESSION events, as OpenSIPS 3.6 and 4.0 wrote them, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector.errors import BadEvent
from connector.leg.opensips_messages import request_of, response_of
from connector.mi.events import Entity, EventType, UaEvent, parse_event

NEW = (
    b'{"jsonrpc":"2.0","method":"E_UA_SESSION","params":{"key":"B2B.414.304.1795179378.1663104906",'
    b'"event_type":"NEW","entity_type":"UAS","status":0,"reason":null,"method":"INVITE",'
    b'"body":"v=0\\r\\no=- 1 1 IN IP4 127.0.0.1\\r\\n","headers":"Via: SIP/2.0/UDP 127.0.0.1:59428;branch=z9hG4bK1'
    b'\\r\\nFrom: \\"J\xf6rg\\" <sip:a@b>;tag=1\\r\\nTo: <sip:1000@b>\\r\\nCall-ID: c1\\r\\nCSeq: 1 INVITE\\r\\n'
    b'Contact: <sip:a@127.0.0.1:59428>\\r\\nContent-Type: application/sdp\\r\\nContent-Length: 87\\r\\n",'
    b'"extra_params":"sip:1000@127.0.0.1:15360"}}'
)
"""With a display name in Latin-1, which OpenSIPS passes on as it came."""


def event(**changes: Any) -> bytes:
    """The datagram of `NEW` with other fields; None stands for null, `...` for none at all."""
    message = json.loads(NEW.decode("utf-8", "replace"))
    message["params"] = {k: v for k, v in {**message["params"], **changes}.items() if v is not ...}
    return json.dumps(message).encode()


def test_a_new_call_as_opensips_writes_it() -> None:
    parsed = parse_event(NEW)
    assert (parsed.type, parsed.entity, parsed.method) == (EventType.NEW, Entity.UAS, "INVITE")
    assert (parsed.status, parsed.reason, parsed.extra) == (0, "", "sip:1000@127.0.0.1:15360")
    invite = request_of(parsed)
    assert (invite.uri.user, invite.headers["Call-ID"], invite.cseq.sequence) == ("1000", "c1", 1)
    assert invite.headers["From"] == '"J\N{REPLACEMENT CHARACTER}rg" <sip:a@b>;tag=1'
    assert invite.body == b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\n"


def test_a_response_and_a_timeout() -> None:
    parsed = parse_event(
        event(event_type="REJECTED", entity_type="UAC", status=408, reason="Timeout", headers="From: x\r\n")
    )
    response = response_of(parsed)
    assert (response.code, response.phrase, response.body[:3]) == (408, "Timeout", b"v=0")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"key": ...}, "key is none"),
        ({"key": 7}, "key is no text"),
        ({"key": "a b"}, "key is none"),
        ({"key": "x" * 200}, "key is none"),
        ({"event_type": "OLD"}, "event_type is unknown"),
        ({"event_type": ["NEW"]}, "event_type is unknown"),
        ({"entity_type": None}, "entity_type is unknown"),
        ({"entity_type": "UAC"}, "NEW is no incoming INVITE"),
        ({"method": "BYE"}, "NEW is no incoming INVITE"),
        ({"method": "IN VITE"}, "method is none"),
        ({"status": ...}, "status is no number"),
        ({"status": "200"}, "status is no number"),
        ({"status": True}, "status is no number"),
        ({"status": 200}, "status 200 of NEW"),
        ({"event_type": "EARLY", "status": 200}, "status 200 of EARLY"),
        ({"event_type": "REJECTED", "status": 700}, "status 700 of REJECTED"),
        ({"event_type": "TERMINATED", "method": "INFO"}, "TERMINATED by INFO"),
        ({"body": {}}, "body is no text"),
        ({"headers": "\ud800"}, "headers is no Unicode text"),
    ],
)
def test_an_event_whose_fields_do_not_fit_raises_the_documented_error(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BadEvent, match=why):
        parse_event(event(**changes))


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"{", b"[]", b"7", b"[" * 100_000, b'{"method":"E_OTHER","params":{}}', b'{"method":"E_UA_SESSION"}'],
)
def test_other_datagrams_raise_the_documented_error(data: bytes) -> None:
    with pytest.raises(BadEvent):
        parse_event(data)


@pytest.mark.parametrize(
    ("headers", "extra"),
    [
        ("", "sip:1@b"),
        ("From: <sip:a@b>\r\nCSeq: 1 INVITE\r\n", "sip:1@b"),
        ("From: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 BYE\r\n", "sip:1@b"),
        ("From: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 9999999999 INVITE\r\n", "sip:1@b"),
        ("From: <sip:a@b\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n", "sip:1@b"),
        ("From: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n", "no URI"),
    ],
)
def test_a_request_without_its_mandatory_headers_raises_the_documented_error(headers: str, extra: str) -> None:
    with pytest.raises(BadEvent):
        request_of(UaEvent("B2B.1", EventType.NEW, Entity.UAS, "INVITE", headers=headers, extra=extra))
