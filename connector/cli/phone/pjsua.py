"""The pjsua2 phone (extra `phone`): a SIP user agent that nobody here wrote, as a `Leg`.

Each call runs in a process of its own (`pjsua_process`); this side turns its events into the seams.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np

from connector.audio import FRAME_SECONDS, Audio, Frame, Samples
from connector.cli.phone.statistics import LineStatistics
from connector.codec.resample import Resampler
from connector.errors import BadRequest, CallFailed, MediaError, PackageMissing
from connector.interfaces import (
    AudioPort,
    AudioTap,
    CallInfo,
    Digit,
    Established,
    Held,
    LegEvent,
    Party,
    Position,
    Resumed,
    SignallingStep,
    Terminated,
    TimingSource,
)
from connector.leg.events import LegEvents

RATE = 8000
FRAME_SAMPLES = int(RATE * FRAME_SECONDS)

AHEAD = 4
"""Frames handed to the process before it needs them: covers the way through two pipes."""


class PjsuaPort:
    """The call's audio: frames go through the pipes, and count as emitted when pjsua2 took them.

    `clear` leaves up to `AHEAD` frames (80 ms) to be heard that are with the process already.
    """

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send
        self._listeners: list[Callable[[Frame], None]] = []
        self._taps: list[AudioTap] = []
        self._heard = self._said = 0.0
        self._generation = 0
        self._stale = False
        self._finished = False
        self._paused = False
        self._emitted = 0.0
        self._resampler: Resampler | None = None
        self._rate = 0
        self._playout: Samples = np.zeros(0, np.int16)
        self._under_way: deque[int] = deque()
        self._waiters: list[tuple[int, asyncio.Future[Position]]] = []

        self.statistics = LineStatistics()

    timing = TimingSource.BRIDGE
    input_delay = FRAME_SECONDS
    output_delay = 0.0

    def listen(self, on_frame: Callable[[Frame], None]) -> None:
        self._listeners.append(on_frame)

    def tap(self, tap: AudioTap) -> None:
        self._taps.append(tap)

    def write(self, generation: int, audio: Audio) -> None:
        if generation < self._generation or (generation == self._generation and self._stale):
            return
        if generation > self._generation:
            self._begin(generation)
        if self._resampler is None or self._rate != audio.rate:
            self._resampler, self._rate = Resampler(audio.rate, RATE), audio.rate
        self._playout = np.concatenate((self._playout, self._resampler.process(audio.samples)))
        self._push()

    def finish(self, generation: int) -> None:
        if generation != self._generation or self._stale or self._finished:
            return
        self._finished = True
        rest = self._resampler.flush() if self._resampler is not None else np.zeros(0, np.int16)
        self._resampler = None
        playout = np.concatenate((self._playout, rest))
        self._playout = np.pad(playout, (0, -len(playout) % FRAME_SAMPLES))
        self._push()
        self._release()

    def pause(self) -> None:
        self._paused = True

    def resume(self, back: float = 0.0) -> None:
        # What PJSIP was given is gone: no word is heard again.
        self._paused = False
        self._push()

    def clear(self) -> Position:
        heard = self.position
        self._playout = np.zeros(0, np.int16)
        self._stale = True
        self._paused = False
        self._release(heard)
        return heard

    @property
    def position(self) -> Position:
        return Position(self._generation, self._emitted)

    async def played(self, generation: int) -> Position:
        if generation < self._generation or (generation == self._generation and (self._stale or self._is_played())):
            return self.position
        future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._waiters.append((generation, future))
        return await future

    def _begin(self, generation: int) -> None:
        self._release(self.position)
        self._generation, self._emitted = generation, 0.0
        self._stale = self._finished = False
        self._playout = np.zeros(0, np.int16)
        self._resampler = None

    def _is_played(self) -> bool:
        return self._finished and not len(self._playout) and self._generation not in self._under_way

    def _release(self, at: Position | None = None) -> None:
        """Wakes those who wait for a generation that is played, cleared or superseded (`at`: where it stopped)."""
        if at is None and not self._is_played():
            return
        position = at or self.position
        for generation, future in self._waiters:
            if generation <= self._generation and not future.done():
                future.set_result(position)
        self._waiters = [waiter for waiter in self._waiters if not waiter[1].done()]

    def _push(self) -> None:
        while not self._paused and len(self._under_way) < AHEAD and len(self._playout) >= FRAME_SAMPLES:
            frame, self._playout = self._playout[:FRAME_SAMPLES], self._playout[FRAME_SAMPLES:]
            self._under_way.append(self._generation)
            self._send("say", pcm=base64.b64encode(frame.astype("<i2").tobytes()).decode())

    # what the process reports

    def said(self, pcm: bytes, at: float) -> None:
        """pjsua2 took a frame to send; empty where it had to make do with silence."""
        samples = np.frombuffer(pcm, "<i2").astype(np.int16) if pcm else np.zeros(FRAME_SAMPLES, np.int16)
        if pcm and self._under_way.popleft() == self._generation:
            self._emitted += FRAME_SECONDS
        frame = Frame(samples, RATE, self._said)
        self._said += FRAME_SECONDS
        for tap in self._taps:
            tap.emitted(frame, at)
        self._push()
        self._release()

    def heard(self, pcm: bytes, at: float) -> None:
        """A frame came out of pjsua2's jitter buffer."""
        frame = Frame(np.frombuffer(pcm, "<i2").astype(np.int16), RATE, self._heard)
        self._heard += FRAME_SECONDS
        for tap in self._taps:
            tap.received(frame, at)
        for listener in self._listeners:
            listener(frame)

    def close(self) -> None:
        """The call is over: nobody waits any more."""
        self._stale = True
        for _, future in self._waiters:
            if not future.done():
                future.set_result(self.position)
        self._waiters.clear()


