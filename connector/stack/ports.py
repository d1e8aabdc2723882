"""Every port of a stack, who must reach it, and firewall rules that let nobody else."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from connector.config.model import Settings, split_address
from connector.stack.components import opensips_of
from connector.stack.render import allowed

ANYWHERE = ("anywhere",)


@dataclass(frozen=True, slots=True)
class Port:
    """One port, or a range.

    `transport`: udp or tcp. `ports`: `5060` or `30000-39999`. `purpose`: what comes there. `peers`:
    who has to reach it, in words. `sources`: their networks; `ANYWHERE` where they cannot be known.
    `setting`: key of voxtrunk.yml.
    """

    transport: str
    address: str
    ports: str
    purpose: str
    peers: str
    sources: tuple[str, ...]
    setting: str


def ports(settings: Settings) -> list[Port]:
    """All of them, those for the outer world first. Raises StackError where there is no section `opensips`."""
    site = opensips_of(settings)
    edge, rtpengine = site.edge, site.rtpengine
    peers = tuple(str(network) for network in allowed(edge))
    edge_hosts = tuple(sorted({split_address(listen.partition(":")[2])[0] for listen in edge.listen}))
    found = [
        _port(listen.partition(":")[0], listen.partition(":")[2], "SIP", "PBXs and trunks", peers, "edge.listen")
        for listen in edge.listen
    ]
    # A trunk's media comes from other addresses than its signalling.
    media = ("udp", rtpengine.external, rtpengine.ports, "RTP, RTCP", "PBXs and trunks: their media", ANYWHERE)
    found.append(Port(*media, "opensips.rtpengine.ports"))
    connectors = tuple(sorted({pair.media for pair in site.pairs}))
    if rtpengine.internal != rtpengine.external:
        inner = ("udp", rtpengine.internal, rtpengine.ports, "RTP, RTCP", "connectors", connectors)
        found.append(Port(*inner, "opensips.rtpengine.ports"))
    found.append(_port("udp", rtpengine.control, "NG control", "edge", edge_hosts, "rtpengine.control"))
    found.append(_port("udp", edge.mi, "MI", "this machine: voxtrunk stack", ("127.0.0.1",), "edge.mi"))
    for number, pair in enumerate(site.pairs):
        here = f"pairs[{number}]"
        ua, connector = split_address(pair.listen)[0], split_address(pair.events)[0]
        found += [
            _port("udp", pair.listen, f"SIP of UA {pair.name}", "edge", edge_hosts, f"{here}.listen"),
            _port("udp", pair.mi, f"MI of UA {pair.name}", f"connector {pair.name}", (connector,), f"{here}.mi"),
            _port("udp", pair.events, f"events for connector {pair.name}", f"UA {pair.name}", (ua,), f"{here}.events"),
            Port(
                "udp",
                pair.media,
                pair.ports or settings.media.ports,
                f"RTP, RTCP of connector {pair.name}",
                "rtpengine",
                (rtpengine.internal,),
                "media.ports" if pair.ports is None else f"opensips.{here}.ports",
            ),
        ]
        address, port = split_address(pair.http or settings.http.listen)
        setting = "http.listen" if pair.http is None else f"opensips.{here}.http"
        monitoring = ("health and metrics", "monitoring", ("127.0.0.1",), setting)
        found.append(Port("tcp", address, str(port), *monitoring))
    return found


def nftables(found: Sequence[Port]) -> str:
    """Rules for nft(8): each port takes what its peers send, and drops the rest. They touch no other port."""
    lines = ["table inet voxtrunk", "delete table inet voxtrunk", "table inet voxtrunk {", "\tchain input {"]
    lines += ["\t\ttype filter hook input priority filter; policy accept;", '\t\tiif "lo" accept']
    guarded: dict[tuple[str, str], set[str]] = {}
    for port in found:
        guarded.setdefault((port.transport, port.ports), set()).update(port.sources)
    for (transport, number), sources in guarded.items():
        match = f"{transport} dport {number}"
        if ANYWHERE[0] in sources:
            lines.append(f"\t\t{match} accept")
            continue
        for family, version in (("ip", 4), ("ip6", 6)):
            networks = sorted(n for n in sources if ipaddress.ip_network(n).version == version)
            if networks:
                lines.append(f"\t\t{match} {family} saddr {{ {', '.join(networks)} }} accept")
        lines.append(f"\t\t{match} drop")
    return "\n".join([*lines, "\t}", "}", ""])


def _port(transport: str, listen: str, purpose: str, peers: str, sources: tuple[str, ...], setting: str) -> Port:
    address, port = split_address(listen)
    return Port(transport, address, str(port), purpose, peers, sources, f"opensips.{setting}")
