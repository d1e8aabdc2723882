"""Codecs by the names that SDP gives them (RFC 3551, RFC 8866 section 6.6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from connector.audio import Samples
from connector.codec.g711 import ALaw, MuLaw
from connector.errors import NotAcceptableHere


class Codec(Protocol):
    """Turns samples into a payload and back; one instance per direction of a call, for codecs that keep state."""

    @property
    def name(self) -> str:
        """Encoding name of `a=rtpmap`."""

    @property
    def rate(self) -> int:
        """Sample rate of the audio, Hz."""

    @property
    def clock_rate(self) -> int:
        """Rate of RTP timestamps, Hz (for G.722 it is not `rate`: RFC 3551 section 4.5.2)."""

    def encode(self, samples: Samples) -> bytes:
        """The payload of a frame."""

    def decode(self, payload: bytes) -> Samples:
        """The samples of a payload."""

    def duration(self, payload: bytes) -> int:
        """How long a payload sounds, in units of `clock_rate`, without decoding it."""


CODECS: Mapping[str, Callable[[], Codec]] = {"PCMU": MuLaw, "PCMA": ALaw}
"""Every codec that we speak."""


def make_codec(name: str) -> Codec:
    """A codec in its initial state; raises `NotAcceptableHere` for one that we do not speak."""
    if name not in CODECS:
        raise NotAcceptableHere(f"no codec {name!r} (there are {', '.join(CODECS)})")
    return CODECS[name]()