class PjsuaLeg:
    """One call of the pjsua2 phone."""

    def __init__(self, process: asyncio.subprocess.Process, uri: str, calling: str) -> None:
        self._process = process
        self._uri = uri
        self._calling = calling
        self._call_id = ""
        self._port = PjsuaPort(self._send)
        self._events = LegEvents()
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._media = "active"
        self._media_changed = asyncio.Condition()
        self._over = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name="pjsua2 phone")

    @property
    def info(self) -> CallInfo:
        called = self._uri.partition(":")[2].partition("@")[0]
        return CallInfo(call_id=self._call_id, called=called, calling=self._calling)

    @property
    def audio(self) -> AudioPort:
        return self._port

    @property
    def signalling(self) -> Sequence[SignallingStep]:
        """What PJSIP says on the wire it keeps to itself."""
        return ()

    async def established(self) -> None:
        """Waits for the answer; raises `CallFailed`."""
        await self._answered

    def events(self) -> AsyncIterator[LegEvent]:
        return self._events.read()

    async def ring(self) -> None:
        raise BadRequest("an outgoing call is not answered here")

    async def answer(self) -> None:
        raise BadRequest("an outgoing call is not answered here")

    async def reject(self, status: int, reason: str, retry_after: int | None = None) -> None:
        raise BadRequest("an outgoing call is not rejected here")

    async def hang_up(self, reason: str = "") -> None:
        """BYE or CANCEL; returns when the process has ended. Idempotent."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
        await self._reader

    async def hold(self) -> None:
        await self._renegotiate("hold", "held")

    async def resume(self) -> None:
        await self._renegotiate("resume", "active")

    async def transfer(self, target: str) -> None:
        self._send("transfer", target=target)

    async def send_dtmf(self, digits: str) -> None:
        self._send("dtmf", digits=digits)

    async def _renegotiate(self, verb: str, wanted: str) -> None:
        """A re-INVITE; returns when its answer was applied."""
        self._send(verb)
        try:
            async with asyncio.timeout(10), self._media_changed:
                await self._media_changed.wait_for(lambda: self._media == wanted)
        except TimeoutError as error:
            raise CallFailed(408, f"no answer to the re-INVITE ({verb})") from error

    def _send(self, do: str, **fields: object) -> None:
        stdin = self._process.stdin
        if stdin is not None and not stdin.is_closing() and not self._over.is_set():
            stdin.write((json.dumps({"do": do, **fields}) + "\n").encode())

    def dial(self, address: str, username: str | None, password: str | None) -> None:
        self._send("dial", uri=self._uri, address=address, calling=self._calling, username=username, password=password)

    async def _read(self) -> None:
        """Serves the process's events until it ends."""
        while self._process.stdout is not None and (line := await self._process.stdout.readline()):
            await self._handle(**json.loads(line))
        await self._process.wait()
        if not self._over.is_set():
            await self._handle("ended", status=None, reason="the phone's process died", here=False)

    async def _handle(self, event: str, **fields: Any) -> None:
        match event:
            case "said":
                self._port.said(base64.b64decode(fields["pcm"]), fields["at"])
            case "heard":
                self._port.heard(base64.b64decode(fields["pcm"]), fields["at"])
            case "answered":
                self._call_id = fields["call_id"]
                self._events.emit(Established())
                if not self._answered.done():
                    self._answered.set_result(None)
            case "statistics":
                self._port.statistics = LineStatistics(**fields)
            case "digit":
                self._events.emit(Digit(fields["digit"], fields["seconds"]))
            case "media":
                await self._apply(fields["state"])
            case "ended":
                self._end(fields["status"], fields["reason"], fields["here"])
            case "error" if not self._answered.done():
                self._answered.set_exception(CallFailed(400, fields["reason"]))

    async def _apply(self, state: str) -> None:
        before = self._media
        async with self._media_changed:
            self._media = state
            self._media_changed.notify_all()
        if state == "on-hold" and before != "on-hold":
            self._events.emit(Held())
        elif state == "active" and before == "on-hold":
            self._events.emit(Resumed())

    def _end(self, status: int | None, reason: str, here: bool) -> None:
        self._over.set()
        self._port.close()
        if not self._answered.done():
            self._answered.set_exception(CallFailed(status or 500, reason))
        # As on every leg, our own side is the agent and the far end the caller, whoever dialled.
        party = Party.SYSTEM if status is None else Party.AGENT if here else Party.CALLER
        self._events.emit(Terminated(party, reason, status))


