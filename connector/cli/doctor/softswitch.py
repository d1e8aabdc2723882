"""Checks of OpenSIPS and rtpengine before they run: programs, scripts, addresses, ports, limits of the machine."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import re
import resource
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from connector.cli.console import counted
from connector.cli.doctor.findings import Finding, Verdict
from connector.config.model import OpenSipsSettings, Settings, split_address, split_range
from connector.errors import StackError
from connector.stack.programs import OPENSIPS_HINT, RTPENGINE_HINT, find_opensips, find_rtpengine
from connector.stack.render import hep_socket, render, ua_folder, write

RTPENGINE_RELEASES = ("10.5", "11.5", "12.5")
"""Release lines of rtpengine that the scripts are tested with: those of Debian 12, Ubuntu 24.04 and Debian 13."""

MODULE_PACKAGES: Mapping[str, str] = {
    name: package
    for package, names in {
        "opensips-auth-modules": ("auth", "auth_aka", "uac_auth"),
        "opensips-http-modules": ("httpd", "mi_html", "mi_http", "pi_http"),
        "opensips-json-module": ("json",),
        "opensips-prometheus-module": ("prometheus",),
        "opensips-tls-module": ("proto_bins", "proto_tls"),
        "opensips-tlsmgm-module": ("tls_mgm",),
        "opensips-wss-module": ("proto_wss",),
    }.items()
    for name in names
}
"""Debian package of the modules that are not in `opensips` itself (OpenSIPS packaging/debian/rules)."""

FILES_PER_CALL = 8
"""Descriptors that one call takes in the program that needs most: rtpengine's sockets, RTP and RTCP, both sides."""
FILES_BESIDE = 200
"""Descriptors that programs need besides."""

RECEIVE_BUFFER = 1 << 20
"""Bytes of net.core.rmem_max from which on a burst of new calls does not overflow OpenSIPS' and rtpengine's sockets."""

_LOADMODULE = re.compile(r'^\s*loadmodule\s+"(?:.*/)?([a-z0-9_]+)(?:\.so)?"', re.MULTILINE)
_MPATH = re.compile(r'^\s*mpath\s*=\s*"([^"]+)"', re.MULTILINE)
_TIME_ERROR = 5
"""What adjtimex(2) returns where nothing keeps the clock right."""


def check_softswitch(settings: Settings, opensips: OpenSipsSettings) -> Iterator[Finding]:
    """Every check that needs nothing to run."""
    yield from check_opensips(opensips)
    yield check_rtpengine()
    yield check_run_folder(opensips.run)
    yield from check_addresses(opensips)
    yield check_clashes(list(claims(settings, opensips)))
    yield check_files(settings.sip.max_calls)
    yield check_receive_buffers()
    yield check_clock()


# --------------------------------------------------------------------------------------- programs and scripts


def check_opensips(opensips: OpenSipsSettings) -> Iterator[Finding]:
    """Is it installed, in a tested version, with the modules that the scripts need, and does it accept them?"""
    try:
        program = find_opensips()
    except StackError as error:
        yield Finding("OpenSIPS", Verdict.FAILED, *_without_hint(error, OPENSIPS_HINT))
        return
    yield Finding("OpenSIPS", Verdict.OK, f"{program.path}, version {program.version}")
    try:
        files = render(opensips, program.modules)
    except StackError as error:
        yield Finding("OpenSIPS scripts", Verdict.FAILED, str(error), "correct the value in voxtrunk.yml")
        return
    found = check_modules(files.values())
    yield found
    if found.verdict is not Verdict.OK:
        return
    with tempfile.TemporaryDirectory(prefix="voxtrunk-doctor-") as name:
        folder = Path(name)
        write(folder, files)
        yield check_script("script of the edge", program.path, folder / "edge.cfg", folder)
        for pair in opensips.pairs:
            yield check_script(
                f"script of {ua_folder(pair)}", program.path, folder / "ua.cfg", folder / ua_folder(pair)
            )


