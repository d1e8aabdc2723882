"""A fake `AudioProcessor`, and a port whose far end returns the agent's voice.

The fake cancels echo as one who knows the line: it subtracts what was rendered `echo_frames` ago, so
what is left is exact where every frame reached it once, in order and beside its reference, and
noise where not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from connector.audio import Frame, Samples
from connector.errors import EngineError
from connector.interfaces import Captured, Clock
from tests.fakes.audio_port import FakeAudioPort


class FakeAudioProcessor:
    """Implements `AudioProcessor`: takes `seconds` per batch, and delays no sound but says that it does."""

    name = "fake-audio"

    def __init__(self, seconds: float = 0.001, echo_frames: int = 0) -> None:
        self.seconds = seconds
        self.failing = False
        self.batches: list[list[Captured]] = []
        self.forgotten: list[int] = []
        self._echo_frames = echo_frames
        self._echoes: dict[int, deque[Samples]] = {}

    async def start(self) -> None:
        pass

    async def check(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def delay(self, rate: int) -> float:
        return 0.01

    async def process(self, batch: Sequence[Captured]) -> Sequence[Samples]:
        self.batches.append(list(batch))
        await asyncio.sleep(self.seconds)
        if self.failing:
            raise EngineError(self.name, "out of order")
        return [self._cancelled(*captured) for captured in batch]

    def forget(self, stream: int) -> None:
        self.forgotten.append(stream)
        self._echoes.pop(stream, None)

    def _cancelled(self, stream: int, frame: Frame, rendered: Sequence[Frame]) -> Samples:
        nothing = np.zeros(len(frame.samples), np.int16)
        echoes = self._echoes.setdefault(stream, deque([nothing] * self._echo_frames))
        echoes.extend(one.samples for one in rendered)
        return frame.samples - (echoes.popleft() if echoes else nothing)


class EchoingPort(FakeAudioPort):
    """A line that returns what we emit, as loud as it was, `echo_frames` later."""

    def __init__(self, clock: Clock, echo_frames: int) -> None:
        super().__init__(clock)
        self._echoes: deque[Samples] = deque([np.zeros(160, np.int16)] * echo_frames)
        self.tap(self)

    def received(self, frame: Frame, at: float) -> None:
        pass

    def emitted(self, frame: Frame, at: float) -> None:
        self._echoes.append(frame.samples)

    def listen(self, on_frame: Callable[[Frame], None]) -> None:
        super().listen(lambda frame: on_frame(frame._replace(samples=frame.samples + self._echoes.popleft())))