class PjsuaPhone:
    """Dials with pjsua2, a process per call. `address`: the local address to call from."""

    program: Sequence[str] = ("-m", "connector.cli.phone.pjsua_process")
    """What Python runs in each process."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        if importlib.util.find_spec("pjsua2") is None:
            raise PackageMissing("pjsua2", "not installed: pip install 'voxtrunk[phone]' (up to Python 3.12)")
        self._address = address
        self._spare: asyncio.subprocess.Process | None = None
        self._legs: list[PjsuaLeg] = []

    async def start(self) -> None:
        """Makes a process ready, so that the first call's set-up time is the call's alone. Raises `MediaError`."""
        self._spare = await self._process()

    async def dial(
        self, uri: str, *, calling: str = "voxtrunk", username: str | None = None, password: str | None = None
    ) -> PjsuaLeg:
        """Calls `uri`; returns once it was answered. Raises `CallFailed`; cancelling sends CANCEL."""
        process, self._spare = self._spare or await self._process(), None
        leg = PjsuaLeg(process, uri, calling)
        self._legs.append(leg)
        leg.dial(self._address, username, password)
        try:
            await leg.established()
        except BaseException:
            await leg.hang_up()
            raise
        return leg

    async def aclose(self) -> None:
        """Hangs up what is still up."""
        for leg in self._legs:
            await leg.hang_up()
        self._legs.clear()
        if self._spare is not None and self._spare.stdin is not None:
            self._spare.stdin.close()
            await self._spare.wait()
            self._spare = None

    async def _process(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            *self.program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        if process.stdout is None or not await process.stdout.readline():
            raise MediaError(f"the pjsua2 phone's process ended at once, with status {await process.wait()}")
        return process
