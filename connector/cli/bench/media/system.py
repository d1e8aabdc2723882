"""The connector that is measured: legs of plain RTP that echo, each heard by the VAD and recorded.

A process of its own, driven by lines of JSON: commands on standard input, an answer to each on standard
output. It ends when standard input does.

    {"do": "open", "ports": [...]}    {"ports": [...]}: where the callers of these ports are answered
    {"do": "close"}                   {"legs": {...}}: the media of all legs, summed
    {"do": "tell"}                    {"threads": {...}, "tasks": 12, ...}
    {"do": "collect"}                 the same, after unused memory was freed
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from connector import config
from connector.app import App, SystemClock, settle
from connector.audio import Frame
from connector.call.engines import load_in_thread
from connector.cli.bench.media.disturbance import DISTURBANCES, Disturbance
from connector.cli.bench.rtp import only
from connector.cli.console import settings_of
from connector.cli.logs import logging_to_stderr
from connector.config.model import TurnSettings
from connector.errors import EngineError, MediaError
from connector.host import BatchedVadService, LocalEngineHost
from connector.interfaces import AudioPort, CallInfo, Clock, EngineContext, Vad, VadService
from connector.leg.plain_rtp import PlainRtpLeg
from connector.pipeline.ear import Ear
from connector.record import CallRecord, Turn
from connector.record.media import MediaStatistics
from connector.turn.barge_in import speech_needed
from connector.turn.endpointing import Endpointing
from connector.turn.state import Turn as TurnState
from connector.udp.ports import PortPool

PORTS = "20000-29999"
VAD_ENGINE = "silero"
TIMEOUT_SECONDS = 60.0
"""Callers may take this long to begin."""
ATTEMPTS, ATTEMPT_SECONDS = 20, 0.5
"""A call that is refused, as the machine does not keep up, is tried again this often, with a pause between."""


class Listening:
    """What a conversation does with each frame, beside the echo: an `AudioTap`."""

    def __init__(self, port: AudioPort, vad: VadService, clock: Clock, turn: TurnSettings) -> None:
        self._endpointing = Endpointing(turn)
        self._needed = speech_needed(TurnState.LISTENING, turn)
        self._ear = Ear(port, vad, clock, turn.preroll + turn.start_seconds, self._on_probability)
        self._ear.open()

    def received(self, frame: Frame, at: float) -> None:
        self._ear.hear(frame)

    def emitted(self, frame: Frame, at: float) -> None:
        """Of no interest."""

    def close(self) -> None:
        """Hears no more."""
        self._ear.close()

    def _on_probability(self, end: float, seconds: float, probability: float) -> None:
        self._endpointing.feed(end, seconds, probability, self._needed)


class Refused(MediaError):
    """The connector did not take a call."""


class Progress:
    """A `CallMonitor` that lets others wait until a call is up, and until it is over."""

    def __init__(self) -> None:
        self._up: dict[str, asyncio.Future[None]] = {}
        self._over: dict[str, asyncio.Future[CallRecord]] = {}

    def began(self, info: CallInfo) -> None:
        """Of no interest."""

    def answered(self, info: CallInfo, flavor: str) -> None:
        self._up[info.call_id].set_result(None)

    def turn(self, info: CallInfo, turn: Turn) -> None:
        """Of no interest."""

    def ended(self, info: CallInfo, record: CallRecord) -> None:
        self._over.pop(info.call_id).set_result(record)
        up = self._up.pop(info.call_id)
        if not up.done():
            up.set_exception(Refused(f"a call was refused: {record.reason}"))

    def expect(self, info: CallInfo) -> tuple[Awaitable[None], Awaitable[CallRecord]]:
        """Of the call that is about to begin: when it is up, `Refused` where it never is; and when it is over."""
        loop = asyncio.get_running_loop()
        self._up[info.call_id], self._over[info.call_id] = loop.create_future(), loop.create_future()
        return self._up[info.call_id], self._over[info.call_id]


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call, from `open` to `close`."""

    leg: PlainRtpLeg
    listening: Listening | None
    over: Awaitable[CallRecord]


