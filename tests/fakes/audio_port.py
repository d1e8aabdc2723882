"""A fake `AudioPort`: a caller who says what the test says, and a playout that runs in (virtual) real time.

    async with FakeAudioPort(clock) as port:
        ...                               # a pipeline is made with `port` and runs
        await port.caller_says(audio)     # delivered in 20 ms frames; returns when it was said
        await clock.sleep(1)              # the caller is silent
        port.voice_between(2.0, 3.0)      # when the agent was heard

Every 20 ms one frame of playout is emitted and one frame of the caller is delivered, silence where
there is nothing. A `resume` goes back as far as it may. The port keeps the promises of
`connector.interfaces.AudioPort` and no others, so a pipeline that works here rests on the contract and not on
an implementation.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np

from connector.audio import FRAME_SECONDS, Audio, Frame, Samples
from connector.codec.resample import resample
from connector.interfaces import AudioTap, Clock, Position, TimingSource

MEMORY = 100_000
"""Emitted voice frames that the port remembers."""


class FakeAudioPort:
    """Implements `AudioPort` at `rate` Hz; each frame is delivered `input_delay` seconds after its arrival."""

    def __init__(self, clock: Clock, rate: int = 8000, input_delay: float = 0.04) -> None:
        self._clock = clock
        self._rate = rate
        self._size = round(rate * FRAME_SECONDS)
        self._silence: Samples = np.zeros(self._size, np.int16)
        self._input_delay = input_delay
        self._on_frame: Callable[[Frame], None] = lambda frame: None
        self._taps: list[AudioTap] = []
        self._saying: deque[Samples] = deque()
        self._said = asyncio.Event()
        self._said.set()
        self._frames = 0
        self._generation = 0
        self._playout: deque[Samples] = deque()
        self._heard: deque[Samples] = deque()
        self._pending = 0
        self._emitted = 0
        self._finished = False
        self._cleared = False
        self._paused = False
        self._ended = False
        self._waiting: list[tuple[int, asyncio.Future[Position]]] = []
        self._ticking: asyncio.Task[None] | None = None
        self.voice: deque[tuple[float, int]] = deque(maxlen=MEMORY)
        """(clock time of emission, generation) of every frame that held the agent's voice."""
        self.stale = 0
        """Writes that were dropped because their generation was over."""
        self.clears: list[tuple[float, Position]] = []
        """(clock time, what was returned) of every `clear`."""

    async def __aenter__(self) -> Self:
        self._ticking = asyncio.create_task(self._tick(), name="fake port")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait([self._ticking])
            if not self._ticking.cancelled():
                self._ticking.result()

    # ------------------------------------------------------------------ what a test does and asks

    async def caller_says(self, audio: Audio) -> None:
        """The caller says `audio` from the next frame on, after what is still being said; returns when it was said."""
        assert audio.rate == self._rate
        for start in range(0, len(audio.samples), self._size):
            frame = self._silence.copy()
            part = audio.samples[start : start + self._size]
            frame[: len(part)] = part
            self._saying.append(frame)
        self._said.clear()
        await self._said.wait()

    def voice_between(self, start: float, end: float) -> float:
        """Seconds of the agent's voice emitted from clock time `start` until `end`."""
        return sum(start <= at < end for at, _ in self.voice) * FRAME_SECONDS

    @property
    def buffered(self) -> float:
        """Seconds written and not yet emitted."""
        return self._pending / self._rate

    # ------------------------------------------------------------------ AudioPort

    @property
    def timing(self) -> TimingSource:
        return TimingSource.WIRE

    @property
    def input_delay(self) -> float:
        return self._input_delay

    @property
    def output_delay(self) -> float:
        return 0.0

    def listen(self, on_frame: Callable[[Frame], None]) -> None:
        self._on_frame = on_frame

    def tap(self, tap: AudioTap) -> None:
        self._taps.append(tap)

    def write(self, generation: int, audio: Audio) -> None:
        if generation < self._generation or (generation == self._generation and self._cleared):
            self.stale += 1
            return
        if generation > self._generation:
            self._supersede(generation)
        samples = audio.samples if audio.rate == self._rate else resample(audio, self._rate).samples
        self._playout.append(samples)
        self._pending += len(samples)

    def finish(self, generation: int) -> None:
        if generation == self._generation:
            self._finished = True
            self._settle()

    def pause(self) -> None:
        self._paused = True

    def resume(self, back: float = 0.0) -> None:
        if self._paused and not self._is_over(self._generation):
            self._go_back(min(round(back * self._rate), self._emitted))
        self._paused = False

    def clear(self) -> Position:
        position = self.position
        self._playout.clear()
        self._pending = 0
        self._cleared = True
        self._paused = False
        self._settle()
        self.clears.append((self._clock.now(), position))
        return position

    @property
    def position(self) -> Position:
        return Position(self._generation, self._emitted / self._rate)

    async def played(self, generation: int) -> Position:
        if not self._is_over(generation):
            future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
            self._waiting.append((generation, future))
            return await future
        return self.position

    def end(self) -> None:
        """The media is over before the pipeline is: nothing more is heard, and nobody waits in `played` for it."""
        self._ended = True
        self._settle()

    # ------------------------------------------------------------------ the playout

    async def _tick(self) -> None:
        """An absolute clock, as a real ticker's: it does not drift when a tick comes late."""
        start = self._clock.now()
        while True:
            self._emit()
            self._deliver()
            self._frames += 1
            await self._clock.sleep(max(0.0, start + self._frames * FRAME_SECONDS - self._clock.now()))

    def _deliver(self) -> None:
        now = self._clock.now()
        samples = self._saying.popleft() if self._saying else self._silence
        if not self._saying:
            self._said.set()
        frame = Frame(samples, self._rate, self._frames * FRAME_SECONDS)
        for tap in self._taps:
            tap.received(frame, now - self._input_delay)
        self._on_frame(frame)

    def _emit(self) -> None:
        now = self._clock.now()
        samples = self._silence
        going = not self._paused and not self._ended
        due = going and (self._pending >= self._size or (self._finished and self._pending > 0))
        if due:
            samples = self._take()
            self.voice.append((now, self._generation))
        if self._taps:
            frame = Frame(samples, self._rate, self._frames * FRAME_SECONDS)
            for tap in self._taps:
                tap.emitted(frame, now)
        if due:
            self._settle()

    def _take(self) -> Samples:
        frame = self._silence.copy()
        filled = 0
        while filled < self._size and self._playout:
            head = self._playout.popleft()
            part = head[: self._size - filled]
            frame[filled : filled + len(part)] = part
            filled += len(part)
            if len(part) < len(head):
                self._playout.appendleft(head[len(part) :])
        self._pending -= filled
        self._emitted += filled
        self._heard.append(frame[:filled])
        return frame

    def _go_back(self, count: int) -> None:
        """Emits the last `count` samples of the generation once more."""
        self._pending += count
        self._emitted -= count
        while count:
            piece = self._heard.pop()
            again = piece[-count:]
            self._playout.appendleft(again)
            if len(again) < len(piece):
                self._heard.append(piece[: -len(again)])
            count -= len(again)

    def _supersede(self, generation: int) -> None:
        self._generation = generation
        self._playout.clear()
        self._heard.clear()
        self._pending = self._emitted = 0
        self._finished = self._cleared = False
        self._settle()

    def _is_over(self, generation: int) -> bool:
        if generation != self._generation:
            return generation < self._generation
        return self._ended or self._cleared or (self._finished and not self._pending)

    def _settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        for generation, future in waiting:
            if not self._is_over(generation):
                self._waiting.append((generation, future))
            elif not future.done():
                future.set_result(self.position)
