"""Resampling of whole utterances for recognisers that want a rate of their own."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from connector.audio import Audio, Samples

_ZERO_CROSSINGS = 16
"""Of the sinc on each side; the transition band is then a quarter of the lower Nyquist frequency wide."""
_BETA = 7.0
"""Of the Kaiser window: images and aliases are about 70 dB down."""
_CUTOFF = 0.94
"""Middle of the transition band, as a share of the lower Nyquist frequency: speech loses nothing below 80 % of it."""


def _kernel(offsets: NDArray[np.float64], cutoff: float) -> NDArray[np.float32]:
    """Windowed sinc at `offsets` (input samples), low-pass at `cutoff` (of the input's Nyquist frequency)."""
    reach = _ZERO_CROSSINGS / cutoff
    window = np.i0(_BETA * np.sqrt(np.clip(1 - (offsets / reach) ** 2, 0, None))) / np.i0(_BETA)
    window[np.abs(offsets) > reach] = 0
    taps: NDArray[np.float64] = np.sinc(offsets * cutoff) * window
    return np.asarray(taps / taps.sum(), dtype=np.float32)


def resample(audio: Audio, rate: int) -> Samples:
    """The samples of `audio` at `rate` Hz: shape (ceil(n * rate / audio.rate),), aligned in time, clipped to 16 bits.

    A polyphase windowed-sinc filter that sees the whole utterance (no state, no delay).
    """
    if audio.rate == rate or not len(audio.samples):
        return audio.samples
    shared = math.gcd(audio.rate, rate)
    up, down = rate // shared, audio.rate // shared
    cutoff = _CUTOFF * min(1.0, up / down)
    reach = math.ceil(_ZERO_CROSSINGS / cutoff)
    offsets = np.arange(-reach, reach + 2, dtype=np.float64)
    windows = sliding_window_view(np.pad(audio.samples.astype(np.float32), (reach, reach + 1)), len(offsets))
    resampled = np.empty(-(-len(audio.samples) * up // down), dtype=np.float32)
    for phase in range(min(up, len(resampled))):
        start, remainder = divmod(phase * down, up)
        resampled[phase::up] = windows[start::down] @ _kernel(offsets - remainder / up, cutoff)
    return np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)
