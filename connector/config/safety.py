"""Combinations that are valid key by key and yet unsafe, or cannot work."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from connector.config.model import HttpSettings, MediaSettings, SipSettings


@dataclass(frozen=True, slots=True)
class Finding:
    """`key`: where (dotted). `refused`: False for a mere warning."""

    key: str
    message: str
    hint: str
    refused: bool = True


def findings(sip: SipSettings, media: MediaSettings, http: HttpSettings) -> Iterator[Finding]:
    """What should not be so."""
    yield from _reach(sip, http)
    yield from _addresses(sip)
    yield from _ports(sip, media)
    names = [user.name for user in sip.users]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Finding("sip.users", f"the user {name} is given twice", "keep one of them")


def _reach(sip: SipSettings, http: HttpSettings) -> Iterator[Finding]:
    """Who can reach us from other machines must be known."""
    if not _is_loopback(sip.address[0]) and not sip.allow and not sip.users:
        yield Finding(
            "sip.listen",
            f"anyone who reaches {sip.listen} could call",
            "add sip.allow: [NETWORK, ...] or sip.users, or listen on 127.0.0.1",
        )
    for network in sip.allow:
        if network.prefixlen == 0:
            yield Finding(
                "sip.allow", f"{network} lets everyone call", "name the networks of your phones", refused=False
            )
    if not _is_loopback(http.address[0]) and http.token is None:
        yield Finding(
            "http.listen",
            f"anyone who reaches {http.listen} could read calls and metrics",
            "add http.token: ${VOXTRUNK_TOKEN}, or listen on 127.0.0.1",
        )


def _addresses(sip: SipSettings) -> Iterator[Finding]:
    if sip.advertise is None:
        return
    advertised = ipaddress.ip_address(sip.advertise)
    if advertised.is_unspecified:
        yield Finding(
            "sip.advertise", f"{advertised} is no address that a peer can send to", "name one of this machine"
        )
    elif advertised.is_loopback and not _is_loopback(sip.address[0]):
        yield Finding(
            "sip.advertise", f"peers on other machines cannot send to {advertised}", "name an address that they reach"
        )


def _ports(sip: SipSettings, media: MediaSettings) -> Iterator[Finding]:
    first, last = media.port_range
    if first <= sip.address[1] <= last:
        yield Finding("media.ports", f"the range holds the SIP port {sip.address[1]}", "move one of them")
    pairs = len(range(first + first % 2, last, 2))
    if pairs < sip.max_calls:
        yield Finding(
            "media.ports",
            f"room for {pairs} call{'' if pairs == 1 else 's'} at once, while sip.max_calls is {sip.max_calls}",
            f"widen it to {first}-{first + 2 * sip.max_calls}, or lower sip.max_calls",
            refused=False,
        )


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
