"""The caller's audio on its way to the voice activity detection, and kept for the recogniser."""

from __future__ import annotations

import audioop
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from connector.audio import Audio, Frame
from connector.codec.resample import resample
from connector.interfaces import AudioPort, Clock, VadService, VadStream

LAG_SECONDS = 0.5
"""The most by which probabilities may trail the audio without cutting the beginning of an utterance."""


class Ear:
    """Hears one port. What it does per frame is appending and handing over, nothing that computes.

    `keep`: seconds of the latest audio that are remembered while nobody speaks.
    """

    def __init__(
        self,
        port: AudioPort,
        vad: VadService,
        clock: Clock,
        keep: float,
        on_probability: Callable[[float, float, float], None],
    ) -> None:
        self._port = port
        self._vad = vad
        self._clock = clock
        self._keep = keep + LAG_SECONDS
        self._on_probability = on_probability
        self._frames: deque[Frame] = deque()
        self._keeping = False
        self._stream: VadStream | None = None
        self._now = 0.0
        self._wire_offset = 0.0

    def open(self) -> None:
        """Begins to hear, with nothing heard before."""
        self.close()
        self._stream = self._vad.open(self._on_probability)

    def close(self) -> None:
        """Stops hearing and forgets. Idempotent."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._frames.clear()
        self._keeping = False

    @property
    def now(self) -> float:
        """Media time just after the frame heard last, in seconds."""
        return self._now

    def hear(self, frame: Frame) -> None:
        """Takes in the next frame; dropped while closed."""
        if self._stream is None:
            return
        self._now = end = frame.end
        self._wire_offset = self._clock.now() - self._port.input_delay - end
        self._frames.append(frame)
        if not self._keeping:
            self._forget(end - self._keep)
        self._stream.push(frame)

    def wire_time(self, media_time: float) -> float:
        """Clock time, in seconds, at which the audio of `media_time` arrived."""
        return media_time + self._wire_offset

    def begin(self, since: float) -> None:
        """An utterance began at media time `since`: everything from there on is kept until `take`."""
        self._forget(since)
        self._keeping = True

    def take(self, until: float) -> list[Frame]:
        """The utterance up to media time `until`; it is forgotten here."""
        self._keeping = False
        frames = []
        while self._frames and self._frames[0].time < until:
            frames.append(self._frames.popleft())
        return frames

    def peek(self) -> list[Frame]:
        """The utterance so far; it goes on."""
        return list(self._frames)

    def drop(self) -> None:
        """It was no utterance: only the latest audio is kept again."""
        self._keeping = False

    def _forget(self, before: float) -> None:
        while self._frames and self._frames[0].end <= before:
            self._frames.popleft()


def levels(frame: Frame) -> tuple[float, float]:
    """The root mean square (of ±32768) of both halves of a frame: `connector.turn.level`'s hops."""
    samples = frame.samples
    half = len(samples) // 2
    return audioop.rms(samples[:half].data, 2), audioop.rms(samples[half:].data, 2)


def utterance(frames: Sequence[Frame], tail: float = 0.0) -> Audio:
    """`frames`, one or more, as one stretch of audio at the rate of the last, and `tail` seconds of silence."""
    rate = frames[-1].rate
    parts = [
        frame.samples if frame.rate == rate else resample(Audio(frame.samples, frame.rate), rate).samples
        for frame in frames
    ]
    return Audio(np.concatenate((*parts, np.zeros(round(tail * rate), np.int16))), rate)
