"""SIP messages, read from datagrams and written to them (RFC 3261 sections 7, 8.2.6, 18.3 and 20).

The containers are those of `sipmessage`. Its readers are not used: they refuse hosts such as
`pbx1` and folded lines, take exponential time on hostile `Authorization` values, and print
parameters otherwise than they came (a tag with `+` in it would no longer match). Here a value is
kept as it was received and looked into where it is needed.

The contract of `parse`: a message whose mandatory fields can be read, or `BadMessage`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from sipmessage import URI, CSeq, Headers, Parameters, Request, Response
from sipmessage.message import COMPACT_FORMS

from connector.errors import BadRequest

__all__ = [
    "REASONS",
    "Address",
    "BadMessage",
    "CSeq",
    "Headers",
    "Message",
    "NameAddr",
    "Request",
    "Response",
    "Uri",
    "Via",
    "encode",
    "from_tag",
    "host_of",
    "hostport",
    "parse",
    "parse_headers",
    "parse_name_addr",
    "parse_parameters",
    "parse_uri",
    "parse_via",
    "respond",
    "split_list",
    "stateless_tag",
    "to_tag",
    "tokens",
    "top_via",
]

Address = tuple[str, int]
"""IP address and UDP port of a peer."""

Message = Request | Response


def host_of(address: str) -> str:
    """An IP address as URIs and headers have it: IPv6 in brackets (RFC 3261 section 25.1, `host`)."""
    return f"[{address}]" if ":" in address else address


def hostport(address: Address) -> str:
    """`HOST:PORT` (RFC 3261 section 25.1)."""
    return f"{host_of(address[0])}:{address[1]}"


DEFAULT_PORT = 5060
"""RFC 3261 section 19.1.2."""

MAX_CSEQ = 2**31 - 1
"""RFC 3261 section 8.1.1.5."""

MAX_LINES = 256
"""Header lines of one message: far above any real one, far below what would hold up the event loop."""

REASONS: Mapping[int, str] = {
    100: "Trying",
    180: "Ringing",
    183: "Session Progress",
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    500: "Server Internal Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "Version Not Supported",
    603: "Decline",
}
"""Reason phrases of the answers that we give (RFC 3261 section 21)."""

_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_START_RESPONSE = re.compile(r"(?i:SIP/2\.0) ([1-6][0-9]{2})(?: (.*))?")
_START_REQUEST = re.compile(r"(\S+) (\S.*) SIP/([0-9.]+)", re.IGNORECASE)
_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):(?P<rest>[^\x00-\x20\x7f<>\"]+)")
_HOSTPORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._\-]+)(?::(?P<port>[0-9]{1,5}))?")
_TEL = re.compile(r"[0-9A-Fa-f*#().+\-]+")
_VIA = re.compile(
    r"(?i:SIP)\s*/\s*2\.0\s*/\s*(?P<transport>[A-Za-z0-9\-.!%*_+`'~]+)\s+"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._\-]+)\s*(?::\s*(?P<port>[0-9]{1,5}))?\s*(?P<parameters>;.*)?"
)
_CSEQ = re.compile(r"([0-9]{1,10})\s+([A-Za-z0-9\-.!%*_+`'~]+)")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class BadMessage(BadRequest):
    """A datagram that is no SIP message that we can use.

    `response`: the refusal it deserves; None where it was no request, or cannot be answered.
    """

    def __init__(self, message: str, response: Response | None = None) -> None:
        super().__init__(message)
        self.response = response


# ------------------------------------------------------------------------------------ values


@dataclass(frozen=True)
class Uri(URI):
    """A URI that prints exactly as it was received (it may be compared by its peer byte for byte).

    `scheme` is in lower case; `host` is empty for all but sip and sips.
    """

    raw: str = ""

    def __str__(self) -> str:
        return self.raw


@dataclass(frozen=True, slots=True)
class NameAddr:
    """A `name-addr` or `addr-spec` with its parameters (RFC 3261 section 20.10). Keys are in lower case."""

    uri: Uri
    name: str = ""
    parameters: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        """The `tag` parameter, empty where there is none."""
        return self.parameters.get("tag") or ""


@dataclass(frozen=True, slots=True)
class Via:
    """One hop of a Via header (RFC 3261 section 20.42)."""

    transport: str
    host: str
    port: int | None
    parameters: Mapping[str, str | None]

    @property
    def branch(self) -> str:
        return self.parameters.get("branch") or ""

    @property
    def sent_by(self) -> str:
        """`host[:port]`, in lower case, as transactions are matched on it (section 17.2.3)."""
        return f"{self.host.lower()}:{self.port or DEFAULT_PORT}"


def _scan(value: str, separator: str) -> Iterator[str]:
    """The parts of `value` between `separator`s that stand outside of quotes and angle brackets."""
    start = 0
    quoted = bracketed = escaped = False
    for index, character in enumerate(value):
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = True
        elif character == "<":
            bracketed = True
        elif character == ">":
            bracketed = False
        elif character == separator and not bracketed:
            yield value[start:index]
            start = index + 1
    if quoted or bracketed:
        raise BadRequest("a quote or an angle bracket is not closed")
    yield value[start:]


def split_list(value: str) -> list[str]:
    """The members of a comma-separated header value (RFC 3261 section 7.3.1); empty ones are left out."""
    if "," not in value:
        return [value.strip()] if value.strip() else []
    return [part.strip() for part in _scan(value, ",") if part.strip()]


def parse_parameters(text: str) -> dict[str, str | None]:
    """`;name=value;name` as a dictionary: names in lower case, values without quotes, None where there is none."""
    parameters: dict[str, str | None] = {}
    parts = list(_scan(text, ";")) if '"' in text or "<" in text else text.split(";")
    if parts[0].strip():
        raise BadRequest("parameters do not begin with a semicolon")
    for part in parts[1:]:
        name, equals, value = part.partition("=")
        name, value = name.strip().lower(), value.strip()
        if not name:
            if value:
                raise BadRequest("a parameter has no name")
            continue
        parameters[name] = _unquote(value) if equals else None
    return parameters


def _unquote(value: str) -> str:
    match = _QUOTED.fullmatch(value)
    return re.sub(r"\\(.)", r"\1", match[1]) if match else value


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    port = int(text)
    if not 0 < port < 65536:
        raise BadRequest("a port is out of range")
    return port


def parse_uri(text: str) -> Uri:
    """Reads a URI: sip and sips (RFC 3261 section 19.1), tel (RFC 3966); of others the scheme alone."""
    match = _URI.fullmatch(text)
    if match is None:
        raise BadRequest("a URI cannot be read")
    scheme, rest = match["scheme"].lower(), match["rest"]
    if scheme == "tel":
        subscriber, _, parameters = rest.partition(";")
        if not _TEL.fullmatch(subscriber):
            raise BadRequest("a tel URI has no number")
        return Uri(scheme, "", user=subscriber, parameters=_uri_parameters(parameters), raw=text)
    if scheme not in ("sip", "sips"):
        return Uri(scheme, "", raw=text)
    userinfo, at, remainder = rest.partition("@")
    if not at:
        userinfo, remainder = "", rest
    elif not userinfo:
        raise BadRequest("a SIP URI has an empty user")
    hostport, _, parameters = remainder.partition("?")[0].partition(";")
    location = _HOSTPORT.fullmatch(hostport)
    if location is None:
        raise BadRequest("a SIP URI has no readable host")
    user, _, password = userinfo.partition(":")
    return Uri(
        scheme,
        location["host"],
        user=unquote(user) if user else None,
        password=unquote(password) if password else None,
        port=_port(location["port"]),
        parameters=_uri_parameters(parameters),
        raw=text,
    )


def _uri_parameters(text: str) -> Parameters:
    if not text:
        return Parameters()
    # `self` would collide with the constructor's own argument.
    return Parameters(**{key: value for key, value in parse_parameters(";" + text).items() if key != "self"})


def parse_name_addr(text: str) -> NameAddr:
    """Reads `"Name" <uri>;parameters` or `uri;parameters` (RFC 3261 sections 20.10 and 25.1)."""
    text = text.strip()
    name = ""
    if text.startswith('"'):
        match = _QUOTED.match(text)
        if match is None:
            raise BadRequest("a display name is not closed")
        name, text = _unquote(match[0]), text[match.end() :].lstrip()
        if not text.startswith("<"):
            raise BadRequest("a display name has no address")
    if "<" in text:
        before, _, text = text.partition("<")
        name = name or before.strip()
        uri, closed, parameters = text.partition(">")
        if not closed:
            raise BadRequest("an angle bracket is not closed")
        # White space at the edges is wrong, and sent.
        return NameAddr(parse_uri(uri.strip()), name, parse_parameters(parameters))
    uri, semicolon, parameters = text.partition(";")
    return NameAddr(parse_uri(uri.strip()), "", parse_parameters(semicolon + parameters))


def parse_via(text: str) -> Via:
    """Reads one hop of a Via header."""
    match = _VIA.fullmatch(text.strip())
    if match is None:
        raise BadRequest("a Via cannot be read")
    return Via(
        match["transport"].upper(), match["host"], _port(match["port"]), parse_parameters(match["parameters"] or "")
    )


def top_via(message: Message) -> Via:
    """The topmost Via hop. Raises `BadRequest`."""
    values = message.headers.getlist("Via")
    if not values:
        raise BadRequest("there is no Via")
    return parse_via(values[0])


def from_tag(message: Message) -> str:
    """The tag of From, empty where there is none. Raises `BadRequest`."""
    return parse_name_addr(message.headers.get("From") or "").tag


def to_tag(message: Message) -> str:
    """The tag of To, empty where there is none. Raises `BadRequest`."""
    return parse_name_addr(message.headers.get("To") or "").tag


def tokens(message: Message, header: str) -> list[str]:
    """The comma-separated members of all `header` lines."""
    return [token for value in message.headers.getlist(header) for token in split_list(value)]


# ------------------------------------------------------------------------------------ reading


def parse(data: bytes) -> Message:
    """Reads a datagram. Raises `BadMessage`, which holds the answer where one is due.

    Tolerated: bare LF as line end, empty lines before the start line, folded lines, white space
    before colons, bytes that are not UTF-8 (kept as surrogates, written back as they came), a
    missing Content-Length or Max-Forwards.
    """
    head, body = _split(data)
    lines = _unfold(head)
    try:
        message, problem, status = _start_line(lines[0])
    except BadRequest as error:
        raise BadMessage(str(error)) from error
    if len(lines) > MAX_LINES:
        raise BadMessage("there are too many header lines")
    if any("\r" in line for line in lines):
        # What others take for the end of a line must not go out again in an answer or a later request.
        raise BadMessage("a header line holds a bare CR")
    for line in lines[1:]:
        key, colon, value = line.partition(":")
        key = key.strip()
        if not colon or not _TOKEN.fullmatch(key):
            problem = problem or "a header line cannot be read"
            continue
        message.headers.add(COMPACT_FORMS.get(key.lower(), key), value.strip())
    message.body = body
    try:
        _normalise(message)
        if problem is None:
            _check(message)
    except BadRequest as error:
        problem = problem or str(error)
    if problem is not None:
        raise BadMessage(problem, _refusal(message, status, problem))
    return message


def parse_headers(text: str) -> Headers:
    """The headers in a block of header lines, folded ones and compact forms included. Never raises.

    Lines that are no header, a start line say, are left out, and so is what comes after an empty line.
    """
    headers = Headers()
    head = re.split(r"\r?\n\r?\n", text.lstrip("\r\n"), maxsplit=1)[0]
    for line in _unfold(f"\n{head}")[:MAX_LINES]:  # the first line folds too: it is no start line
        key, colon, value = line.partition(":")
        key = key.strip()
        if colon and _TOKEN.fullmatch(key) and "\r" not in value:
            headers.add(COMPACT_FORMS.get(key.lower(), key), value.strip())
    return headers


def _split(data: bytes) -> tuple[str, bytes]:
    data = data.lstrip(b"\r\n")  # RFC 3261 section 7.5
    end = re.search(rb"\r?\n\r?\n", data)
    if end is None:
        raise BadMessage("the header does not end with an empty line")
    return data[: end.start()].decode("utf-8", "surrogateescape"), data[end.end() :]


def _unfold(head: str) -> list[str]:
    """Lines, with the continuation lines of RFC 3261 section 7.3.1 joined."""
    lines: list[str] = []
    for line in head.split("\n"):
        line = line.removesuffix("\r")
        if line[:1] in (" ", "\t") and len(lines) > 1:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return lines


def _start_line(line: str) -> tuple[Message, str | None, int]:
    """The empty message of a start line, what is wrong with it, and the status to say so."""
    if match := _START_RESPONSE.fullmatch(line):
        return Response(int(match[1]), match[2] or ""), None, 400
    match = _START_REQUEST.fullmatch(line)
    if match is None or not _TOKEN.fullmatch(match[1]):
        raise BadRequest("the datagram is neither a SIP request nor a response")
    method, target, version = match.groups()
    if version != "2.0":
        return Request(method, Uri("", "", raw=target)), "the SIP version is not 2.0", 505
    try:
        return Request(method, parse_uri(target)), None, 400
    except BadRequest as error:
        return Request(method, Uri("", "", raw=target)), f"Request-URI: {error}", 400


def _normalise(message: Message) -> None:
    """One hop per Via, Route and Record-Route line, so that the topmost is the first."""
    for header in ("Via", "Route", "Record-Route", "Contact"):
        values = message.headers.getlist(header)
        if any("," in value for value in values):
            message.headers.setlist(header, tokens(message, header))


def _check(message: Message) -> None:
    """What every message needs (RFC 3261 section 8.1.1), and what later code relies on."""
    headers = message.headers
    for header in ("From", "To", "Call-ID", "CSeq"):
        if not headers.get(header):
            raise BadRequest(f"there is no {header}")
        if len(headers.getlist(header)) > 1:
            raise BadRequest(f"there is more than one {header}")
    top_via(message)
    for header in ("From", "To"):
        parse_name_addr(headers[header])
    for header in ("Contact", "Route", "Record-Route"):
        for value in headers.getlist(header):
            if value != "*":
                parse_name_addr(value)
    cseq = _CSEQ.fullmatch(headers["CSeq"])
    if cseq is None or int(cseq[1]) > MAX_CSEQ:
        raise BadRequest("CSeq cannot be read")
    if isinstance(message, Request) and cseq[2] != message.method:
        raise BadRequest("CSeq and request line name different methods")
    headers.set("CSeq", f"{int(cseq[1])} {cseq[2]}")
    forwards = headers.get("Max-Forwards")
    if forwards is not None and not re.fullmatch("[0-9]{1,9}", forwards):
        raise BadRequest("Max-Forwards is not a number")
    _cut_body(message)


def _cut_body(message: Message) -> None:
    """Content-Length against what came (RFC 3261 section 18.3): longer is cut, shorter is an error."""
    lengths = set(message.headers.getlist("Content-Length"))
    if not lengths:
        return
    length = lengths.pop()
    if lengths or not re.fullmatch("[0-9]{1,9}", length):
        raise BadRequest("Content-Length is not a number")
    if int(length) > len(message.body):
        raise BadRequest("the body is shorter than Content-Length")
    message.body = message.body[: int(length)]


def _refusal(message: Message, status: int, problem: str) -> Response | None:
    if not isinstance(message, Request) or message.method == "ACK":
        return None
    try:
        top_via(message)
        if any(not message.headers.get(header) for header in ("From", "To", "Call-ID", "CSeq")):
            return None
        response = respond(message, status, to_tag=stateless_tag(message))
    except BadRequest:
        return None
    response.headers.set("Warning", f'399 voxtrunk "{problem}"')
    return response


# ------------------------------------------------------------------------------------ writing


def stateless_tag(request: Request) -> str:
    """A To tag that is the same for every copy of a request (RFC 3261 section 8.2.7)."""
    identity = "\0".join((request.headers.get("Via") or "", request.headers.get("Call-ID") or ""))
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def respond(request: Request, status: int, reason: str = "", *, to_tag: str) -> Response:
    """A response to `request` (RFC 3261 section 8.2.6.2, and 12.1.1 for Record-Route).

    `to_tag` is added where To has no tag yet, except to a 100. A To that cannot be read is copied as it is.
    """
    response = Response(status, reason or REASONS.get(status, ""))
    copied = ["Via", "From", "To", "Call-ID", "CSeq"]
    if status == 100:
        copied.append("Timestamp")
    elif status < 300:
        copied.append("Record-Route")
    for header in copied:
        if values := request.headers.getlist(header):
            response.headers.setlist(header, list(values))
    if status != 100:
        response.headers.set("To", _tagged(request.headers["To"], to_tag))
    return response


def _tagged(to: str, tag: str) -> str:
    try:
        return to if parse_name_addr(to).tag else f"{to};tag={tag}"
    except BadRequest:
        return to


def encode(message: Message) -> bytes:
    """The datagram of `message`, with the Content-Length of its body."""
    message.headers.set("Content-Length", str(len(message.body)))
    if isinstance(message, Request):
        start = f"{message.method} {message.uri} SIP/2.0\r\n"
    else:
        start = f"SIP/2.0 {message.code} {message.phrase}\r\n"
    return f"{start}{message.headers}".encode("utf-8", "surrogateescape") + message.body
