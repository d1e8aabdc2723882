"""ITU-T G.711, which telephony calls PCMU (µ-law) and PCMA (A-law); one octet per sample."""

from __future__ import annotations

import audioop

import numpy as np

from connector.audio import Samples

RATE = 8000


class _G711:
    """What both laws have in common."""

    name: str
    rate = RATE
    clock_rate = RATE
    memoryless = True

    def duration(self, payload: bytes) -> int:
        """An octet is a sample, and a sample a unit of the timestamp (RFC 3551 section 4.5.14)."""
        return len(payload)

    def __str__(self) -> str:
        return f"{self.name} {self.rate} Hz"


class MuLaw(_G711):
    """PCMU."""

    name = "PCMU"

    def encode(self, samples: Samples) -> bytes:
        """`samples`: shape (n,) at 8 kHz; n octets."""
        return audioop.lin2ulaw(samples.tobytes(), 2)

    def decode(self, payload: bytes) -> Samples:
        """Shape (n,) at 8 kHz for n octets."""
        return np.frombuffer(audioop.ulaw2lin(payload, 2), np.int16)


class ALaw(_G711):
    """PCMA."""

    name = "PCMA"

    def encode(self, samples: Samples) -> bytes:
        """`samples`: shape (n,) at 8 kHz; n octets."""
        return audioop.lin2alaw(samples.tobytes(), 2)

    def decode(self, payload: bytes) -> Samples:
        """Shape (n,) at 8 kHz for n octets."""
        return np.frombuffer(audioop.alaw2lin(payload, 2), np.int16)
