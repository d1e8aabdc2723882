"""Digest access authentication: RFC 7616 as SIP uses it (RFC 3261 section 22, RFC 8760)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from connector.errors import BadRequest, Unauthorized, VoxtrunkError

ALGORITHMS = {"SHA-256": "sha256", "MD5": "md5"}
"""`hashlib`'s names by those on the wire, strongest first."""

NONCE_SECONDS = 300.0
"""A nonce older than this is stale: the client repeats its request with a new one, unseen by its user."""

_PARAMETER = re.compile(r'\s*([A-Za-z0-9\-_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))\s*(?:,|$)')


class MissingCredentials(Unauthorized):
    """None for our realm were given: clients ask so, to be told what to prove."""


class Stale(Unauthorized):
    """The credentials are right, or could be, but their nonce is not: ask again with `stale=true`."""


def parse_digest(value: str) -> dict[str, str]:
    """The parameters of a `Digest` challenge or of credentials. Raises `BadRequest`."""
    scheme, _, text = value.strip().partition(" ")
    if scheme.lower() != "digest":
        raise BadRequest("the authentication scheme is not Digest")
    parameters: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None or match.end() == position:
            raise BadRequest("the authentication parameters cannot be read")
        quoted = match[2]
        parameters[match[1].lower()] = match[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        position = match.end()
    return parameters


def _hash(algorithm: str, *parts: str) -> str:
    data = ":".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.new(ALGORITHMS[algorithm], data, usedforsecurity=False).hexdigest()


def response_value(
    algorithm: str,
    *,
    username: str,
    realm: str,
    password: str,
    method: str,
    uri: str,
    nonce: str,
    nc: str = "",
    cnonce: str = "",
    qop: str = "",
) -> str:
    """`response` of RFC 7616 section 3.4.1; without `qop`, that of RFC 2069."""
    secret = _hash(algorithm, username, realm, password)
    subject = _hash(algorithm, method, uri)
    if not qop:
        return _hash(algorithm, secret, nonce, subject)
    return _hash(algorithm, secret, nonce, nc, cnonce, qop, subject)


# ------------------------------------------------------------------------------------ server


@dataclass(slots=True)
class DigestServer:
    """Proves callers. `users`: passwords by name. `secret`: random bytes that only this process knows."""

    realm: str
    users: Mapping[str, str] = field(repr=False)
    secret: bytes = field(repr=False)
    lifetime: float = NONCE_SECONDS
    _counts: dict[str, int] = field(default_factory=dict)
    """The highest nonce count seen, by nonce."""

    def challenges(self, now: float, *, stale: bool = False) -> list[str]:
        """Values for WWW-Authenticate, one for each algorithm.

        MD5 comes first, though RFC 8760 section 2.4 would have the preferred one there: clients in use
        (SIPp among them) look at the first challenge alone, and give up where it is not MD5.
        """
        nonce = self._nonce(f"{now:.3f}")
        mark = ", stale=true" if stale else ""
        realm = self.realm.replace("\\", "\\\\").replace('"', '\\"')
        names = reversed(ALGORITHMS)
        return [f'Digest realm="{realm}", nonce="{nonce}", algorithm={name}, qop="auth"{mark}' for name in names]

    def verify(self, method: str, credentials: Sequence[str], now: float) -> str:
        """The user's name who sent `credentials` (values of Authorization) with a request of `method`.

        Their `uri` may differ from the Request-URI: clients write less of it (SIPp the host alone), and
        proxies rewrite it on the way. The nonce count keeps credentials from being used twice.

        Raises `MissingCredentials`, `Unauthorized` where they are wrong, `Stale` where the nonce is
        too old, unknown or used up, `BadRequest` where they cannot be read.
        """
        for value in credentials:
            given = parse_digest(value)
            if given.get("realm") == self.realm:
                return self._verify(method, given, now)
        raise MissingCredentials("there are no credentials for our realm")

    def _verify(self, method: str, given: Mapping[str, str], now: float) -> str:
        algorithm = given.get("algorithm", "MD5").upper()
        if algorithm not in ALGORITHMS or given.get("qop") != "auth":
            raise Unauthorized("the algorithm or qop was not offered")
        name, nonce, nc = given.get("username", ""), given.get("nonce", ""), given.get("nc", "")
        known = self.users.get(name)
        expected = response_value(
            algorithm,
            username=name,
            realm=self.realm,
            # An unknown user costs as much time as a known one.
            password=known if known is not None else "",
            method=method,
            uri=given.get("uri", ""),
            nonce=nonce,
            nc=nc,
            cnonce=given.get("cnonce", ""),
            qop="auth",
        )
        response = given.get("response", "").lower()
        right = hmac.compare_digest(response.encode("utf-8", "surrogateescape"), expected.encode())
        if known is None or not right:
            raise Unauthorized("the name or the password is wrong")
        self._use(nonce, nc, now)
        return name

    def _use(self, nonce: str, nc: str, now: float) -> None:
        """Spends one count of `nonce` (RFC 7616 section 3.4: a count seen before is a replay)."""
        stamp = nonce.partition("-")[0]
        if not hmac.compare_digest(nonce.encode("utf-8", "surrogateescape"), self._nonce(stamp).encode()):
            raise Stale("the nonce is not ours")
        if not 0 <= now - float(stamp) <= self.lifetime:
            raise Stale("the nonce is too old")
        if not re.fullmatch("[0-9A-Fa-f]{8}", nc):
            raise BadRequest("nc is not eight hexadecimal digits")
        if int(nc, 16) <= self._counts.get(nonce, 0):
            raise Stale("the nonce count was used before")
        self._counts[nonce] = int(nc, 16)
        self._forget(now)

    def _forget(self, now: float) -> None:
        self._counts = {
            nonce: highest
            for nonce, highest in self._counts.items()
            if now - float(nonce.partition("-")[0]) <= self.lifetime
        }

    def _nonce(self, stamp: str) -> str:
        proof = hmac.new(self.secret, stamp.encode("utf-8", "surrogateescape"), hashlib.sha256)
        return f"{stamp}-{proof.hexdigest()[:32]}"


# ------------------------------------------------------------------------------------ client


class NoChallenge(VoxtrunkError):
    """The server asks for something else than Digest with MD5 or SHA-256 and qop auth."""


@dataclass(slots=True)
class DigestClient:
    """Answers challenges with one name and password. `new_cnonce` makes a random token."""

    username: str
    password: str = field(repr=False)
    new_cnonce: Callable[[], str]
    _counts: dict[str, int] = field(default_factory=dict)

    def authorize(self, method: str, uri: str, challenges: Sequence[str]) -> str:
        """The value for Authorization that answers the strongest of `challenges` that we know.

        Raises `NoChallenge` where there is none.
        """
        challenge = self._strongest(challenges)
        algorithm = challenge["algorithm"]
        qop = "auth" if "qop" in challenge else ""
        nonce, realm = challenge.get("nonce", ""), challenge.get("realm", "")
        nc, cnonce = "", ""
        if qop:
            self._counts[nonce] = self._counts.get(nonce, 0) + 1
            nc, cnonce = f"{self._counts[nonce]:08x}", self.new_cnonce()
        response = response_value(
            algorithm,
            username=self.username,
            realm=realm,
            password=self.password,
            method=method,
            uri=uri,
            nonce=nonce,
            nc=nc,
            cnonce=cnonce,
            qop=qop,
        )
        parts = {"username": self.username, "realm": realm, "nonce": nonce, "uri": uri, "response": response}
        if "opaque" in challenge:
            parts["opaque"] = challenge["opaque"]
        text = ", ".join(f'{key}="{_escape(value)}"' for key, value in parts.items())
        text += f", algorithm={algorithm}"
        if qop:
            text += f', qop=auth, nc={nc}, cnonce="{cnonce}"'
        return f"Digest {text}"

    def _strongest(self, challenges: Sequence[str]) -> dict[str, str]:
        readable: list[dict[str, str]] = []
        for value in challenges:
            try:
                challenge = parse_digest(value)
            except BadRequest:
                continue  # another scheme may stand beside ours
            challenge["algorithm"] = challenge.get("algorithm", "MD5").upper()
            offered = [token.strip().lower() for token in challenge.get("qop", "auth").split(",")]
            if challenge["algorithm"] in ALGORITHMS and "auth" in offered:
                readable.append(challenge)
        for algorithm in ALGORITHMS:
            for challenge in readable:
                if challenge["algorithm"] == algorithm:
                    return challenge
        raise NoChallenge("the server asks for no authentication that we know")


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
