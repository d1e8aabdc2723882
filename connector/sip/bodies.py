"""Bodies other than SDP, and finding the SDP: DTMF in INFO, progress of a REFER, multipart."""

from __future__ import annotations

import re
from urllib.parse import quote

from connector.errors import BadRequest, VoxtrunkError
from connector.interfaces import Digit
from connector.sip.message import Message, parse_parameters, parse_uri

SDP = "application/sdp"
DTMF_RELAY = "application/dtmf-relay"
DTMF = "application/dtmf"
SIPFRAG = "message/sipfrag"

_SIGNAL = re.compile(r"(?im)^\s*Signal\s*=\s*([0-9]{1,2}|[*#A-D])\s*$")
_DURATION = re.compile(r"(?im)^\s*Duration\s*=\s*([0-9]{1,6})\s*$")
_NUMBERED = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}
"""Keys by their event numbers (RFC 4733 section 3.2), which some phones send as the signal."""


class UnsupportedMediaType(VoxtrunkError):
    """A body of a type that we do not read (RFC 3261 section 21.4.13). `accept`: those that we do."""

    sip_status = 415
    sip_reason = "Unsupported Media Type"

    def __init__(self, accept: str) -> None:
        super().__init__(f"only {accept} is read here")
        self.accept = accept


def content_type(message: Message) -> tuple[str, dict[str, str | None]]:
    """The type in lower case, empty where there is none, and its parameters. Raises `BadRequest`."""
    kind, semicolon, parameters = (message.headers.get("Content-Type") or "").partition(";")
    return kind.strip().lower(), parse_parameters(semicolon + parameters)


def sdp_body(message: Message) -> bytes | None:
    """The session description in `message`, None where it has no body.

    A multipart body is searched for it (RFC 5621 section 3.1). Raises `UnsupportedMediaType`, `BadRequest`.
    """
    if not message.body.strip():
        return None
    if (message.headers.get("Content-Encoding") or "identity").lower() != "identity":
        raise UnsupportedMediaType(SDP)
    kind, parameters = content_type(message)
    if kind == SDP:
        return message.body
    if kind.startswith("multipart/"):
        for part in _parts(message.body, parameters.get("boundary") or ""):
            head, _, body = part.partition("\n\n")
            if re.search(rf"(?im)^content-type\s*:\s*{SDP}\s*(;|$)", head):
                return body.encode("utf-8", "surrogateescape")
    raise UnsupportedMediaType(SDP)


def _parts(body: bytes, boundary: str) -> list[str]:
    if not boundary:
        raise BadRequest("a multipart body has no boundary")
    text = body.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    return [part.removeprefix("\n") for part in ("\n" + text).split(f"\n--{boundary}")[1:]]


def parse_dtmf(message: Message) -> Digit:
    """The key in an INFO of `application/dtmf-relay` or `application/dtmf`.

    Raises `UnsupportedMediaType` for other types, `BadRequest` where no key can be read.
    """
    kind, _ = content_type(message)
    text = message.body.decode("utf-8", "replace")
    if kind == DTMF_RELAY:
        signal, duration = _SIGNAL.search(text), _DURATION.search(text)
        key, seconds = signal[1] if signal else "", int(duration[1]) / 1000 if duration else 0.0
    elif kind == DTMF:
        key, seconds = text.strip(), 0.0
    else:
        raise UnsupportedMediaType(f"{DTMF_RELAY}, {DTMF}")
    key = _NUMBERED.get(key, key.upper())
    if len(key) != 1 or key not in "0123456789*#ABCD":
        raise BadRequest("INFO: there is no DTMF key")
    return Digit(key, seconds)


def dtmf_relay(digit: str, milliseconds: int = 160) -> bytes:
    """The body of an INFO that presses `digit`."""
    return f"Signal={digit}\r\nDuration={milliseconds}\r\n".encode()


def sipfrag_status(message: Message) -> int:
    """The status in a NOTIFY of a REFER (RFC 3515 section 2.4.5). Raises `BadRequest`."""
    match = re.match(rb"\s*SIP/2\.0 ([1-6][0-9]{2})\b", message.body)
    if match is None:
        raise BadRequest("NOTIFY: there is no status line")
    return int(match[1])


def refer_to(target: str, host: str) -> str:
    """The Refer-To of `target`: a SIP or tel URI as it is, a bare number as a user at `host`. Raises `BadRequest`."""
    if re.match("(?i)(sips?|tel):", target):
        return f"<{parse_uri(target)}>"
    if not re.fullmatch(r"[^\s@<>\"]+", target):
        raise BadRequest("the transfer's target is neither a URI nor a number")
    user = quote(target, safe="+*")
    return f"<{parse_uri(f'sip:{user}@{host}')}>"
