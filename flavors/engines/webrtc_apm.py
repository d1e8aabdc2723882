"""WebRTC's audio processing module: suppresses noise and cancels echo in what is heard of the caller.

It comes with LiveKit's SDK (Apache-2.0), of which nothing else is used. It computes in processes of
its own, for it costs more than all else that is done per packet, and the SDK starts threads and ends
its process where its native code panics. For 100 calls, per tick of 20 ms, on two x86-64 cores at 8 kHz:

| computed | noise suppression | and echo cancellation |
| --- | --- | --- |
| on the event loop | 5.3 ms of it | 17.5 ms of it |
| in a thread | 7 ms, waiting 400 times for the GIL or keeping it from the loop | more than the tick |
| in a process | 0.5 ms of the event loop, heard 8 ms later | 0.5 ms of the event loop; needs two processes |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Annotated, cast

import numpy as np
from pydantic import Field, model_validator

from connector.audio import Frame, Samples
from connector.errors import EngineError, PackageMissing
from connector.interfaces import (
    Captured,
    EngineContext,
    EngineDescriptor,
    EngineKind,
    EngineOptions,
    Placement,
    Worker,
)

NAME = "webrtc-apm"

RESAMPLING_SECONDS = 0.003
"""The module computes at 16 kHz: delay of the way there from 8 kHz and back."""
NOISE_SUPPRESSION_SECONDS = 0.006
"""Overlap of its windows: 96 samples at 16 kHz."""
ECHO_CANCELLATION_SECONDS = 0.008
"""Its blocks and windows: 128 samples at 16 kHz."""

_Sound = tuple[int, bytes]
"""Rate in Hz, and int16 samples."""
_Step = tuple[int, _Sound, Sequence[_Sound]]
"""Stream, what was captured, what was rendered."""
_Process = Callable[[Sequence[_Step], Sequence[int]], list[bytes]]
"""From steps, and streams that have ended since the last, to what is to be heard."""


class WebRtcApmOptions(EngineOptions):
    """At least one of its parts has to be on."""

    noise_suppression: bool = False
    """Suppresses steady noise: hum, hiss, fans, engines. It does not suppress other voices."""
    echo_cancellation: bool = False
    """Cancels the agent's own voice where the line or the phone returns it within 0.5 s of its emission."""
    high_pass_filter: bool = False
    """Removes what is below some 100 Hz; echo cancellation has it always."""
    auto_gain_control: bool = False
    """Brings quiet callers to the level of others."""
    processes: Annotated[int, Field(ge=1, le=32)] = 1
    """Calls are spread over as many; one keeps a core busy with some 80 calls that cancel echo, or 200 that do not."""

    @model_validator(mode="after")
    def _does_something(self) -> WebRtcApmOptions:
        if not (self.noise_suppression or self.echo_cancellation or self.high_pass_filter or self.auto_gain_control):
            raise ValueError("nothing is switched on: write noise_suppression: true or echo_cancellation: true")
        return self


class WebRtcApm:
    """Implements `AudioProcessor`."""

    def __init__(self, options: WebRtcApmOptions, context: EngineContext) -> None:
        self._options = options
        self._context = context
        self._workers: list[Worker] = []
        self._ended: list[list[int]] = [[] for _ in range(options.processes)]

    async def start(self) -> None:
        """Starts the processes."""
        load = partial(_load, self._options.model_dump(exclude={"processes"}))
        for _ in range(self._options.processes):
            self._workers.append(await self._context.host.start(load, Placement.PROCESS, NAME))

    async def check(self) -> None:
        """Has every process work on silence."""
        silence = Frame(np.zeros(160, np.int16), 8000, 0.0)
        streams = range(-self._options.processes, 0)  # of no call
        await self.process([Captured(stream, silence, [silence]) for stream in streams])
        for stream in streams:
            self.forget(stream)

    async def aclose(self) -> None:
        """Ends the processes."""
        workers, self._workers = self._workers, []
        for worker in workers:
            await worker.aclose()

    def delay(self, rate: int) -> float:
        """What the parts that are on add up to."""
        options = self._options
        return (
            RESAMPLING_SECONDS * (rate < 16000)
            + NOISE_SUPPRESSION_SECONDS * options.noise_suppression
            + ECHO_CANCELLATION_SECONDS * options.echo_cancellation
        )

    async def process(self, batch: Sequence[Captured]) -> Sequence[Samples]:
        """The frames of `batch`, each processed; `EngineError` where a process died (the next batch starts it anew)."""
        if not self._workers:
            raise EngineError(NAME, "not started")
        count = len(self._workers)
        shards: list[list[Captured]] = [[] for _ in self._workers]
        for captured in batch:
            shards[captured.stream % count].append(captured)
        answers = [iter(one) for one in await asyncio.gather(*map(self._run, self._workers, self._ended, shards))]
        return [np.frombuffer(next(answers[captured.stream % count]), np.int16) for captured in batch]

    def forget(self, stream: int) -> None:
        """Its state is freed with the next batch."""
        self._ended[stream % self._options.processes].append(stream)

    async def _run(self, worker: Worker, ended: list[int], batch: Sequence[Captured]) -> list[bytes]:
        """One process's part of a batch; it is told of the streams that `ended`, too."""
        if not batch:
            return []
        echo = self._options.echo_cancellation
        steps: list[_Step] = [
            (stream, _sound(frame), [_sound(one) for one in rendered] if echo else ())
            for stream, frame, rendered in batch
        ]
        told = list(ended)
        processed = cast(list[bytes], await worker.run(steps, told))
        del ended[: len(told)]
        return processed


def _sound(frame: Frame) -> _Sound:
    return frame.rate, frame.samples.tobytes()


# What follows runs in the worker processes.


def _load(parts: dict[str, bool]) -> _Process:
    from livekit.rtc.apm import AudioProcessingModule
    from livekit.rtc.audio_frame import AudioFrame

    AudioProcessingModule(**parts)  # the first one loads the native code: now, and not in a call
    streams: dict[int, AudioProcessingModule] = {}

    def pieces(sound: _Sound) -> list[AudioFrame]:
        """The module takes 10 ms at a time, and works in place."""
        rate, data = sound
        samples = rate // 100
        return [
            AudioFrame(bytearray(data[start : start + 2 * samples]), rate, 1, samples)
            for start in range(0, len(data), 2 * samples)
        ]

    def step(stream: int, captured: _Sound, rendered: Sequence[_Sound]) -> bytes:
        module = streams.get(stream)
        if module is None:
            module = streams[stream] = AudioProcessingModule(**parts)
        # The delay between the two is found by the canceller itself.
        for sound in rendered:
            for piece in pieces(sound):
                module.process_reverse_stream(piece)
        heard = pieces(captured)
        for piece in heard:
            module.process_stream(piece)
        return b"".join(piece.data for piece in heard)

    def process(steps: Sequence[_Step], ended: Sequence[int]) -> list[bytes]:
        for stream in ended:
            streams.pop(stream, None)
        try:
            return [step(*one) for one in steps]
        except RuntimeError as error:
            raise EngineError(NAME, str(error)) from error

    return process


def _make(options: WebRtcApmOptions, context: EngineContext) -> WebRtcApm:
    try:
        found = find_spec("livekit.rtc")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise PackageMissing(NAME, "livekit is not installed: run `pip install 'voxtrunk[webrtc-apm]'`")
    return WebRtcApm(options, context)


descriptor = EngineDescriptor(
    name=NAME, kind=EngineKind.AUDIO, options=WebRtcApmOptions, extra="webrtc-apm", load=_make
)
