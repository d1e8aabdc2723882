"""Comfort noise (RFC 3389): the level and the spectrum of a far end's background while it sends nothing."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from connector.audio import Samples
from connector.errors import RtpError

LENGTH = 4096
"""Samples of noise before it repeats: half a second at 8 kHz."""
MAX_ORDER = 12
"""Reflection coefficients that are looked at; the rest is finer than anyone hears."""
LEAST_GAIN = 1e-3
"""Of the predictor: resonances are not sharper than 60 dB."""


@lru_cache(maxsize=64)
def comfort_noise(payload: bytes) -> Samples:
    """A payload's noise, shape (4096,), to be repeated: it ends where it begins. The same for any sample rate.

    Raises `RtpError` for an empty payload.
    """
    if not payload:
        raise RtpError("comfort noise without a level")
    # Section 3.1: the level is in -dBov, 0 dBov is the RMS of a full-scale square wave.
    rms = 32768 * 10 ** (-(payload[0] & 0x7F) / 20)
    # Section 3.2: k = 258 (N - 127) / 32768; the model's filter 1 / A(z) by the step-up recursion.
    predictor = np.ones(1)
    for octet in payload[1 : 1 + MAX_ORDER]:
        padded = np.append(predictor, 0.0)
        predictor = padded + 258 * (min(octet, 254) - 127) / 32768 * padded[::-1]
    # Random phases under that spectrum: noise without a seam, and without filtering sample by sample.
    magnitudes = 1 / np.maximum(np.abs(np.fft.rfft(predictor, LENGTH)), LEAST_GAIN)
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, LENGTH // 2 + 1)
    magnitudes[0] = 0
    noise = np.fft.irfft(magnitudes * np.exp(1j * phases))
    noise *= rms / np.sqrt(np.mean(np.square(noise)))
    samples = np.clip(np.rint(noise), -32768, 32767).astype(np.int16)
    samples.setflags(write=False)
    return samples
