"""Session descriptions (RFC 8866), read and written.

Reading keeps what offer/answer needs and steps over the rest: order of lines, unknown types, bare
LF and a missing `s=` or `t=` are tolerated, since phones in use send all of them. What would leave
the media undefined raises `BadRequest`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from connector.errors import BadRequest

MAX_LINES = 1024
"""Lines of one description: far above any real one."""


class Direction(Enum):
    """RFC 8866 section 6.7, seen from the one who writes the description."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @classmethod
    def of(cls, send: bool, receive: bool) -> Direction:
        """The direction that sends and receives as told."""
        if send:
            return cls.SENDRECV if receive else cls.SENDONLY
        return cls.RECVONLY if receive else cls.INACTIVE

    @property
    def sends(self) -> bool:
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @property
    def reversed(self) -> Direction:
        """The same, seen from the other end."""
        return Direction.of(self.receives, self.sends)


@dataclass(frozen=True, slots=True)
class RtpMap:
    """`a=rtpmap` (RFC 8866 section 6.6), or the static type of RFC 3551 section 6. `encoding` is in upper case."""

    encoding: str
    rate: int
    channels: int = 1


STATIC_TYPES = {
    0: RtpMap("PCMU", 8000),
    3: RtpMap("GSM", 8000),
    4: RtpMap("G723", 8000),
    8: RtpMap("PCMA", 8000),
    9: RtpMap("G722", 8000),
    13: RtpMap("CN", 8000),
    18: RtpMap("G729", 8000),
}
"""RFC 3551 section 6, the audio types that phones offer without a map."""


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """An `m=` section. `address`: of its own `c=` line, or None. `attributes`: names and values in order."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    address: str | None = None
    attributes: tuple[tuple[str, str | None], ...] = ()

    def attribute(self, name: str) -> str | None:
        """The first value of attribute `name`, None where it is absent or has no value."""
        return next((value for key, value in self.attributes if key == name and value is not None), None)

    def parameters(self, payload_type: int) -> str:
        """The `a=fmtp` of a payload type, "" where it has none."""
        values = (value.split(maxsplit=1) for name, value in self.attributes if name == "fmtp" and value)
        return next((parts[1] for parts in values if len(parts) == 2 and parts[0] == str(payload_type)), "")

    @property
    def direction(self) -> Direction | None:
        """Its own direction, None where it says nothing."""
        return _direction(self.attributes)

    @property
    def rtcp_mux(self) -> bool:
        """Whether RTCP shares RTP's port, or may do so (RFC 5761 section 5.1.1)."""
        return ("rtcp-mux", None) in self.attributes

    @property
    def rtcp_port(self) -> int:
        """Where RTCP is received: the port of `a=rtcp` (RFC 3605), else the one above RTP's (RFC 3550 section 11)."""
        match = _RTCP.match(self.attribute("rtcp") or "")
        port = int(match[1]) if match else 0
        return port if 0 < port < 65536 else min(65535, self.port + 1)

    @property
    def payload_types(self) -> dict[int, RtpMap]:
        """What each payload type of `formats` means, in order of preference; those unknown are left out."""
        maps = dict(STATIC_TYPES)
        for name, value in self.attributes:
            match = _RTPMAP.fullmatch(value) if name == "rtpmap" and value else None
            if match:
                maps[int(match[1])] = RtpMap(match[2].upper(), int(match[3]), int(match[4] or 1))
        numbers = [int(text) for text in self.formats if re.fullmatch("[0-9]{1,3}", text)]
        return {number: maps[number] for number in numbers if number in maps and number < 128}


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A description. `address`: of the session's `c=` line, or None. Version and id: the `o=` line."""

    session_id: str
    version: int
    origin_address: str
    address: str | None = None
    media: tuple[MediaDescription, ...] = ()
    attributes: tuple[tuple[str, str | None], ...] = ()
    username: str = "-"
    name: str = "-"

    def address_of(self, media: MediaDescription) -> str | None:
        """Where `media` is received."""
        return media.address or self.address

    def direction_of(self, media: MediaDescription) -> Direction:
        """The direction of `media`; sendrecv where nothing is said (RFC 8866 section 6.7)."""
        return media.direction or _direction(self.attributes) or Direction.SENDRECV

    def __str__(self) -> str:
        lines = [
            "v=0",
            f"o={self.username} {self.session_id} {self.version} {_net(self.origin_address)}",
            f"s={self.name}",
        ]
        if self.address is not None:
            lines.append(f"c={_net(self.address)}")
        lines.append("t=0 0")
        lines += _attribute_lines(self.attributes)
        for media in self.media:
            lines.append(f"m={media.kind} {media.port} {media.protocol} {' '.join(media.formats)}")
            if media.address is not None:
                lines.append(f"c={_net(media.address)}")
            lines += _attribute_lines(media.attributes)
        return "".join(f"{line}\r\n" for line in lines)


