"""From the configuration to the files that OpenSIPS and rtpengine read.

    edge.cfg ua.cfg                 the fixed scripts
    modules.cfg                     where OpenSIPS' modules are
    edge-site.cfg                   what differs by site, for the edge; this folder is its working directory
    address dispatcher version      the edge's tables, as OpenSIPS' db_text has them
    ua-NAME/ua-site.cfg             what differs by site, for the UA of a pair; its folder is its working directory
    rtpengine.conf

Nothing here is secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template

from connector.config.model import EdgeSettings, Network, OpenSipsSettings, PairSettings, split_address, split_range
from connector.errors import StackError
from connector.sip.message import hostport
from connector.stack.scripts import script

MODULE_FOLDERS = tuple(
    Path(folder)
    for folder in (
        "/usr/lib/x86_64-linux-gnu/opensips/modules",
        "/usr/lib/aarch64-linux-gnu/opensips/modules",
        "/usr/lib64/opensips/modules",
        "/usr/lib/opensips/modules",
    )
)
"""Where OpenSIPS' packages have their modules, by distribution and processor."""

GENERATED = "Generated from voxtrunk.yml by `voxtrunk stack render`: changes are lost."

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

PAIRS = 1
"""Dispatcher set of the UAs."""
PEERS = 1
"""Address group of the PBXs and trunks."""


def render(opensips: OpenSipsSettings, modules: Sequence[Path] = MODULE_FOLDERS) -> dict[str, str]:
    """Every file, by its path below the run folder; `modules`: folders of OpenSIPS' modules."""
    files = {
        "edge.cfg": script("edge.cfg"),
        "ua.cfg": script("ua.cfg"),
        "modules.cfg": _lines(f'mpath="{_quotable(str(folder))}/"' for folder in modules),
        "edge-site.cfg": _edge_site(opensips),
        "address": _address_table(allowed(opensips.edge)),
        "dispatcher": _dispatcher_table(opensips),
        "version": _table("table_name(string) table_version(int)", [("address", 5), ("dispatcher", 9)]),
        "rtpengine.conf": _rtpengine(opensips),
    }
    for pair in opensips.pairs:
        files[f"{ua_folder(pair)}/ua-site.cfg"] = _ua_site(opensips, pair)
    return files


def ua_folder(pair: PairSettings) -> str:
    """Name of the folder of a pair's UA."""
    return f"ua-{pair.name}"


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Writes `files` below `folder`; a program that reads one meanwhile sees the old one or the new one.

    Raises StackError.
    """
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)
    except OSError as error:
        raise StackError(f"{error.filename}: {error.strerror}") from error


def allowed(edge: EdgeSettings) -> tuple[Network, ...]:
    """Networks of PBXs and trunks; loopback where nothing but loopback can reach the edge."""
    on_loopback = all(_host(listen).is_loopback for listen in edge.listen)
    return (*edge.allow, *(LOOPBACK if on_loopback else ()))


def inside_socket(opensips: OpenSipsSettings) -> str | None:
    """The edge's own socket towards UAs on this machine, where the others give the public address; else None.

    What UAs send within a call would leave the machine for the public address otherwise, and NAT seldom
    brings it back.
    """
    edge = opensips.edge
    if edge.advertise is None or not all(_is_loopback(pair.listen) for pair in opensips.pairs):
        return None
    for listen in edge.listen:
        if listen.startswith("udp:") and _host(listen).is_loopback:
            return listen
    _, port = split_address(edge.listen[0].partition(":")[2])
    return f"udp:127.0.0.1:{port}"


# --------------------------------------------------------------------------------------- OpenSIPS


def _edge_site(opensips: OpenSipsSettings) -> str:
    edge = opensips.edge
    inside = inside_socket(opensips)
    listening = [*edge.listen, *([inside] if inside and inside not in edge.listen else [])]
    lines = [f"socket={_advertised(listen, edge.advertise)}" for listen in listening]
    if any(listen.startswith("tcp:") for listen in listening):
        lines.append('loadmodule "proto_tcp.so"')
    if len({_host(listen) for listen in listening}) > 1:
        lines.append("mhomed=yes")
    lines += [
        _modparam("mi_datagram", "socket_name", f"udp:{edge.mi}"),
        _modparam("rtpengine", "rtpengine_sock", f"udp:{opensips.rtpengine.control}"),
        _modparam("cfgutils", "shvset", f"calls_per_second=i:{edge.calls_per_second}"),
        *_trace(edge),
    ]
    return _lines(lines)


def _ua_site(opensips: OpenSipsSettings, pair: PairSettings) -> str:
    return _lines(
        [
            f"socket=udp:{pair.listen}",
            _modparam("mi_datagram", "socket_name", f"udp:{pair.mi}"),
            _modparam("cfgutils", "shvset", f"events=s:udp:{pair.events}"),
            _modparam("cfgutils", "shvset", f"edges=s:{_edges(opensips)}"),
        ]
    )


def _edges(opensips: OpenSipsSettings) -> str:
    """Regular expression of the addresses that the edge sends from."""
    inside = inside_socket(opensips)
    hosts = [_host(listen) for listen in (*opensips.edge.listen, *([inside] if inside else []))]
    addresses = sorted({re.sub(r"\.", "[.]", _source(host)) for host in hosts})
    return f"^({'|'.join(addresses)})$"


def _source(host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """An address as OpenSIPS' $si has it: of IPv6 all eight groups, without leading zeros."""
    return str(host) if host.version == 4 else ":".join(f"{int(group, 16):x}" for group in host.exploded.split(":"))


