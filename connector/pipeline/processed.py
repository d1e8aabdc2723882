"""Audio processing between a port and a pipeline: neither of the two knows of it.

    port ── frames of the far end ─┐                  ┌─ frames as they are to be heard ── pipeline
         ── frames emitted ────────┴─ AudioService ───┘
         ◄─ everything else ─────────────────────────────────────────────────────────────

Taps are the port's own: recordings have what was on the wire.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from connector.audio import Audio, Frame
from connector.interfaces import (
    Action,
    AudioPort,
    AudioService,
    AudioStream,
    AudioTap,
    Digit,
    Pipeline,
    PipelineFactory,
    PipelineObserver,
    Position,
    TimingSource,
)

RENDERED_FRAMES = 5
"""Emitted frames that are remembered while none of the far end comes."""


async def processed(
    make: PipelineFactory, service: AudioService, port: AudioPort, observer: PipelineObserver
) -> Pipeline:
    """The pipeline of `make`, on a port whose far end `service` has worked on."""
    heard = ProcessedPort(port, service)
    return _Processed(await make(heard, observer), heard)


class ProcessedPort:
    """An `AudioPort` that delivers what `service` makes of the frames of `port`, from `open` until `close`.

    Each frame of `port` comes out once, in order, with its rate and its media time; what the processing takes
    is part of `input_delay`.
    """

    def __init__(self, port: AudioPort, service: AudioService) -> None:
        self._port = port
        self._service = service
        self._stream: AudioStream | None = None
        self._rendered: deque[Frame] = deque(maxlen=RENDERED_FRAMES)
        self._listener: Callable[[Frame], None] | None = None
        self._delay = 0.0
        port.tap(_Rendered(self._rendered.append))

    def open(self) -> None:
        """Begins to process."""
        self.close()
        self._stream = self._service.open(self._deliver)

    def close(self) -> None:
        """Ends the processing; nothing is heard any more. Idempotent."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    @property
    def timing(self) -> TimingSource:
        return self._port.timing

    @property
    def input_delay(self) -> float:
        """Seconds between a packet's arrival and its sound's delivery to the listener."""
        return self._port.input_delay + self._delay

    @property
    def output_delay(self) -> float:
        return self._port.output_delay

    @property
    def position(self) -> Position:
        return self._port.position

    def listen(self, on_frame: Callable[[Frame], None]) -> None:
        self._listener = on_frame
        self._port.listen(self._take)

    def tap(self, tap: AudioTap) -> None:
        self._port.tap(tap)

    def write(self, generation: int, audio: Audio) -> None:
        self._port.write(generation, audio)

    def finish(self, generation: int) -> None:
        self._port.finish(generation)

    def pause(self) -> None:
        self._port.pause()

    def resume(self, back: float = 0.0) -> None:
        self._port.resume(back)

    def clear(self) -> Position:
        return self._port.clear()

    async def played(self, generation: int) -> Position:
        return await self._port.played(generation)

    def _take(self, frame: Frame) -> None:
        if self._stream is not None:
            rendered = tuple(self._rendered)
            self._rendered.clear()
            self._stream.push(frame, rendered)

    def _deliver(self, frame: Frame, delay: float) -> None:
        self._delay = delay
        if self._listener is not None:
            self._listener(frame)


class _Rendered:
    """An `AudioTap` that hands on what we emit."""

    def __init__(self, take: Callable[[Frame], None]) -> None:
        self._take = take

    def received(self, frame: Frame, at: float) -> None:
        pass

    def emitted(self, frame: Frame, at: float) -> None:
        self._take(frame)


class _Processed:
    """A `Pipeline` whose port processes as long as it runs."""

    def __init__(self, pipeline: Pipeline, port: ProcessedPort) -> None:
        self._pipeline = pipeline
        self._port = port

    async def run(self) -> None:
        self._port.open()
        try:
            await self._pipeline.run()
        finally:
            self._port.close()

    def digit(self, digit: Digit) -> None:
        self._pipeline.digit(digit)

    def hold(self, held: bool) -> None:
        self._pipeline.hold(held)

    def say(self, text: str, then: Action | None = None) -> None:
        self._pipeline.say(text, then)
