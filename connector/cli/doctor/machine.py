"""Checks of the machine: Python, ports and addresses, the disk."""

from __future__ import annotations

import errno
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from connector.cli.console import counted
from connector.cli.doctor.findings import Finding, Verdict
from connector.codec.registry import CODECS, Format
from connector.config.model import MediaSettings, RecordSettings

PYTHON = ((3, 11), (3, 13))
"""Oldest and newest Python that voxtrunk is tested with."""

PROC = Path("/proc")

WRITE_TEST = bytes(65_536)
"""What the test of a folder writes: two seconds of a stereo recording."""

_LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp (Linux include/net/tcp_states.h)."""


def check_python() -> Finding:
    """The Python that runs this."""
    oldest, newest = PYTHON
    version = ".".join(map(str, sys.version_info[:3]))
    if oldest <= sys.version_info[:2] <= newest:
        return Finding("Python", Verdict.OK, version)
    supported = f"{oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}"
    return Finding("Python", Verdict.WARNING, f"{version} is not tested", f"use Python {supported}")


# --------------------------------------------------------------------------------------- ports


def check_port(check: str, key: str, kind: socket.SocketKind, address: str, port: int) -> Finding:
    """Could we listen on `address`:`port`? `kind`: UDP (SOCK_DGRAM) or TCP (SOCK_STREAM). `key`: where it is set."""
    protocol = "UDP" if kind is socket.SOCK_DGRAM else "TCP"
    error = _bind(kind, address, port)
    if error is None:
        return Finding(check, Verdict.OK, f"{protocol} {address}:{port} is free")
    return Finding(check, Verdict.FAILED, *_why(error, protocol, key, address, port))


def check_media(media: MediaSettings, address: str) -> Finding:
    """Are the RTP ports free on `address`?"""
    check = "RTP ports"
    first, last = media.port_range
    taken: list[int] = []
    for port in range(first + first % 2, last + 1):
        error = _bind(socket.SOCK_DGRAM, address, port)
        if error is not None and error.errno != errno.EADDRINUSE:
            return Finding(check, Verdict.FAILED, *_why(error, "UDP", "media.ports", address, port))
        if error is not None:
            taken.append(port)
    pairs = {port - port % 2 for port in range(first + first % 2, last, 2)}
    usable = pairs - {port - port % 2 for port in taken}
    if not taken:
        return Finding(check, Verdict.OK, f"{media.ports}, for {counted(len(pairs), 'call')} at once")
    who = owner("UDP", taken[0])
    cause = f"{len(taken)} ports of {media.ports} are taken, such as {taken[0]}" + (f" by {who}" if who else "")
    verdict = Verdict.WARNING if usable else Verdict.FAILED
    return Finding(check, verdict, cause, "give media.ports a range that nothing else uses")


def check_codecs(media: MediaSettings, known: Mapping[str, Format] = CODECS) -> Finding:
    """Can the codecs of the configuration be spoken here? Those that it does not name may be missing."""
    check = "codecs"
    names: tuple[str, ...] = media.codecs or tuple(known)
    missing = {name: why for name in names if (why := known[name].missing())}
    spoken = ", ".join(name for name in names if name not in missing)
    if not missing:
        return Finding(check, Verdict.OK, spoken)
    cause = f"{spoken or 'none'}; not {', '.join(missing)}"
    remedy = "; ".join(missing.values())
    if not spoken:
        return Finding(check, Verdict.FAILED, cause, remedy)
    return Finding(check, Verdict.WARNING if media.codecs else Verdict.OK, cause, remedy)


def _bind(kind: socket.SocketKind, address: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind is socket.SOCK_STREAM:
            # As servers do: a connection of theirs that is still closing is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            if kind is socket.SOCK_STREAM:
                probe.listen(1)
        except OSError as error:
            return error
    return None


def _why(error: OSError, protocol: str, key: str, address: str, port: int) -> tuple[str, str]:
    """Cause and remedy of a refused bind."""
    match error.errno:
        case errno.EADDRINUSE:
            who = owner(protocol, port)
            return (
                f"{protocol} port {port} is taken" + (f" by {who}" if who else ""),
                f"stop that program, or choose another port in {key}",
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"{address} is no address of this machine",
                f"set {key} to one of: {', '.join(local_addresses())}, or to 0.0.0.0 for all of them",
            )
        case errno.EACCES:
            return f"{protocol} port {port} is reserved for root", f"choose a port from 1024 up in {key}"
        case _:
            return f"cannot listen on {protocol} {address}:{port}: {error.strerror}", f"choose another address in {key}"


def local_addresses() -> list[str]:
    """IPv4 addresses of this machine; none where /proc does not tell."""
    try:
        routes = (PROC / "net/fib_trie").read_text()
    except OSError:
        return []
    return sorted(set(re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", routes)))


def is_local(address: str) -> bool:
    """Could this machine listen on `address`? An IPv6 address counts as its own: /proc lists those elsewhere."""
    ip = ip_address(address)
    return ip.version == 6 or ip.is_loopback or ip.is_unspecified or address in local_addresses()


def owner(protocol: str, port: int) -> str:
    """The process that holds `port`, such as `opensips (pid 812)`; "" where /proc does not tell."""
    inodes = set(_inodes(protocol, port))
    if not inodes:
        return ""
    for descriptors in PROC.glob("[0-9]*/fd"):
        with suppress(OSError):  # a process that ended meanwhile, or another user's
            if any(str(link.readlink()) in inodes for link in descriptors.iterdir()):
                process = descriptors.parent
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return ""


def _inodes(protocol: str, port: int) -> Iterator[str]:
    """Sockets on `port`, as links in /proc/PID/fd name them (columns: Linux Documentation/networking/proc_net_tcp)."""
    for version in ("", "6"):
        try:
            lines = (PROC / f"net/{protocol.lower()}{version}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            wanted = protocol == "UDP" or columns[3] == _LISTENING
            if wanted and int(columns[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{columns[9]}]"


# --------------------------------------------------------------------------------------- disk


def check_records(records: RecordSettings) -> Finding:
    """Can recordings be written, and is there room for them?"""
    check = "records folder"
    folder = records.directory
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        return Finding(check, Verdict.FAILED, f"{existing} is no folder", "set records.directory to a folder")
    try:
        with tempfile.TemporaryFile(dir=existing, buffering=0) as file:
            written = file.write(WRITE_TEST)
        free = shutil.disk_usage(existing).free // 1_000_000
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space, or set records.directory to another disk"
        remedy = remedy if full else f"let this user write to {existing}, or set records.directory to another folder"
        return Finding(check, Verdict.FAILED, f"{existing} cannot be written: {error.strerror}", remedy)
    if written < len(WRITE_TEST) or free < records.min_free_mb:
        return Finding(
            check,
            Verdict.FAILED,
            f"the disk is full: {free} MB are free in {existing}, records.min_free_mb is {records.min_free_mb}",
            "free some space, or set records.directory to another disk",
        )
    return Finding(check, Verdict.OK, f"{folder}, {free} MB free")
