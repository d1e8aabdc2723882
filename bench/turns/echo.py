"""The agent's own voice on its way back: from the caller's loudspeaker, or a hybrid, into the microphone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from bench.turns.clips import FRAME, RATE, Floats
from connector.audio import Samples

ROOM_SECONDS = 0.08
"""Of a small room's response that matters."""
REVERBERATION_SECONDS = 0.25
"""Time in which its sound falls by 60 dB."""
WAITING_FRAMES = 3
"""Frames that the telephone keeps before it plays them, at most."""


@dataclass(frozen=True)
class Echo:
    """`level`: dB below what was received; `delay`: seconds from loudspeaker to microphone."""

    level: float
    delay: float
    room: bool

    def __str__(self) -> str:
        return f"{self.level:.0f} dB, {1000 * self.delay:.0f} ms{', room' if self.room else ''}"


class EchoPath:
    """A telephone that plays what comes at its own 20 ms clock, and hears it again."""

    def __init__(self, echo: Echo, seed: int = 3) -> None:
        self._response = response(echo, seed)
        self._waiting: deque[Samples] = deque(maxlen=WAITING_FRAMES)
        self._played = np.zeros(len(self._response) - 1 + FRAME)

    def play(self, samples: Samples) -> None:
        """A packet has come."""
        self._waiting.extend(samples[start : start + FRAME] for start in range(0, len(samples), FRAME))

    def frame(self) -> Floats:
        """What the microphone hears of it during the next 20 ms, shape (160,), in units of 16-bit samples."""
        now = np.zeros(FRAME)
        if self._waiting:
            frame = self._waiting.popleft()
            now[: len(frame)] = frame
        self._played = np.concatenate([self._played[FRAME:], now])
        return np.convolve(self._played, self._response, mode="valid")


def response(echo: Echo, seed: int) -> Floats:
    """Impulse response at 8 kHz whose energy is that of `echo`."""
    silence = np.zeros(round(echo.delay * RATE))
    direct = np.ones(1)
    if echo.room:
        times = np.arange(round(ROOM_SECONDS * RATE)) / RATE
        reflections = np.random.default_rng(seed).standard_normal(len(times)) * 10 ** (
            -3 * times / REVERBERATION_SECONDS
        )
        direct = np.concatenate([direct, 0.25 * reflections[1:]])
    return np.concatenate([silence, direct / np.sqrt((direct**2).sum()) * 10 ** (echo.level / 20)])
