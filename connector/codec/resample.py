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
STEP_OUTPUTS = 16
"""Output samples (at most) that a row of the matrix product makes: longer rows multiply more zeros, shorter ones copy
more."""


class Resampler:
    """Converts a stream from `source` to `target` Hz.

    Output sample k sounds at the time of input sample k * source / target: the filter's delay shows only
    as samples that come later, under 2 ms, and that `flush` ends. Equal rates pass through.
    """

    def __init__(self, source: int, target: int) -> None:
        divisor = gcd(source, target)
        self._up, self._down = target // divisor, source // divisor
        self._taps = _filter_bank(source, target).shape[1]
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
        output = self._samples_at(self._position, count, starts)
        self._position += count * self._down
        used = min(self._position // self._up, len(self._held))
        self._held = self._held[used:].copy()
        self._position -= used * self._up
        return output

    def _samples_at(self, position: int, count: int, starts: int) -> Samples:
        """`count` output samples from `position` on, of an input that has `starts` windows."""
        step = _step_matrix(self.source, self.target, position % self._up)
        if step is None:
            return self._filtered(position, count, starts)
        pieces = []
        inputs, matrix = step
        span, outputs = matrix.shape
        size = self._held.itemsize
        block = BLOCK // outputs * outputs
        for begin in range(0, count - outputs + 1, block):
            # The same few phases come again and again: a matrix product for all of a frame.
            steps = min(block, count - begin) // outputs
            offset = (position + self._down * begin) // self._up * size
            spans = np.ndarray((steps, span), np.float64, self._held, offset, (inputs * size, size))
            pieces.append(_rounded(np.dot(spans, matrix)).reshape(-1))
        rest = count % outputs
        if rest:
            pieces.append(self._filtered(position + self._down * (count - rest), rest, starts))
        return pieces[0] if len(pieces) == 1 else np.concatenate((*pieces, np.empty(0, np.int16)))

    def _filtered(self, position: int, count: int, starts: int) -> Samples:
        """The same for any ratio and count, a window of input for each output sample."""
        output = np.empty(count, np.int16)
        size = self._held.itemsize
        windows = np.ndarray((max(starts, 0), self._taps), np.float64, self._held, strides=(size, size))
        for begin in range(0, count, BLOCK):
            first, phase = divmod(position + self._down * begin, self._up)
            inputs, filters = _filters(self.source, self.target, phase, min(BLOCK, count - begin))
            output[begin : begin + BLOCK] = _rounded(np.einsum("ij,ij->i", windows[first + inputs], filters))
        return output


def _rounded(sums: NDArray[np.float64]) -> Samples:
    np.rint(sums, out=sums)
    return sums.clip(-32768, 32767, out=sums).astype(np.int16)


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
    whole /= UNITY
    return whole


@lru_cache(maxsize=16)
def _filters(source: int, target: int, phase: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The inputs at which the windows of `count` outputs begin, the first of which has `phase`, and their filters.

    Kept for the frames of a stream, which are all alike.
    """
    bank = _filter_bank(source, target)
    divisor = gcd(source, target)
    inputs, phases = np.divmod(phase + source // divisor * np.arange(count), target // divisor)
    return inputs, bank[phases]


@lru_cache(maxsize=128)
def _step_matrix(source: int, target: int, phase: int) -> tuple[int, NDArray[np.float64]] | None:
    """How many input samples a step goes on, and what it multiplies: shape (inputs that it sees, outputs).

    Column o holds the filter of output o where that output's window lies, in a step whose first output has `phase`.
    None for ratios of many phases (22.05 kHz): most of their matrix would be zeros.
    """
    divisor = gcd(source, target)
    up, down = target // divisor, source // divisor
    if up > STEP_OUTPUTS:
        return None
    bank = _filter_bank(source, target)
    taps = bank.shape[1]
    outputs = STEP_OUTPUTS // up * up
    starts, phases = np.divmod(phase + down * np.arange(outputs), up)
    matrix = np.zeros((int(starts[-1]) + taps, outputs))
    for output, (start, row) in enumerate(zip(starts, phases, strict=True)):
        matrix[start : start + taps, output] = bank[row]
    return outputs * down // up, matrix