def check_rtpengine() -> Finding:
    """Is it installed, in a tested version?"""
    try:
        program = find_rtpengine()
    except StackError as error:
        return Finding("rtpengine", Verdict.FAILED, *_without_hint(error, RTPENGINE_HINT))
    if ".".join(program.version.split(".")[:2]) in RTPENGINE_RELEASES:
        return Finding("rtpengine", Verdict.OK, f"{program.path}, version {program.version}")
    cause = f"{program.path} is version {program.version}, which is not tested"
    return Finding("rtpengine", Verdict.WARNING, cause, f"{', '.join(RTPENGINE_RELEASES)} are tested")


def _without_hint(error: StackError, hint: str) -> tuple[str, str]:
    """What is wrong, and what helps."""
    return str(error).removesuffix(hint).strip(), hint


def check_modules(scripts: Iterable[str]) -> Finding:
    """Are the modules there that `scripts` (their texts) load, in one of the directories that they name?"""
    check = "OpenSIPS modules"
    text = "\n".join(scripts)
    places = [Path(place) for place in _MPATH.findall(text) if Path(place).is_dir()]
    if not places:
        cause = f"there is none of {', '.join(_MPATH.findall(text))}"
        return Finding(check, Verdict.FAILED, cause, OPENSIPS_HINT)
    # Those two are part of the program itself.
    wanted = sorted(set(_LOADMODULE.findall(text)) - {"proto_udp", "proto_tcp"})
    missing = [name for name in wanted if not any((place / f"{name}.so").is_file() for place in places)]
    if not missing:
        return Finding(check, Verdict.OK, f"{counted(len(wanted), 'module')} in {places[0]}")
    packages = sorted({MODULE_PACKAGES.get(name, "opensips") for name in missing})
    return Finding(
        check,
        Verdict.FAILED,
        f"missing in {', '.join(map(str, places))}: {', '.join(missing)}",
        f"apt-get install --reinstall {' '.join(packages)}",
    )


def check_script(check: str, program: Path, script: Path, folder: Path) -> Finding:
    """Does OpenSIPS accept `script` (`opensips -C`)? `folder`: the working directory, for the files it includes."""
    command = [str(program), "-C", "-f", str(script)]
    try:
        said = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(check, Verdict.FAILED, f"{program} -C does not run: {error}", OPENSIPS_HINT)
    if said.returncode == 0:
        return Finding(check, Verdict.OK, f"{program} -C accepts {script.name}")
    lines = (said.stdout + said.stderr).splitlines()
    errors = [line.partition("yyerror: ")[2] for line in lines if "yyerror: " in line]
    errors += [line.partition("ERROR:")[2] for line in lines if "ERROR:" in line]
    cause = errors[0] if errors else f"exit status {said.returncode}"
    remedy = "install a tested version of OpenSIPS; where it is one, report this message"
    return Finding(check, Verdict.FAILED, f"{program} -C refuses {script.name}: {cause}", remedy)


def check_run_folder(run: Path) -> Finding:
    """Can the files for OpenSIPS and rtpengine be written?"""
    check = "run folder"
    existing = next(path for path in (run, *run.absolute().parents) if path.exists())
    if not existing.is_dir():
        return Finding(check, Verdict.FAILED, f"{existing} is no folder", "set opensips.run to a folder")
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        remedy = f"let this user write to {existing}, or set opensips.run to another folder"
        return Finding(check, Verdict.FAILED, f"{existing} cannot be written: {error.strerror}", remedy)
    return Finding(check, Verdict.OK, str(run))


# --------------------------------------------------------------------------------------- addresses


