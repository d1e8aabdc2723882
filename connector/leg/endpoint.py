"""What serves calls: the embedded endpoint or OpenSIPS, seen from the rest of the connector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from connector.codec.registry import CODECS, spoken
from connector.config.model import MediaSettings
from connector.interfaces import CallInfo
from connector.sip.offer_answer import Capabilities


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that was refused at the door. Of an INVITE that cannot be read, `info` has the peer alone."""

    info: CallInfo
    status: int
    reason: str


class Endpoint(Protocol):
    """Takes calls from `start` until `aclose`; each becomes a `Leg`."""

    async def start(self) -> None:
        """Opens the sockets. Raises `MediaError` (port taken, address not local)."""

    async def aclose(self) -> None:
        """Refuses new calls, hangs up all others, and closes. Idempotent."""

    @property
    def local(self) -> tuple[str, int]:
        """Address and port where SIP arrives."""

    @property
    def problem(self) -> str:
        """Why no call can come now, in words; "" where one can."""


def capabilities(media: MediaSettings) -> Capabilities:
    """What calls may speak: the codecs of the configuration, or all, less those that cannot be spoken here."""
    return Capabilities(spoken(media.codecs or tuple(CODECS)), ranked=media.codecs is not None)
