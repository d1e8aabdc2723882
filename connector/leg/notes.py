"""What a line of the ladder says of a SIP message: its first line, and what matters in it."""

from __future__ import annotations

from connector.errors import VoxtrunkError
from connector.sip.bodies import DTMF, DTMF_RELAY, SDP, SIPFRAG, content_type, parse_dtmf, sdp_body
from connector.sip.message import Request, Response, hostport
from connector.sip.sdp import SessionDescription, parse_sdp

TOLD = ("Refer-To", "Reason", "Warning", "Retry-After", "Unsupported")
"""Headers whose value is the note of a message without a body that tells more."""


def shown(message: Request | Response) -> tuple[str, str]:
    """Message and note of a `SignallingStep`: `INVITE` or `180 Ringing`, and `described`, a key, a target, a reason."""
    line = message.method if isinstance(message, Request) else f"{message.code} {message.phrase}"
    return line, note(message)


def note(message: Request | Response) -> str:
    """What matters in `message`, "" for nothing.

    SDP as `described`; a key as `Signal=5`; the status in a NOTIFY; else the first header of `TOLD` there is.
    """
    try:
        return _of_body(message) or _of_headers(message)
    except VoxtrunkError:
        return "unreadable body"


def described(description: SessionDescription) -> str:
    """The audio of an offer or answer: `PCMU PCMA TELEPHONE-EVENT sendrecv 192.0.2.1:41000`.

    The profile comes first where it is not RTP/AVP (RFC 4568: `RTP/SAVP` is SRTP).
    """
    audio = next((media for media in description.media if media.kind == "audio"), None)
    if audio is None:
        return "no audio"
    if audio.port == 0:
        return "audio refused"
    profile = "" if audio.protocol == "RTP/AVP" else f"{audio.protocol} "
    codecs = " ".join(codec.encoding for codec in audio.payload_types.values())
    address = description.address_of(audio) or ""
    return f"{profile}{codecs} {description.direction_of(audio).value} {hostport((address, audio.port))}"


def _of_body(message: Request | Response) -> str:
    if not message.body.strip():
        return ""
    kind, _ = content_type(message)
    if kind in (DTMF, DTMF_RELAY):
        return f"Signal={parse_dtmf(message).digit}"
    if kind == SIPFRAG:
        return message.body.decode("utf-8", "replace").strip().partition("\n")[0].strip()
    if kind == SDP or kind.startswith("multipart/"):
        return described(parse_sdp(sdp_body(message) or b""))
    return kind


def _of_headers(message: Request | Response) -> str:
    for name in TOLD:
        value = message.headers.get(name)
        if value:
            return f"{name}: {value}"
    return ""
