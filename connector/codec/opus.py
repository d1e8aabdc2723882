"""Opus (RFC 6716) in RTP (RFC 7587): speech up to 8 kHz, mono; by libopus."""

from __future__ import annotations

import re
from dataclasses import dataclass

from connector.audio import Samples
from connector.codec.libopus import (
    LIBRARY,
    SET_BITRATE,
    SET_COMPLEXITY,
    SET_INBAND_FEC,
    SET_MAX_BANDWIDTH,
    SET_PACKET_LOSS,
    SET_SIGNAL,
    SET_VBR,
    SIGNAL_VOICE,
    OpusDecoder,
    OpusEncoder,
)
from connector.errors import RtpError

RATE = 16_000
"""Of our audio: recognisers hear no more, and libopus resamples within its filters."""
CLOCK_RATE = 48_000
"""RFC 7587 section 4.1, whatever the bandwidth."""
BIT_RATE = 64_000
"""As G.711 and G.722 take. RFC 7587 section 3.1.1 names 16 to 20 kbit/s for wideband speech, but redundant copies take
half of the bits: with them the STOI of speech is 0.985 at 32 kbit/s and 0.993 at this rate; 0.94 and 0.98 where one
packet in ten is lost."""
COMPLEXITY = 0
"""Of 0 to 10. At this bit rate 3 adds 0.002 to the STOI and takes twice as long, 10 five times."""
EXPECTED_LOSS = 5
"""Per cent: how much the redundant copies are worth to the encoder, where the far end wants them."""
MAX_BANDWIDTHS = ((8000, 1101), (12_000, 1102), (16_000, 1103))
"""`maxplaybackrate` and what libopus calls the bandwidth of it."""

FORMAT_PARAMETERS = f"maxplaybackrate={RATE};sprop-maxcapturerate={RATE};useinbandfec=1"
"""What we say of ourselves (RFC 7587 section 6.1). No `usedtx`: silence that is sent is heard at its true length."""

_DURATIONS = (
    *(480, 960, 1920, 2880) * 3,  # SILK: 10, 20, 40, 60 ms
    *(480, 960) * 2,  # both
    *(120, 240, 480, 960) * 4,  # CELT: 2.5, 5, 10, 20 ms
)
"""Of a frame, by the configuration number (RFC 6716 section 3.1), in units of CLOCK_RATE."""
LONGEST = 5760
"""120 ms (RFC 6716 section 3.2.5)."""


def missing() -> str:
    """Why Opus cannot be spoken here, "" where it can."""
    if LIBRARY is not None:
        return ""
    return "libopus is not installed: run `apt install libopus0` or `pip install 'voxtrunk[opus]'`"


def duration(payload: bytes) -> int:
    """How long `payload` sounds, by its first two octets (RFC 6716 section 3.1 and 3.2.5); raises `RtpError`."""
    if not payload:
        raise RtpError("an Opus packet has at least one octet")
    frames = (1, 2, 2, 0)[payload[0] & 3]
    if not frames:
        frames = payload[1] & 0x3F if len(payload) > 1 else 0
    length = frames * _DURATIONS[payload[0] >> 3]
    if not 0 < length <= LONGEST:
        raise RtpError(f"an Opus packet of {frames} frames")
    return length


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the far end's `a=fmtp` asks of who sends to it (RFC 7587 section 6.1).

    `max_playback_rate`: Hz. `max_bit_rate`: bit/s. `constant`: bit rate. `redundant`: copies of lost packets help.
    """

    max_playback_rate: int = CLOCK_RATE
    max_bit_rate: int = BIT_RATE
    constant: bool = False
    redundant: bool = False

    @classmethod
    def parse(cls, parameters: str) -> Wishes:
        """Reads the parameters; those that make no sense are as if they were absent."""
        said = dict(_PARAMETER.findall(parameters.lower()))
        return cls(
            max_playback_rate=_number(said, "maxplaybackrate", 8000, CLOCK_RATE, CLOCK_RATE),
            max_bit_rate=_number(said, "maxaveragebitrate", 6000, 510_000, BIT_RATE),
            constant=said.get("cbr") == "1",
            redundant=said.get("useinbandfec") == "1",
        )


_PARAMETER = re.compile(r"([a-z-]+)=([0-9]{1,9})\b")


def _number(said: dict[str, str], name: str, least: int, most: int, default: int) -> int:
    number = int(said.get(name, default))
    return number if least <= number <= most else default


class Opus:
    """Encoder and decoder adapt to the signal: one instance per direction of a call.

    `parameters`: of the far end's `a=fmtp`. Raises `OSError` where libopus is missing (see `missing`).
    """

    name = "opus"
    rate = RATE
    clock_rate = CLOCK_RATE
    memoryless = False

    def __init__(self, parameters: str = "") -> None:
        wishes = Wishes.parse(parameters)
        self._encoder = OpusEncoder(RATE)
        self._decoder = OpusDecoder(RATE)
        for option, value in (
            (SET_BITRATE, min(BIT_RATE, wishes.max_bit_rate)),
            (SET_VBR, not wishes.constant),
            (SET_MAX_BANDWIDTH, next((b for rate, b in MAX_BANDWIDTHS if wishes.max_playback_rate <= rate), 1103)),
            (SET_COMPLEXITY, COMPLEXITY),
            (SET_SIGNAL, SIGNAL_VOICE),
            (SET_INBAND_FEC, wishes.redundant),
            (SET_PACKET_LOSS, EXPECTED_LOSS if wishes.redundant else 0),
        ):
            self._encoder.set(option, value)

    def __str__(self) -> str:
        return f"{self.name} {self.rate} Hz"

    def encode(self, samples: Samples) -> bytes:
        """`samples`: shape (n,) at 16 kHz, 10, 20, 40 or 60 ms of them."""
        return self._encoder.encode(samples)

    def decode(self, payload: bytes) -> Samples:
        """All frames of `payload` at 16 kHz, stereo mixed down; comfort noise for one of up to two octets (DTX).

        Raises `RtpError` where it is no packet of Opus.
        """
        return self._decoder.decode(payload)

    def duration(self, payload: bytes) -> int:
        """Of all its frames; raises `RtpError` where it is no packet of Opus."""
        return duration(payload)

    def recover(self, payload: bytes, count: int) -> Samples | None:
        """The `count` samples that were lost before `payload`, which is decoded after them.

        By the copy that it carries (in-band FEC, RFC 6716 section 2.1.7), else made up to go over into it.
        """
        return self._decoder.recover(payload, count)