def check_addresses(opensips: OpenSipsSettings) -> Iterator[Finding]:
    """Who reaches what, and who should not."""
    edge, rtpengine = opensips.edge, opensips.rtpengine
    listening = [ipaddress.ip_address(_sip_address(listen)[0]) for listen in edge.listen]
    if not any(listen.startswith("udp:") for listen in edge.listen):
        cause = "the edge speaks UDP with its UAs, and listens to none"
        yield Finding("edge's addresses", Verdict.FAILED, cause, "add udp:ADDRESS:PORT to opensips.edge.listen")
    beyond = [address for address in listening if not address.is_loopback]
    yield _admission(opensips, reachable=bool(beyond))
    public = any(network.is_global for network in edge.allow)
    if public and edge.advertise is None and beyond and not any(address.is_global for address in beyond):
        yield _behind_nat("edge", beyond[0], "opensips.edge.advertise")
    external = ipaddress.ip_address(rtpengine.external)
    if beyond and external.is_loopback:
        yield Finding(
            "rtpengine's external address",
            Verdict.FAILED,
            f"callers from other machines would send their audio to {external}",
            "set opensips.rtpengine.external to this machine's address",
        )
    elif public and rtpengine.advertise is None and not external.is_loopback and not external.is_global:
        yield _behind_nat("rtpengine", external, "opensips.rtpengine.advertise")
    internal = ipaddress.ip_address(rtpengine.internal)
    for pair in opensips.pairs:
        if internal.is_loopback != ipaddress.ip_address(pair.media).is_loopback:
            yield Finding(
                f"media of pair {pair.name}",
                Verdict.FAILED,
                f"rtpengine on {internal} and the connector on {pair.media} do not reach each other",
                "give opensips.rtpengine.internal and the pair's media addresses of the same network",
            )
    doors = {"opensips.edge.mi": edge.mi, "opensips.rtpengine.control": rtpengine.control}
    doors |= {f"opensips.pairs {pair.name} mi": pair.mi for pair in opensips.pairs}
    for key, address in doors.items():
        if not ipaddress.ip_address(split_address(address)[0]).is_loopback:
            yield Finding(
                key,
                Verdict.WARNING,
                f"{address} has no password: who reaches it commands the softswitch",
                "use 127.0.0.1, or let a firewall keep everyone else from it",
            )


def _admission(opensips: OpenSipsSettings, *, reachable: bool) -> Finding:
    check, allow = "who may call", opensips.edge.allow
    if not allow and reachable:
        return Finding(
            check,
            Verdict.FAILED,
            "opensips.edge.allow is empty: the edge refuses every PBX and trunk",
            "add opensips.edge.allow: [NETWORK, ...] with the addresses of your PBXs and trunks",
        )
    for network in allow:
        if network.prefixlen == 0:
            remedy = "name the networks of your PBXs and trunks in opensips.edge.allow"
            return Finding(check, Verdict.WARNING, f"{network} lets everyone call", remedy)
    return Finding(check, Verdict.OK, ", ".join(map(str, allow)) or "this machine alone")


def _behind_nat(who: str, address: object, key: str) -> Finding:
    return Finding(
        f"{who}'s public address",
        Verdict.WARNING,
        f"a trunk on the internet does not reach {address}",
        f"set {key} to the public address, or leave it where a VPN leads to the trunk",
    )


def _sip_address(listen: str) -> tuple[str, int]:
    """Address and port of `udp:ADDRESS:PORT`."""
    return split_address(listen.partition(":")[2])


# --------------------------------------------------------------------------------------- ports


