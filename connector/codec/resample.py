"""Streaming sample-rate conversion by a polyphase FIR filter (Crochiere and Rabiner, chapter 2)."""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from connector.audio import Audio, Samples

SPAN_SECONDS = 0.00375
"""Length of the filter at the lower of both rates up to 16 kHz; half of it is the delay (under 2 ms)."""
NARROW_RATE = 8000
"""The rate that `SPAN_SECONDS` is for; higher ones need less time for the same selectivity."""
PASSBAND = 0.85
"""Passed unattenuated, of the lower rate's half: 3.4 kHz of telephony's 4 kHz (ITU-T G.712)."""
ATTENUATION = 60.0
"""Of aliases and images, dB."""
UNITY = 1 << 20
"""Filter coefficients are whole multiples of 1/UNITY, so that every sum is exact in float64 and no chunking
of a stream, and no order in which a machine adds, can change a sample."""
BLOCK = 2048
"""Output samples computed at a time: bounds the memory of long inputs."""


class Resampler:
    """Converts a stream from `source` to `target` Hz.

    Output sample k sounds at the time of input sample k * source / target: the filter's delay shows only
    as samples that come later, under 2 ms, and that `flush` ends. Equal rates pass through.
    """

    def __init__(self, source: int, target: int) -> None:
        divisor = gcd(source, target)
        self._up, self._down = target // divisor, source // divisor
        self._bank = _filter_bank(source, target)
        self._taps = self._bank.shape[1]
        self.source = source
        self.target = target
        self._reset()

    def __str__(self) -> str:
        return f"resample {self.source}→{self.target} Hz"

    def process(self, samples: Samples) -> Samples:
        """Converts the next stretch of the stream: shape (n,) to shape (m,), m close to n * target / source."""
        if self.source == self.target:
            return samples
        self._received += len(samples)
        return self._convert(samples)

    def flush(self) -> Samples:
        """What the filter still holds; the output is then exactly as long as the input. Begins a new stream."""
        if self.source == self.target:
            return np.empty(0, np.int16)
        total = -(-self._received * self._up // self._down)
        rest = self._convert(np.zeros(self._taps, np.int16))[: total - self._emitted_before]
        self._reset()
        return rest

    def _reset(self) -> None:
        # The filter is centred on its output: half of its span is silence before the stream.
        self._held: NDArray[np.float64] = np.zeros(self._taps // 2 - 1)
        self._position = 0
        self._received = 0
        self._emitted = self._emitted_before = 0

    def _convert(self, samples: Samples) -> Samples:
        self._held = np.concatenate((self._held, samples))
        starts = len(self._held) - self._taps + 1
        # Output k lies `position + k * down` up-sampled steps after the first held input sample.
        count = max(0, -(-(starts * self._up - self._position) // self._down))
        self._emitted_before = self._emitted
        self._emitted += count
        output = np.empty(count, np.int16)
        for begin in range(0, count, BLOCK):
            places = self._position + self._down * np.arange(begin, min(begin + BLOCK, count))
            output[begin : begin + BLOCK] = self._filter(places, starts)
        self._position += count * self._down
        used = min(self._position // self._up, len(self._held))
        self._held = self._held[used:].copy()
        self._position -= used * self._up
        return output

    def _filter(self, places: NDArray[np.int64], starts: int) -> NDArray[np.float64]:
        """The output samples at `places`, in up-sampled steps; `starts`: how many windows of input there are."""
        step = self._held.itemsize
        windows = np.ndarray((starts, self._taps), np.float64, self._held, strides=(step, step))
        sums: NDArray[np.float64]
        if self._up == 1:
            sums = np.einsum("ij,j->i", windows[places], self._bank[0])
        else:
            inputs, phases = np.divmod(places, self._up)
            sums = np.einsum("ij,ij->i", windows[inputs], self._bank[phases])
        sums /= UNITY
        np.rint(sums, out=sums)
        np.clip(sums, -32768, 32767, out=sums)
        return sums


def resample(audio: Audio, rate: int) -> Audio:
    """Converts a whole stretch of audio at once; its duration stays the same."""
    if audio.rate == rate:
        return audio
    resampler = Resampler(audio.rate, rate)
    return Audio(np.concatenate((resampler.process(audio.samples), resampler.flush())), rate)


@lru_cache(maxsize=32)
def _filter_bank(source: int, target: int) -> NDArray[np.float64]:
    """The low-pass filter, split by phase: shape (up, taps), rows in the order of output phases."""
    divisor = gcd(source, target)
    up = target // divisor
    lower = min(source, target)
    span = SPAN_SECONDS * NARROW_RATE / lower
    half = int(span * source / 2)
    taps = 2 * half
    # Row p weighs input samples for an output that lies p/up of a sample after the middle of its window.
    distance = np.arange(taps) - half + 1 - (np.arange(up) / up)[:, np.newaxis]
    window_position = np.clip(distance / half, -1, 1)
    beta = 0.1102 * (ATTENUATION - 8.7)  # Kaiser's formula for attenuations above 50 dB
    window = np.i0(beta * np.sqrt(1 - window_position**2)) / np.i0(beta)
    bandwidth = lower / source
    bank = bandwidth * np.sinc(bandwidth * distance) * window
    # Each phase has a gain of exactly one for DC: no level error, and no tone from phases that differ.
    bank *= UNITY / bank.sum(axis=1, keepdims=True)
    whole = np.rint(bank)
    middle = np.argmax(whole, axis=1)
    whole[np.arange(up), middle] += UNITY - whole.sum(axis=1)
    return whole
