"""Noise suppression and echo cancellation for all calls, as one batched service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from connector.audio import Frame, Samples
from connector.interfaces import AudioProcessor, AudioStream, Captured, Clock

PATIENCE = 0.2
"""Seconds that a batch may take: noise that is heard now is better than silence heard later."""

REST = 1.0
"""Seconds for which an engine that failed, or took too long, is left alone."""

log = logging.getLogger(__name__)

OnFrame = Callable[[Frame, float], None]


class BatchedAudioService:
    """Implements `AudioService` on one `AudioProcessor`, which the caller starts and closes.

    All frames of a tick go to the engine as one batch; those that come while it works are the next
    batch. So the engine is never called twice at once, and each stream's frames stay in order.

    No frame is ever lost or held up: where the engine fails or takes longer than `PATIENCE`, `failures`
    counts it and all streams hear the far end as it is, until the engine has rested.
    """

    def __init__(self, processor: AudioProcessor, clock: Clock) -> None:
        self._processor = processor
        self._clock = clock
        self._waiting: list[tuple[_Stream, Captured, float]] = []
        self._work: asyncio.Task[None] | None = None
        self._streams = 0
        self._rested = 0.0
        self._closed = False
        self.failures = 0
        """Batches that the engine failed to process in time."""

    def open(self, on_frame: OnFrame) -> AudioStream:
        """Starts a stream; `on_frame(frame, delay)` is called on the event loop, in order."""
        self._streams += 1
        return _Stream(self, self._streams, on_frame)

    async def aclose(self) -> None:
        """Stops the work; no frame is delivered after it. Idempotent."""
        self._closed = True
        self._waiting.clear()
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
            await asyncio.wait([work])

    def take(self, stream: _Stream, captured: Captured) -> None:
        """`stream` has a frame to process."""
        if self._closed:
            return
        self._waiting.append((stream, captured, self._clock.now()))
        if self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._process_all(), name="audio processing")

    def forget(self, stream: int) -> None:
        """The stream of that number is closed."""
        self._processor.forget(stream)

    async def _process_all(self) -> None:
        """Processes batch after batch until no frame waits."""
        # Each delivery is a callback of its own: a listener that raises takes no other stream along.
        deliver = asyncio.get_running_loop().call_soon
        while self._waiting:
            batch, self._waiting = self._waiting, []
            processed = await self._processed([captured for _, captured, _ in batch])
            now = self._clock.now()
            if processed is None:
                for stream, captured, pushed in batch:
                    deliver(stream.deliver, captured.frame, now - pushed)
                continue
            for (stream, captured, pushed), samples in zip(batch, processed, strict=True):
                rate = captured.frame.rate
                frame = Frame(samples, rate, captured.frame.time, captured.frame.concealed)
                deliver(stream.deliver, frame, now - pushed + self._processor.delay(rate))
        self._work = None

    async def _processed(self, batch: Sequence[Captured]) -> Sequence[Samples] | None:
        """What the engine makes of `batch`; None while it rests or where it fails."""
        if self._clock.now() < self._rested:
            return None
        [answer] = await asyncio.gather(self._patiently(batch), return_exceptions=True)
        if isinstance(answer, BaseException):
            self._failed(answer)
            return None
        return answer

    async def _patiently(self, batch: Sequence[Captured]) -> Sequence[Samples]:
        async with asyncio.timeout(PATIENCE):
            return await self._processor.process(batch)

    def _failed(self, failure: BaseException) -> None:
        self.failures += 1
        self._rested = self._clock.now() + REST
        late = isinstance(failure, TimeoutError)
        log.error(
            "audio processing failed; the far end is heard as it is",
            extra={"failures": self.failures, "error": f"no answer in {PATIENCE} s" if late else str(failure)},
        )


class _Stream:
    """Implements `AudioStream`."""

    def __init__(self, service: BatchedAudioService, number: int, on_frame: OnFrame) -> None:
        self._service = service
        self._number = number
        self._on_frame = on_frame
        self._closed = False

    def push(self, frame: Frame, rendered: Sequence[Frame]) -> None:
        if not self._closed:
            self._service.take(self, Captured(self._number, frame, rendered))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._service.forget(self._number)

    def deliver(self, frame: Frame, delay: float) -> None:
        """The next frame, as it is to be heard."""
        if not self._closed:
            self._on_frame(frame, delay)
