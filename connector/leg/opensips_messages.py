"""The SIP messages inside E_UA_SESSION events."""

from __future__ import annotations

import re

from connector.errors import BadEvent, BadRequest
from connector.mi.events import UaEvent
from connector.sip.message import MAX_CSEQ, Request, Response, Uri, parse_headers, parse_name_addr, parse_uri


def request_of(event: UaEvent) -> Request:
    """The request of a NEW, UPDATED or TERMINATED event, its mandatory headers checked. Raises `BadEvent`.

    The request URI is what came with NEW; within a session nobody looks at it.
    """
    try:
        uri = parse_uri(event.extra) if event.extra else Uri("sip", "")
    except BadRequest as error:
        raise BadEvent(f"request URI: {error}") from error
    request = Request(event.method, uri, event.body.encode())
    request.headers = headers = parse_headers(event.headers)
    cseq = re.fullmatch(r"([0-9]{1,10})\s+(\S+)", headers.get("CSeq") or "", re.ASCII)
    if cseq is None or int(cseq[1]) > MAX_CSEQ or cseq[2] != event.method:
        raise BadEvent("CSeq cannot be read")
    headers.set("CSeq", f"{int(cseq[1])} {cseq[2]}")
    try:
        parse_name_addr(headers.get("From") or "")
    except BadRequest as error:
        raise BadEvent(f"From: {error}") from error
    if not headers.get("Call-ID"):
        raise BadEvent("there is no Call-ID")
    return request


def response_of(event: UaEvent) -> Response:
    """The response of an EARLY, ANSWERED or REJECTED event; of a time-out it has hardly any headers."""
    response = Response(event.status, event.reason, event.body.encode())
    response.headers = parse_headers(event.headers)
    return response
