"""Every documented error, and the one SIP status that each answers with.

An error says what is wrong and what would be right, in words that may be shown to an admin. It
never carries a secret. What a caller's user agent sees is `sip_status` and `sip_reason` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class VoxtrunkError(Exception):
    """Base of all documented errors."""

    sip_status: ClassVar[int] = 500
    sip_reason: ClassVar[str] = "Server Internal Error"

    @property
    def retry_after(self) -> int | None:
        """Seconds for the Retry-After header (RFC 3261 section 20.33), or None for no header."""
        return None


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration file.

    `file` and `line` (1-based) point at the mistake, `key` is its dotted path
    (`routes[2].prefix`), `message` says what is wrong and `hint` what would be right.
    """

    file: str
    line: int
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}: {key}{self.message}{hint}"


class ConfigError(VoxtrunkError):
    """The configuration is unusable; `problems` lists every mistake found, in file order."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class BadRequest(VoxtrunkError):
    """A SIP message or an SDP body that cannot be read (RFC 3261 section 21.4.1)."""

    sip_status = 400
    sip_reason = "Bad Request"


class Unauthorized(VoxtrunkError):
    """Digest credentials are missing or wrong (RFC 3261 section 22)."""

    sip_status = 401
    sip_reason = "Unauthorized"


class Forbidden(VoxtrunkError):
    """The sender is not on the allow-list."""

    sip_status = 403
    sip_reason = "Forbidden"


class UnknownNumber(VoxtrunkError):
    """No route leads from the called number to a flavor."""

    sip_status = 404
    sip_reason = "Not Found"


class NotAcceptableHere(VoxtrunkError):
    """Offer and answer have no codec or media in common (RFC 3264 section 6)."""

    sip_status = 488
    sip_reason = "Not Acceptable Here"


class Overloaded(VoxtrunkError):
    """No capacity for one more call; try again in `seconds`."""

    sip_status = 503
    sip_reason = "Service Unavailable"

    def __init__(self, message: str, seconds: int = 5) -> None:
        super().__init__(message)
        self._seconds = seconds

    @property
    def retry_after(self) -> int | None:
        return self._seconds


class CallFailed(VoxtrunkError):
    """The far end refused our request, or did not answer it. `status`: 408 where nobody answered."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


class ProtocolError(VoxtrunkError):
    """An event that a state table lacks: nothing was changed."""


class RtpError(VoxtrunkError):
    """A datagram that is not RTP or RTCP (RFC 3550 appendix A.1); it is counted and dropped."""


class MediaError(VoxtrunkError):
    """Sockets or ports for media could not be had (port taken, address not local)."""

    sip_status = 503
    sip_reason = "Service Unavailable"


class EngineError(VoxtrunkError):
    """An engine failed. `engine` is its registered name."""

    sip_status = 503
    sip_reason = "Service Unavailable"

    def __init__(self, engine: str, message: str) -> None:
        super().__init__(f"{engine}: {message}")
        self.engine = engine
        self.message = message

    def __reduce__(self) -> tuple[type[EngineError], tuple[str, str]]:
        """Lets the error travel from a worker process."""
        return type(self), (self.engine, self.message)


class EngineUnreachable(EngineError):
    """The engine's service does not answer at its address."""


class EngineLate(EngineError):
    """The engine did not begin, or fell silent, within its deadline."""


class EngineRefused(EngineError):
    """The engine's service refused our credentials or our request."""


class EngineBusy(EngineError):
    """The engine's service is well, and has no place for a request just now."""


class EngineMistaken(EngineError):
    """The engine answered, and this answer is of no use: it is empty, or asks for what does not exist."""


class ModelMissing(EngineError):
    """A model file is not where the engine looks for it; the message names the command that fetches it."""


class ProgramMissing(EngineError):
    """A program that the engine runs is not installed; the message names the package."""


class PackageMissing(EngineError):
    """A Python package of the engine's extra is not installed; the message names the extra."""


class ModelFetchError(VoxtrunkError):
    """A model could not be fetched into the models folder (offline, not admitted, wrong hash, no space).

    `cause`: what is wrong. `remedy`: what would make it right, "" where the cause tells.
    """

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(f"{cause}: {remedy}" if remedy else cause)
        self.cause = cause
        self.remedy = remedy


class HubUnreachable(ModelFetchError):
    """The hub of models does not answer."""


class RecordError(VoxtrunkError):
    """A recording, transcript or CDR could not be written (no space, no permission)."""


class StackError(VoxtrunkError):
    """A program of the stack is missing, did not start or does not answer, or its files could not be written."""


class MiError(VoxtrunkError):
    """A command to OpenSIPS' management interface (MI) failed."""

    sip_status = 503
    sip_reason = "Service Unavailable"


class MiRefused(MiError):
    """OpenSIPS answered a command with an error. `code`, `message`: as it gave them (404: no such session)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"MI: {code} {message}")
        self.code = code
        self.message = message


class MiTimeout(MiError):
    """OpenSIPS did not answer a command, which it may have done all the same."""


class BadEvent(VoxtrunkError):
    """A datagram that is no E_UA_SESSION event (OpenSIPS module b2b_entities); it is counted and dropped."""


class ConnectorUnreachable(VoxtrunkError):
    """No connector answers at its HTTP address."""


class ConnectorRefused(VoxtrunkError):
    """The connector, or what is in its place, refused a request: a wrong token, another program."""


class UnknownCall(VoxtrunkError):
    """No call has this Call-ID, or several begin so."""