@dataclass(frozen=True, slots=True)
class Claim:
    """Ports `first` to `last` of `address` that `key` gives to `program`.

    Programs are `edge`, `rtpengine`, `ua-NAME` and `connector-NAME`.
    """

    key: str
    program: str
    kind: socket.SocketKind
    address: str
    first: int
    last: int

    @property
    def protocol(self) -> str:
        """UDP or TCP."""
        return "UDP" if self.kind is socket.SOCK_DGRAM else "TCP"

    @property
    def ports(self) -> str:
        """As the file has them."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def clashes(self, other: Claim) -> bool:
        """Do both want a port of an address that is the same, or all of them?"""
        everywhere = any(ipaddress.ip_address(one.address).is_unspecified for one in (self, other))
        return (
            self.kind is other.kind
            and (everywhere or self.address == other.address)
            and self.first <= other.last
            and other.first <= self.last
        )


def claims(settings: Settings, opensips: OpenSipsSettings) -> Iterator[Claim]:
    """Every port of the stack."""
    udp, tcp = socket.SOCK_DGRAM, socket.SOCK_STREAM

    def one(key: str, program: str, kind: socket.SocketKind, address: str) -> Claim:
        host, port = split_address(address)
        return Claim(key, program, kind, host, port, port)

    for listen in opensips.edge.listen:
        transport, _, address = listen.partition(":")
        yield one("opensips.edge.listen", "edge", udp if transport == "udp" else tcp, address)
    yield one("opensips.edge.mi", "edge", udp, opensips.edge.mi)
    if opensips.edge.hep is not None:
        kind = udp if opensips.edge.hep.startswith("udp:") else tcp
        address, port = hep_socket(opensips.edge)
        yield Claim("opensips.edge.mi + 1, for opensips.edge.hep", "edge", kind, address, port, port)
    yield one("opensips.rtpengine.control", "rtpengine", udp, opensips.rtpengine.control)
    for address in dict.fromkeys((opensips.rtpengine.external, opensips.rtpengine.internal)):
        yield Claim("opensips.rtpengine.ports", "rtpengine", udp, address, *split_range(opensips.rtpengine.ports))
    for pair in opensips.pairs:
        place, ua, connector = f"opensips.pairs {pair.name}", f"ua-{pair.name}", f"connector-{pair.name}"
        yield one(f"{place} listen", ua, udp, pair.listen)
        yield one(f"{place} mi", ua, udp, pair.mi)
        yield one(f"{place} events", connector, udp, pair.events)
        ports = "media.ports" if pair.ports is None else f"{place} ports"
        yield Claim(ports, connector, udp, pair.media, *split_range(pair.ports or settings.media.ports))
        yield one(
            "http.listen" if pair.http is None else f"{place} http", connector, tcp, pair.http or settings.http.listen
        )


def check_clashes(wanted: Sequence[Claim]) -> Finding:
    """Does each port belong to one program alone?"""
    check = "port plan"
    for one, other in combinations(wanted, 2):
        if one.first and one.clashes(other):
            cause = f"{one.key} ({one.ports}) and {other.key} ({other.ports}) want the same {one.protocol} ports"
            if one.key == other.key:
                cause = f"{one.program} and {other.program} want the same {one.protocol} ports: {one.key} ({one.ports})"
            remedy = "give each of them ports of its own"
            if other.program.startswith("connector") and one.program.startswith("connector"):
                remedy = "give each pair that shares a machine its own ports and http"
            return Finding(check, Verdict.FAILED, cause, remedy)
    return Finding(check, Verdict.OK, "every port belongs to one program")


# --------------------------------------------------------------------------------------- limits


def check_files(calls: int) -> Finding:
    """Do open files suffice for so many calls at once?"""
    check, wanted = "open files", FILES_BESIDE + FILES_PER_CALL * calls
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft in (resource.RLIM_INFINITY, -1) or soft >= wanted:
        return Finding(check, Verdict.OK, f"{soft} for each program, {wanted} are needed for {counted(calls, 'call')}")
    return Finding(
        check,
        Verdict.WARNING,
        f"ulimit -n is {soft}; {counted(calls, 'call')} (sip.max_calls) may need {wanted}",
        f"ulimit -n {wanted} before starting, or LimitNOFILE={wanted} in the systemd units",
    )


def check_receive_buffers(setting: Path = Path("/proc/sys/net/core/rmem_max")) -> Finding:
    """May programs have socket buffers that hold a burst of messages?"""
    check = "receive buffers"
    try:
        most = int(setting.read_text())
    except OSError:
        return Finding(check, Verdict.SKIPPED, f"{setting} cannot be read")
    if most >= RECEIVE_BUFFER:
        return Finding(check, Verdict.OK, f"net.core.rmem_max is {most}")
    return Finding(
        check,
        Verdict.WARNING,
        f"net.core.rmem_max is {most}: many calls in one moment may lose messages, which are then sent again",
        f"sysctl -w net.core.rmem_max={4 * RECEIVE_BUFFER}, and the same in a file of /etc/sysctl.d",
    )


def check_clock() -> Finding:
    """Does something keep this machine's clock right? Heartbeats and records carry its time."""
    check = "clock"
    # modes 0: nothing is changed. The kernel's struct timex has 208 bytes on 64-bit Linux.
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(256))
    if state < 0:
        return Finding(check, Verdict.SKIPPED, f"the kernel does not tell: {os.strerror(ctypes.get_errno())}")
    if state != _TIME_ERROR:
        return Finding(check, Verdict.OK, "synchronised")
    return Finding(
        check,
        Verdict.WARNING,
        "nothing keeps this machine's clock right",
        "apt-get install systemd-timesyncd: the records of machines whose clocks differ do not fit together",
    )