_RTPMAP = re.compile(r"([0-9]{1,3})\s+([A-Za-z0-9\-.!%*_+`'~]+)/([0-9]{1,6})(?:/([0-9]{1,2}))?\s*")
_RTCP = re.compile(r"([0-9]{1,5})\b")
_MEDIA = re.compile(r"(\S+)\s+([0-9]{1,5})(?:/[0-9]{1,5})?\s+(\S+)((?:\s+\S+)*)\s*")
_CONNECTION = re.compile(r"(?i:IN)\s+(?i:IP4|IP6)\s+([^\s/]+)(?:/\S*)?\s*")
_HOST = re.compile(r"[A-Za-z0-9._:\-]+")


def _direction(attributes: Iterable[tuple[str, str | None]]) -> Direction | None:
    names = {direction.value for direction in Direction}
    return next((Direction(name) for name, value in attributes if name in names and value is None), None)


def _net(address: str) -> str:
    return f"IN {'IP6' if ':' in address else 'IP4'} {address}"


def _attribute_lines(attributes: Iterable[tuple[str, str | None]]) -> list[str]:
    return [f"a={name}" if value is None else f"a={name}:{value}" for name, value in attributes]


@dataclass(slots=True)
class _Section:
    """What was read of the session or of one `m=` section."""

    address: str | None = None
    attributes: list[tuple[str, str | None]] = field(default_factory=list)


def parse_sdp(body: bytes) -> SessionDescription:
    """Reads a description. Raises `BadRequest`."""
    lines = [line.rstrip("\r") for line in body.decode("utf-8", "replace").split("\n")]
    lines = [line for line in lines if line.strip("\0 \t")]
    if len(lines) > MAX_LINES:
        raise BadRequest("SDP: too many lines")
    if not lines or lines[0].rstrip() != "v=0":
        raise BadRequest("SDP: the first line is not v=0")
    origin: tuple[str, str, int, str] | None = None
    name = "-"
    session = section = _Section()
    media: list[tuple[MediaDescription, _Section]] = []
    for line in lines[1:]:
        kind, equals, value = line[:1], line[1:2], line[2:]
        if equals != "=" or not kind.isalpha():
            raise BadRequest(f"SDP: a line is not type=value: {line[:20]!r}")
        if kind == "o":
            origin = _origin(value)
        elif kind == "s":
            name = value or "-"
        elif kind == "c":
            section.address = _connection(value)
        elif kind == "a":
            attribute, colon, content = value.partition(":")
            section.attributes.append((attribute.strip(), content.strip() if colon else None))
        elif kind == "m":
            section = _Section()
            media.append((_media(value), section))
    if origin is None:
        raise BadRequest("SDP: there is no o= line")
    described = tuple(
        MediaDescription(m.kind, m.port, m.protocol, m.formats, s.address, tuple(s.attributes)) for m, s in media
    )
    for m in described:
        if m.port and (m.address or session.address) is None:
            raise BadRequest("SDP: there is no c= line")
    return SessionDescription(
        session_id=origin[1],
        version=origin[2],
        origin_address=origin[3],
        address=session.address,
        media=described,
        attributes=tuple(session.attributes),
        username=origin[0],
        name=name,
    )


def _origin(value: str) -> tuple[str, str, int, str]:
    parts = value.split()
    if len(parts) != 6 or not re.fullmatch("[0-9]{1,20}", parts[2]):
        raise BadRequest("SDP: the o= line cannot be read")
    return parts[0], parts[1], int(parts[2]), parts[5]


def _connection(value: str) -> str:
    match = _CONNECTION.fullmatch(value.strip())
    if match is None or not _HOST.fullmatch(match[1]):
        raise BadRequest("SDP: a c= line cannot be read")
    return match[1]


def _media(value: str) -> MediaDescription:
    match = _MEDIA.fullmatch(value.strip())
    if match is None or int(match[2]) > 65535:
        raise BadRequest("SDP: an m= line cannot be read")
    return MediaDescription(match[1].lower(), int(match[2]), match[3], tuple(match[4].split()))


def is_unspecified(address: str) -> bool:
    """Whether `address` is 0.0.0.0 or ::, with which RFC 2543 put a call on hold (RFC 3264 section 8.4)."""
    try:
        return ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return False
