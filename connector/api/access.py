"""Who may ask an HTTP server of ours: whoever has its token, or this machine alone.

The Chatterbox service, which is installed without the connector, has a copy of this file (a test keeps both equal).
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from typing import NamedTuple

from aiohttp import web
from pydantic import SecretStr

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing (RFC 9110 section 9.2.1)."""


class Refusal(NamedTuple):
    """Why a request is not answered: an HTTP status, and what would be right."""

    status: int
    message: str


def refusal(
    request: web.Request, token: SecretStr | None, *, setting: str, open_to_all: bool = False
) -> Refusal | None:
    """Why `request` is not to be answered; None where it is.

    With `token`, whoever sends it as bearer token (RFC 6750 section 2.1) is answered. Without one, unless the server is
    `open_to_all`, this machine alone is, and no web page that is shown on it: a page can have its own name resolve to
    127.0.0.1, but not hide that name from `Host`. What changes something is done for no page of another origin.
    `setting`: what sets the token, for the message.
    """
    if request.method not in _SAFE and not _same_origin(request):
        return Refusal(403, "a web page of another origin asks")
    if token is None and not open_to_all and not _by_address(request):
        return Refusal(403, f"ask 127.0.0.1 or localhost; names are answered where {setting} is set")
    if token is not None and not _bears(request, token):
        return Refusal(401, "a bearer token is needed")
    return None


def _same_origin(request: web.Request) -> bool:
    """Whether no browser sent it, or one that shows a page of ours (Fetch Metadata; RFC 6454 section 7)."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return False
    origin = request.headers.get("Origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("Host")


def _bears(request: web.Request, token: SecretStr) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # aiohttp hands on what is no UTF-8 as surrogates.
    given_bytes = given.strip().encode("utf-8", "surrogateescape")
    return scheme.lower() == "bearer" and hmac.compare_digest(given_bytes, token.get_secret_value().encode())


def _by_address(request: web.Request) -> bool:
    """Whether the request was sent to an address, or to localhost, and not to any other name."""
    host = request.headers.get("Host")
    if host is None:
        return True  # no browser leaves it out
    name = re.sub(r":[0-9]+$", "", host).strip("[]")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.lower() == "localhost"
    return True