class Connector:
    """Takes the commands."""

    def __init__(
        self,
        application: App,
        progress: Progress,
        clock: Clock,
        vad: BatchedVadService | None,
        disturbance: Disturbance | None,
        codec: str,
    ) -> None:
        self._codec = codec
        self._application = application
        self._progress = progress
        self._clock = clock
        self._vad = vad
        self._disturbance = disturbance
        self._ports = PortPool.from_range(PORTS)
        self._calls: dict[int, OpenCall] = {}
        self._refused = 0

    async def do(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """Does one command and returns the answer. Raises `MediaError`."""
        match command["do"]:
            case "open":
                return {"ports": [await self._open(port) for port in command["ports"]]}
            case "close":
                return {"legs": await self._close(command.get("ports", list(self._calls)))}
            case "collect":
                _collect()
        return self._tell()

    async def _open(self, caller: int) -> int:
        for _ in range(ATTEMPTS):
            with suppress(Refused):
                return await self._attempt(caller)
            self._refused += 1
            await self._clock.sleep(ATTEMPT_SECONDS)
        return await self._attempt(caller)

    async def _attempt(self, caller: int) -> int:
        leg = await PlainRtpLeg.open(
            address="127.0.0.1",
            ports=self._ports,
            ticker=self._application.ticker,
            clock=self._clock,
            timeout=TIMEOUT_SECONDS,
            called="bench",
            peer=("127.0.0.1", caller),
            codec=self._codec,
        )
        up, over = self._progress.expect(leg.info)
        self._application.take(leg)
        await up
        listening = None
        if self._vad is not None:
            listening = Listening(leg.rtp, self._vad, self._clock, TurnSettings())
            leg.rtp.tap(listening)
        port = leg.rtp.local[1]
        self._calls[port] = OpenCall(leg, listening, over)
        return port

    async def _close(self, ports: Sequence[int]) -> dict[str, float]:
        """Ends these calls and returns `summary` of their media, when their records are written."""
        calls = [self._calls.pop(port) for port in ports]
        told = summary([call.leg.rtp.statistics for call in calls])
        for call in calls:
            if call.listening is not None:
                call.listening.close()
            await call.leg.hang_up()
        for call in calls:
            await call.over
        return told

    def _tell(self) -> dict[str, Any]:
        """Of the process."""
        told: dict[str, Any] = {
            "threads": {thread.native_id: thread.name for thread in threading.enumerate()},
            "tasks": len(asyncio.all_tasks()),
            "skipped_ticks": self._application.ticker.skipped,
            "refused": self._refused,
        }
        if self._vad is not None:
            told["vad"] = {"failures": self._vad.failures, "dropped": self._vad.dropped}
        if self._disturbance is not None:
            told["disturbance"] = self._disturbance.figures()
        return told


def _collect() -> None:
    """Frees what nobody uses, also what the C library keeps for the next call (malloc_trim(3), where it has that)."""
    gc.collect()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def summary(legs: Sequence[MediaStatistics]) -> dict[str, float]:
    """All legs' media: their counters' sums, their measures' means."""
    values: dict[str, list[float]] = {}
    for leg in legs:
        for name, value in leg.model_dump().items():
            if isinstance(value, int | float):
                values.setdefault(name, []).append(value)
    return {
        name: sum(found) if isinstance(found[0], int) else round(sum(found) / len(found), 6)
        for name, found in values.items()
    }


async def _load_vad(stack: AsyncExitStack, models: Path) -> BatchedVadService:
    """The service of the real engine, as an application has it. Raises `EngineError`."""
    descriptor = config.engine_descriptors()[VAD_ENGINE]
    host = LocalEngineHost()
    stack.push_async_callback(host.aclose)
    engine = cast(Vad, await load_in_thread(descriptor, descriptor.options(), EngineContext(host, models)))
    stack.push_async_callback(engine.aclose)
    await engine.start()
    service = BatchedVadService(engine)
    stack.push_async_callback(service.aclose)
    return service


async def serve(options: argparse.Namespace) -> None:
    """Serves commands until standard input ends."""
    settings = only(settings_of(options.config), "echo", options.calls, options.records, audio=options.recording)
    progress, clock = Progress(), SystemClock()
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(App(settings, clock, monitors=[progress]))
        stack.push_async_callback(application.drain, 0)
        vad, problem = None, ""
        if options.vad:
            try:
                vad = await _load_vad(stack, settings.models)
            except EngineError as error:
                problem = str(error)
        disturbance = None
        if options.disturb is not None:
            disturbance = DISTURBANCES[options.disturb](settings.models, options.other_core, options.whisper)
            await stack.enter_async_context(disturbance)
        connector = Connector(application, progress, clock, vad, disturbance, options.codec)
        settle()
        await _take_commands(connector.do, {"vad": vad is not None, "problem": problem})


async def _take_commands(do: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]], ready: dict[str, Any]) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _answer(ready)
    async for command in reader:
        try:
            _answer(await do(json.loads(command)))
        except MediaError as error:
            _answer({"error": str(error)})


def _answer(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--calls", type=int, required=True, help="at once")
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--codec", default="PCMU")
    parser.add_argument("--vad", action="store_true")
    parser.add_argument("--recording", action="store_true")
    parser.add_argument("--disturb", choices=DISTURBANCES)
    parser.add_argument("--other-core", type=int, help="where a disturbance that has threads of its own runs")
    parser.add_argument("--whisper", help="model of the disturbance by Whisper")
    with logging_to_stderr(as_json=False, verbose=False):
        asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
