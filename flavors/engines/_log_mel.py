"""Whisper's log-mel spectrogram in numpy: what `WhisperFeatureExtractor` of Hugging Face's transformers computes.

Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision (2022), section 2.2. The mel scale and the
area of the filters are those of Slaney's Auditory Toolbox (1998), as in librosa.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

RATE = 16000
MELS = 80
HOP = 160
"""Samples from one column to the next: 10 ms."""
_WINDOW = 400
"""Samples of one column: 25 ms."""
_HALF = _WINDOW // 2

_FLOOR = 1e-10
"""Power of silence."""
_VARIANCE_FLOOR = 1e-7
_DECADES = 8.0
"""What is more than 80 dB below the loudest point counts as that."""

_LINEAR_HERTZ = 200.0 / 3.0
"""Hz per mel below 1 kHz, which is mel 15."""
_LOG_STEP = math.log(6.4) / 27.0
"""Of the natural logarithm of the frequency, per mel above 1 kHz."""

Floats = NDArray[np.float32]
_Doubles = NDArray[np.float64]


def log_mel(samples: Floats, length: int) -> Floats:
    """Columns of the last `length` samples at 16 kHz (a multiple of 160): shape (80, length / 160), about ±1.

    Fewer samples count as preceded by zeros. The whole is brought to mean 0 and variance 1 first. Columns of mere
    zeros are alike: one is computed for all.
    """
    heard = samples[-length:]
    missing = length - len(heard)
    padded = np.concatenate((np.zeros(missing), heard))
    padded = (padded - padded.mean()) / np.sqrt(padded.var() + _VARIANCE_FLOOR)
    frames = sliding_window_view(np.pad(padded, _HALF, mode="reflect"), _WINDOW)[:length:HOP]
    # A frame reaches half a window to each side of its instant.
    empty = min(max(0, (missing - _HALF) // HOP + 1), len(frames))
    alike = max(0, empty - 1)
    spectrum = np.fft.rfft(frames[alike:] * _hann())
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    logarithm = np.log10(np.maximum(_filters() @ power.T, _FLOOR))
    logarithm = (np.maximum(logarithm, logarithm.max() - _DECADES) + 4.0) / 4.0
    return np.hstack((np.repeat(logarithm[:, :1], alike, axis=1), logarithm)).astype(np.float32)


@cache
def _hann() -> _Doubles:
    """Periodic, shape (400,)."""
    window: _Doubles = 0.5 - 0.5 * np.cos(2 * np.pi / _WINDOW * np.arange(_WINDOW))
    return window


@cache
def _filters() -> _Doubles:
    """Triangles of equal area, evenly spaced on the mel scale from 0 to 8 kHz: shape (80, 201)."""
    top = RATE / 2
    mels = np.linspace(0.0, 15.0 + math.log(top / 1000.0) / _LOG_STEP, MELS + 2)
    edges = np.where(mels < 15.0, mels * _LINEAR_HERTZ, 1000.0 * np.exp((mels - 15.0) * _LOG_STEP))
    left, middle, right = edges[:-2, np.newaxis], edges[1:-1, np.newaxis], edges[2:, np.newaxis]
    bins = np.linspace(0.0, top, _HALF + 1)
    triangles = np.minimum((bins - left) / (middle - left), (right - bins) / (right - middle))
    filters: _Doubles = np.maximum(triangles, 0.0) * 2.0 / (right - left)
    return filters
