"""What an INVITE must be for us to take the call, and how a refusal explains itself."""

from __future__ import annotations

from collections.abc import Mapping

from connector.errors import BadRequest, VoxtrunkError
from connector.sip.bodies import UnsupportedMediaType, sdp_body
from connector.sip.dialog import contact_uri
from connector.sip.message import Request, tokens
from connector.sip.offer_answer import Capabilities, choose
from connector.sip.sdp import SessionDescription, parse_sdp


class UnsupportedScheme(BadRequest):
    """A request URI that is neither SIP nor tel (RFC 3261 section 8.2.2.1)."""

    sip_status = 416
    sip_reason = "Unsupported URI Scheme"


class BadExtension(BadRequest):
    """A request that requires an extension, and we have none (RFC 3261 section 8.2.2.3)."""

    sip_status = 420
    sip_reason = "Bad Extension"

    def __init__(self, extensions: list[str]) -> None:
        self.extensions = ", ".join(extensions)
        super().__init__(f"the extension {self.extensions} is required")


def offer_of(invite: Request, address: str, capabilities: Capabilities) -> SessionDescription | None:
    """The offer of an INVITE that we can serve with media at `address` and what we speak; None where it makes none.

    Raises the `VoxtrunkError` that refuses it: 400, 415, 416, 420, 488.
    """
    if invite.uri.scheme not in ("sip", "sips", "tel"):
        raise UnsupportedScheme("only sip, sips and tel URIs can be called")
    if unsupported := tokens(invite, "Require"):
        raise BadExtension(unsupported)
    contact_uri(invite)
    body = sdp_body(invite)
    if body is None:
        return None
    offer = parse_sdp(body)
    choose(offer, address, capabilities)
    return offer


def refusal_headers(error: VoxtrunkError) -> Mapping[str, str]:
    """Headers of the response that `error` stands for."""
    headers: dict[str, str] = {}
    if isinstance(error, UnsupportedMediaType):
        headers["Accept"] = error.accept
    if isinstance(error, BadExtension):
        headers["Unsupported"] = error.extensions
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.sip_status in (400, 488):
        text = str(error).replace("\\", "").replace('"', "'")
        headers["Warning"] = f'399 voxtrunk "{text}"'
    return headers