def _advertised(listen: str, public: str | None) -> str:
    """A socket as OpenSIPS takes it: `udp:ADDRESS:PORT as PUBLIC:PORT`."""
    if public is None or _host(listen).is_loopback:
        return listen
    _, port = split_address(listen.partition(":")[2])
    return f"{listen} as {hostport((public, port))}"


def hep_socket(edge: EdgeSettings) -> tuple[str, int]:
    """Address and port that copies for Homer leave from, UDP or TCP.

    OpenSIPS sends HEP from sockets that it listens on alone. It takes port 0 for Homer's own, 9060; what comes to
    this one it drops, as nothing that takes HEP is loaded.
    """
    return str(_host(edge.listen[0])), split_address(edge.mi)[1] + 1


def _trace(edge: EdgeSettings) -> list[str]:
    """What copies every message to Homer (modules tracer, proto_hep), or does nothing.

    The edge does: it sees what its peers say and what the UAs say, while a UA's script sees no request within a
    session.
    """
    if edge.hep is None:
        return ["route[trace] {", "\treturn;", "}"]
    transport, _, homer = edge.hep.partition(":")
    address, port = hep_socket(edge)
    return [
        'loadmodule "proto_hep.so"',
        'loadmodule "tracer.so"',
        f"socket=hep_{transport}:{hostport((address, port))}",
        _modparam("proto_hep", "hep_id", f"[homer] {homer}; transport={transport}; version=3"),
        _modparam("tracer", "trace_id", "[homer]uri=hep:homer"),
        "route[trace] {",
        '\ttrace("homer", "t", "sip");',
        "}",
    ]


def _modparam(module: str, name: str, value: str) -> str:
    return f'modparam("{module}", "{name}", "{_quotable(value)}")'


def _quotable(text: str) -> str:
    """`text`, where OpenSIPS' scripts can hold it in quotes; raises StackError where they cannot."""
    if not text.isprintable() or re.search(r'["\\]', text):
        raise StackError(f"{text!r}: OpenSIPS takes no quotes, backslashes or control characters here")
    return text


# --------------------------------------------------------------------------------------- tables of db_text


def _address_table(networks: Iterable[Network]) -> str:
    columns = (
        "id(int,auto) grp(int) ip(string) mask(int) port(int) proto(string) pattern(string,null) "
        "context_info(string,null)"
    )
    rows = [
        (number, PEERS, str(network.network_address), network.prefixlen, 0, "any", "", "")
        for number, network in enumerate(dict.fromkeys(networks), start=1)
    ]
    return _table(columns, rows)


def _dispatcher_table(opensips: OpenSipsSettings) -> str:
    columns = (
        "id(int,auto) setid(int) destination(string) socket(string,null) state(int) probe_mode(int) weight(string) "
        "priority(int) attrs(string,null) description(string,null)"
    )
    socket = inside_socket(opensips) or ""
    rows = [
        (number, PAIRS, f"sip:{pair.listen}", socket, 0, 0, "1", 0, "", pair.name)
        for number, pair in enumerate(opensips.pairs, start=1)
    ]
    return _table(columns, rows)


def _table(columns: str, rows: Iterable[Sequence[str | int]]) -> str:
    """A table as db_text has it: a line of columns, then a line for each row, values between colons."""
    return _lines([columns, *(":".join(str(value).replace(":", "\\:") for value in row) for row in rows)], comment="")


# --------------------------------------------------------------------------------------- rtpengine


def _rtpengine(opensips: OpenSipsSettings) -> str:
    settings = opensips.rtpengine
    first, last = split_range(settings.ports)
    external = settings.external if settings.advertise is None else f"{settings.external}!{settings.advertise}"
    return Template(script("rtpengine.conf")).substitute(
        external=external,
        internal=settings.internal,
        control=settings.control,
        first_port=first,
        last_port=last,
    )


# --------------------------------------------------------------------------------------- text


def _host(listen: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address of `udp:ADDRESS:PORT`."""
    return ipaddress.ip_address(split_address(listen.partition(":")[2])[0])


def _is_loopback(listen: str) -> bool:
    return ipaddress.ip_address(split_address(listen)[0]).is_loopback


def _lines(lines: Iterable[str], comment: str = f"# {GENERATED}") -> str:
    return "\n".join([*([comment] if comment else []), *lines, ""])
