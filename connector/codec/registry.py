"""Codecs by the names that SDP gives them (RFC 3551, RFC 8866 section 6.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from connector.audio import Samples
from connector.codec import opus
from connector.codec.g711 import ALaw, MuLaw
from connector.codec.g722 import SubBandAdpcm
from connector.errors import NotAcceptableHere

WIDEBAND_RATE = 16_000
"""Audio of this rate, Hz, has all that a recogniser of speech hears (ITU-T G.722: 50 Hz to 7 kHz)."""


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

    @property
    def memoryless(self) -> bool:
        """Whether a payload depends on its own samples alone, so that one of silence is as good as another."""

    def encode(self, samples: Samples) -> bytes:
        """The payload of a frame."""

    def decode(self, payload: bytes) -> Samples:
        """The samples of a payload; raises `RtpError` where it cannot be one."""

    def duration(self, payload: bytes) -> int:
        """How long a payload sounds, in units of `clock_rate`, without decoding it; raises `RtpError`."""


@runtime_checkable
class Redundant(Protocol):
    """A codec whose packets say something of those before them."""

    def recover(self, payload: bytes, count: int) -> Samples | None:
        """The `count` samples lost just before `payload`, which is to be decoded next; None where it cannot tell."""


@dataclass(frozen=True, slots=True)
class Format:
    """A codec as SDP describes it.

    `clock_rate`, `channels`: of `a=rtpmap`. `rate`: of the audio, Hz. `payload_type`: static (RFC 3551 section 6), or
    the dynamic one that we prefer. `parameters`: our `a=fmtp`. `make`: takes the far end's `a=fmtp`.
    `missing`: why it cannot be spoken here, "" where it can.
    """

    name: str
    clock_rate: int
    channels: int
    rate: int
    payload_type: int
    make: Callable[[str], Codec]
    parameters: str = ""
    missing: Callable[[], str] = lambda: ""

    @property
    def wideband(self) -> bool:
        return self.rate >= WIDEBAND_RATE


CODECS: Mapping[str, Format] = {
    codec.name: codec
    for codec in (
        Format("opus", opus.CLOCK_RATE, 2, opus.RATE, 96, opus.Opus, opus.FORMAT_PARAMETERS, opus.missing),
        Format("G722", 8000, 1, 16_000, 9, lambda _: SubBandAdpcm()),
        Format("PCMU", 8000, 1, 8000, 0, lambda _: MuLaw()),
        Format("PCMA", 8000, 1, 8000, 8, lambda _: ALaw()),
    )
}
"""Every codec that we speak, in the order that we offer them: audio up to 7 or 8 kHz first."""


def spoken(names: Iterable[str] = tuple(CODECS)) -> tuple[Format, ...]:
    """Those of `names` that can be spoken here, in their order."""
    return tuple(CODECS[name] for name in names if not CODECS[name].missing())


def make_codec(name: str, parameters: str = "") -> Codec:
    """A codec in its initial state, for a far end whose `a=fmtp` is `parameters`.

    Raises `NotAcceptableHere` for one that we do not speak.
    """
    if name not in CODECS:
        raise NotAcceptableHere(f"no codec {name!r} (there are {', '.join(CODECS)})")
    if missing := CODECS[name].missing():
        raise NotAcceptableHere(missing)
    return CODECS[name].make(parameters)
