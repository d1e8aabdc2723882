"""ITU-T G.722 at 64 kbit/s: audio up to 7 kHz in the bits that G.711 takes; by libg722."""

from __future__ import annotations

import numpy as np
from G722 import G722

from connector.audio import Samples

RATE = 16_000
CLOCK_RATE = 8000
"""Not the sample rate: an error in the first RTP profile, kept for compatibility (RFC 3551 section 4.5.2)."""
BIT_RATE = 64_000


class SubBandAdpcm:
    """An octet is two samples. Encoder and decoder adapt to the signal: one instance per direction of a call.

    Silence is encoded like speech: a payload of silence sent again and again would leave the far end's decoder
    in another state than our encoder, and the next words would begin distorted.
    """

    name = "G722"
    rate = RATE
    clock_rate = CLOCK_RATE
    memoryless = False

    def __init__(self) -> None:
        self._encoder = G722(RATE, BIT_RATE)
        self._decoder = G722(RATE, BIT_RATE)

    def __str__(self) -> str:
        return f"{self.name} {self.rate} Hz"

    def encode(self, samples: Samples) -> bytes:
        """`samples`: shape (2n,) at 16 kHz; n octets."""
        payload: bytes = self._encoder.encode(samples)
        return payload

    def decode(self, payload: bytes) -> Samples:
        """Shape (2n,) at 16 kHz for n octets."""
        return np.frombuffer(self._decoder.decode(payload), np.int16)

    def duration(self, payload: bytes) -> int:
        """An octet is a unit of the timestamp."""
        return len(payload)
