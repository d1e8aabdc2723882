"""Voice activity detection for all calls, as one batched service."""

from __future__ import annotations

import asyncio
import audioop
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connector.audio import Frame, Samples
from connector.codec.resample import Resampler
from connector.errors import EngineError
from connector.interfaces import Vad, VadStream

LAG_SECONDS = 1.0
"""A stream that the engine leaves further behind loses its oldest windows: late turns are worse than coarse ones."""

FALLBACK_LEVEL = 0.02
"""Root mean square, of full scale ±1.0, from which a window counts as speech while the engine fails (-34 dB)."""

FULL_SCALE = 32768.0

INAUDIBLE = 100
"""A window whose loudest sample (of ±32768) is below this, -50 dBFS, is no speech, and no engine is asked."""

PAUSE_WINDOWS = 8
"""After so many of them in a row (a quarter of a second) the engine forgets what it heard before."""

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
OnProbability = Callable[[float, float, float], None]


class _Window(NamedTuple):
    samples: Samples
    end: float


class BatchedVadService:
    """Implements `VadService` on one `Vad` engine, which the caller starts and closes.

    A stream's full windows wait until the engine is free; then one window of every waiting stream
    goes as one batch, and meanwhile the next gathers. So the engine is never called twice at once,
    the batch grows with the load, and each stream's windows stay in order. What is inaudible is no work for it.

    Where the engine fails, no stream falls silent: the batch's windows are judged by their level
    alone, their streams' states begin anew, `failures` counts it, and the next batch tries the
    engine again.
    """

    def __init__(self, vad: Vad) -> None:
        self._vad = vad
        self._streams: dict[_Stream, None] = {}
        self._work: asyncio.Task[None] | None = None
        self._closed = False
        self.failures = 0
        """Batches that the engine failed to judge."""
        self.dropped = 0
        """Windows that were dropped because the engine could not keep up."""

    def open(self, on_probability: OnProbability) -> VadStream:
        """Starts a stream; `on_probability(end, seconds, probability)` is called on the event loop, in order."""
        return _Stream(self, self._vad, on_probability)

    async def aclose(self) -> None:
        """Stops the work; no probability is delivered after it. Idempotent."""
        self._closed = True
        self._streams.clear()
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
            await asyncio.wait([work])

    def wants(self, stream: _Stream) -> None:
        """`stream` has windows to judge."""
        if self._closed:
            return
        if self._work is None:  # a line that is silent most of the time is not worth a task per window
            while stream.waiting and self._is_pause(stream, stream.waiting[0]):
                stream.waiting.popleft()
            if not stream.waiting:
                return
        self._streams[stream] = None
        if self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._judge_all(), name="vad")

    def forget(self, stream: _Stream) -> None:
        """`stream` is closed."""
        self._streams.pop(stream, None)

    async def _judge_all(self) -> None:
        """Judges batch after batch until no stream waits."""
        while self._streams:
            streams, self._streams = list(self._streams), {}
            windows = [stream.waiting.popleft() for stream in streams]
            for stream in streams:
                if stream.waiting:
                    self._streams[stream] = None
            audible = [pair for pair in zip(streams, windows, strict=True) if not self._is_pause(*pair)]
            if audible:
                await self._judge([stream for stream, _ in audible], [window for _, window in audible])
        self._work = None

    def _is_pause(self, stream: _Stream, window: _Window) -> bool:
        """Whether there is nothing to judge in `window`; if so, that is delivered."""
        if audioop.max(window.samples.data, 2) >= INAUDIBLE:
            stream.pauses = 0
            return False
        stream.pauses += 1
        if stream.pauses == PAUSE_WINDOWS:
            stream.state = self._vad.initial_state()
        self._deliver(stream, window, 0.0)
        return True

    async def _judge(self, streams: list[_Stream], windows: list[_Window]) -> None:
        batch = np.stack([window.samples for window in windows]).astype(np.float32)
        batch /= FULL_SCALE
        states = np.stack([stream.state for stream in streams])
        try:
            probabilities, states = await self._vad.probabilities(batch, states)
        except Exception as failure:
            # Whatever it is, the calls go on; a cause that no engine should have is told at length, once.
            if not self.failures and not isinstance(failure, EngineError):
                log.exception("voice activity detection failed in an unforeseen way")
            self._failed(failure)
            probabilities = (np.sqrt(np.mean(np.square(batch), axis=1)) >= FALLBACK_LEVEL).astype(np.float32)
            states = np.stack([self._vad.initial_state()] * len(streams))
        for stream, window, probability, state in zip(streams, windows, probabilities.tolist(), states, strict=True):
            stream.state = state
            self._deliver(stream, window, probability)

    def _deliver(self, stream: _Stream, window: _Window, probability: float) -> None:
        try:
            stream.deliver(window.end, probability)
        except Exception:
            # The boundary between calls: a listener that raises takes no other stream along.
            log.exception("a listener of voice activity failed")

    def _failed(self, failure: Exception) -> None:
        self.failures += 1
        log.error(
            "voice activity detection failed; judging by level",
            extra={"failures": self.failures, "error": str(failure)},
        )


class _Stream:
    """Implements `VadStream`."""

    def __init__(self, service: BatchedVadService, vad: Vad, on_probability: OnProbability) -> None:
        self._service = service
        self._rate = vad.rate
        self._window = vad.window
        self._on_probability = on_probability
        self._limit = max(1, int(LAG_SECONDS * vad.rate / vad.window))
        self._pieces: list[Samples] = []
        self._held = 0
        self._resampler: tuple[int, Resampler] | None = None
        self._closed = False
        self.state = vad.initial_state()
        self.pauses = 0
        """Inaudible windows in a row until now."""
        self.waiting: deque[_Window] = deque()

    def push(self, frame: Frame) -> None:
        if self._closed:
            return
        samples = frame.samples if frame.rate == self._rate else self._at_rate(frame)
        self._pieces.append(samples)
        self._held += len(samples)
        if self._held >= self._window:
            self._cut(frame.end)

    def close(self) -> None:
        self._closed = True
        self._service.forget(self)

    def deliver(self, end: float, probability: float) -> None:
        """The judgement of the window that ends at media time `end`."""
        if not self._closed:
            self._on_probability(end, self._window / self._rate, probability)

    def _cut(self, end: float) -> None:
        """Cuts what is held, which ends at media time `end`, into windows."""
        audio = np.concatenate(self._pieces)
        start = 0
        while self._held >= self._window:
            self._held -= self._window
            self.waiting.append(_Window(audio[start : start + self._window], end - self._held / self._rate))
            start += self._window
        self._pieces = [audio[start:]] if self._held else []
        while len(self.waiting) > self._limit:
            self.waiting.popleft()
            self._service.dropped += 1
        self._service.wants(self)

    def _at_rate(self, frame: Frame) -> Samples:
        if self._resampler is None or self._resampler[0] != frame.rate:
            self._resampler = (frame.rate, Resampler(frame.rate, self._rate))
        return self._resampler[1].process(frame.samples)
