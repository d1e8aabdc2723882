"""Utterances as Whisper takes them: in windows no longer than they need, as log-mel spectrograms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from connector.audio import Audio, Samples
from flavors.engines._resample import resample

RATE = 16000
"""Whisper's own rate, Hz."""
TELEPHONE_RATE = 8000
"""Of most calls, Hz."""
FRAMES_PER_SECOND = 100
"""Columns of a spectrogram."""
MAX_SECONDS = 30.0
"""What Whisper's encoder takes at most."""

_STEP_SECONDS = 5.0
"""Windows longer than the floor grow in these steps, so that many utterances have the same."""
_SEARCH_SECONDS = 5.0
"""Where an utterance is too long for one window, it is cut at the quietest moment of the last so many seconds."""
_QUIET_SECONDS = 0.1
"""Length of that moment."""
_COLUMN_SECONDS = 0.025
"""What a column looks at."""

_FLOOR = 1e-10
"""Power of silence."""
_DECADES = 8.0
"""What is more than 80 dB below the loudest point counts as that."""

INAUDIBLE = 33
"""An utterance whose loudest sample (of ±32768) is below this, -60 dBFS, holds no words."""

Floats = NDArray[np.float32]


def audible(audio: Audio) -> bool:
    """Whether there can be words in `audio`."""
    samples = audio.samples
    return bool(len(samples)) and max(int(samples.max()), -int(samples.min())) >= INAUDIBLE


def window_seconds(seconds: float, floor: float) -> float:
    """The window for an utterance of up to `MAX_SECONDS`: the floor, or the next longer one that holds it."""
    steps = max(0, math.ceil((seconds - floor) / _STEP_SECONDS))
    return min(MAX_SECONDS, floor + steps * _STEP_SECONDS)


def pieces(audio: Audio) -> Iterator[Audio]:
    """Cuts `audio` into stretches of at most 30 s, where it is quiet."""
    samples, rate = audio
    longest, quiet = int(MAX_SECONDS * rate), int(_QUIET_SECONDS * rate)
    moments = int(_SEARCH_SECONDS / _QUIET_SECONDS)
    while len(samples) > longest:
        start = longest - moments * quiet
        searched = samples[start:longest].astype(np.float32).reshape(moments, quiet)
        cut = start + int(np.argmin(np.square(searched).sum(axis=1))) * quiet + quiet // 2
        yield Audio(samples[:cut], rate)
        samples = samples[cut:]
    yield Audio(samples, rate)


def log_mel(filters: Floats, audio: Audio, seconds: float) -> Floats:
    """Whisper's features of `audio` in a window of `seconds`: shape (mels, 100 per second), float32.

    `filters`: the model's, shape (mels, 201), over the spectrum from 0 to 8 kHz.

    As if `audio` were at 16 kHz and padded with zeros, which is how Whisper learnt. Neither is done: what the padding
    comes to is known, and so is what resampling makes of the spectrum of telephone audio. For 3 s of it that takes 0.9
    ms, with both 2.9 ms.
    """
    audio = audio if audio.rate in (RATE, TELEPHONE_RATE) else Audio(resample(audio, RATE), RATE)
    rate, frames = audio.rate, round(seconds * FRAMES_PER_SECOND)
    width, hop = round(_COLUMN_SECONDS * rate), rate // FRAMES_PER_SECOND
    half = width // 2
    # The last columns that the samples reach see the silence after them.
    count = min(frames, (len(audio.samples) + half) // hop + 1)
    heard = np.pad(_floats(audio.samples), (0, width + hop))
    columns = np.lib.stride_tricks.sliding_window_view(np.pad(heard, (half, 0), mode="reflect"), width)[::hop][:count]
    spectrum = np.fft.rfft(columns * _hann(width))
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    if rate == TELEPHONE_RATE:
        # Up to 4 kHz, and from there its image in the mirror.
        power = np.hstack((power, power[:, -2::-1])) * _resampling()
    mels = power @ filters.T
    logarithm = np.log10(np.maximum(mels, _FLOOR))
    floor = max(math.log10(_FLOOR), float(logarithm.max()) - _DECADES)
    features = np.full((len(filters), frames), floor, np.float32)
    np.maximum(logarithm.T, floor, out=features[:, :count])
    return (features + np.float32(4.0)) / np.float32(4.0)


def _floats(samples: Samples) -> Floats:
    return samples.astype(np.float32) / np.float32(32768)


@cache
def _resampling() -> Floats:
    """What resampling from 8 to 16 kHz does to the power of each band of 40 Hz: shape (201,)."""
    height, band = 30000, 40
    impulse = np.zeros(TELEPHONE_RATE // band, np.int16)
    impulse[len(impulse) // 2] = height
    made = resample(Audio(impulse, TELEPHONE_RATE), RATE).astype(np.float64) / height
    return np.square(np.abs(np.fft.rfft(made))).astype(np.float32)


@cache
def _hann(width: int) -> Floats:
    """Periodic, shape (width,)."""
    return np.hanning(width + 1)[:-1].astype(np.float32)
