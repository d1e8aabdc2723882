"""A caller on a call leg: says things over a low line noise, listens, and measures what he hears.

Everything is measured on the packets of the caller's own side, by energy, as a recording of the
line would show it; no event of the agent's is believed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import numpy as np

from connector.audio import FRAME_SECONDS, Audio, Frame, Samples
from connector.interfaces import AudioPort, Clock, Leg, LegEvent, Party, Terminated

RATE = 8000
"""Hz, of all that a caller says: the rate of a telephone line."""

AUDIBLE_DBFS = -45.0
"""A stretch at or above this level is heard; line noise is far below, speech far above."""

SPEECH_DBFS = -20.0
"""Level of the caller's active speech (ITU-T P.56 has -26 dBov nominal; people on telephones are louder)."""

NOISE_DBFS = -66.0
"""Level of the line noise: a line is never digital silence."""

HOP_SECONDS = 0.005
"""Resolution of the ear."""

GAP_SECONDS = 0.25
"""A shorter silence lies within speech."""

LEAD_SECONDS = 0.08
"""What the mouth keeps ahead of the port's emission."""


class CallOver(Exception):
    """The call ended while the caller waited; `how` says how."""

    def __init__(self, how: Terminated) -> None:
        super().__init__(f"the call ended, by {who_ended(how)}: {how.reason}")
        self.how = how


def who_ended(how: Terminated) -> str:
    """`us`, `the far end` or `the system`: on a leg the far end is the caller, whoever dialled."""
    return {Party.AGENT: "us", Party.CALLER: "the far end", Party.SYSTEM: "the system"}[how.by]


# ------------------------------------------------------------------------------------------- ear


@dataclass(frozen=True, slots=True)
class Spurt:
    """A stretch of audible sound, silences below `GAP_SECONDS` included. Times on the clock, in seconds."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Ear:
    """Finds spurts in a stream of frames by their energy. Pure."""

    def __init__(self) -> None:
        self.spurts: list[Spurt] = []
        """In order; the last one may still grow."""
        self.now = 0.0
        """The end of what has been heard."""

    def hear(self, samples: Samples, rate: int, start: float) -> None:
        """Takes the frame whose first sample sounds at clock time `start`."""
        hop = int(rate * HOP_SECONDS)
        energy = np.square(samples[: len(samples) // hop * hop].reshape(-1, hop).astype(np.float64)).mean(axis=1)
        for index in np.flatnonzero(energy >= (32768 * 10 ** (AUDIBLE_DBFS / 20)) ** 2):
            self._audible(start + float(index) * HOP_SECONDS)
        self.now = start + len(samples) / rate

    def _audible(self, start: float) -> None:
        if self.spurts and start - self.spurts[-1].end < GAP_SECONDS:
            self.spurts[-1] = replace(self.spurts[-1], end=start + HOP_SECONDS)
        else:
            self.spurts.append(Spurt(start, start + HOP_SECONDS))

    @property
    def quiet_since(self) -> float | None:
        """When the last audible sound ended; None before the first."""
        return self.spurts[-1].end if self.spurts else None

    def begun_after(self, time: float) -> Spurt | None:
        """The first spurt that began after `time`."""
        return next((spurt for spurt in self.spurts if spurt.start > time), None)

    def at(self, time: float) -> Spurt | None:
        """The spurt that sounds at `time`."""
        return next((spurt for spurt in self.spurts if spurt.start <= time <= spurt.end), None)


# ----------------------------------------------------------------------------------------- mouth


def at_speech_level(speech: Samples) -> Samples:
    """`speech` (8 kHz) with its active parts at `SPEECH_DBFS`."""
    hop = int(RATE * HOP_SECONDS)
    energy = np.square(speech[: len(speech) // hop * hop].reshape(-1, hop).astype(np.float64)).mean(axis=1)
    active = energy[energy > energy.max(initial=0.0) * 0.01]
    if not len(active):
        return speech
    gain = 32768 * 10 ** (SPEECH_DBFS / 20) / np.sqrt(active.mean())
    levelled: Samples = np.clip(speech * gain, -32768, 32767).astype(np.int16)
    return levelled


def line_noise(count: int, generator: np.random.Generator) -> Samples:
    """`count` samples of white noise at `NOISE_DBFS`."""
    noise = generator.standard_normal(count) * 32768 * 10 ** (NOISE_DBFS / 20)
    return np.clip(noise, -32768, 32767).astype(np.int16)


class Mouth:
    """Keeps a port's playout fed: with what is to be said, else with line noise."""

    def __init__(self, port: AudioPort) -> None:
        self._port = port
        self._generator = np.random.default_rng(8000)
        self._waiting: deque[Samples] = deque()
        self._written = 0.0
        self._utterances: deque[tuple[float, asyncio.Future[None]]] = deque()

    def feed(self) -> None:
        """Tops up the playout; called whenever a frame was emitted."""
        emitted = self._port.position.seconds
        while self._utterances and emitted >= self._utterances[0][0] - FRAME_SECONDS / 2:
            _, done = self._utterances.popleft()
            if not done.done():
                done.set_result(None)
        while self._written - emitted < LEAD_SECONDS:
            frame = self._waiting.popleft() if self._waiting else np.zeros(int(RATE * FRAME_SECONDS), np.int16)
            noise = line_noise(len(frame), self._generator)
            mixed = np.clip(frame.astype(np.int32) + noise, -32768, 32767).astype(np.int16)
            self._port.write(1, Audio(mixed, RATE))
            self._written += FRAME_SECONDS

    def add(self, speech: Samples) -> None:
        """Says `speech` (8 kHz) after what is being said."""
        size = int(RATE * FRAME_SECONDS)
        self._waiting.extend(np.pad(speech, (0, -len(speech) % size)).reshape(-1, size))

    async def say(self, speech: Samples) -> None:
        """As `add`; returns when the last sample was emitted."""
        self.add(speech)
        end = self._written + len(self._waiting) * FRAME_SECONDS
        done = asyncio.get_running_loop().create_future()
        self._utterances.append((end, done))
        try:
            await done
        finally:
            if done.cancelled():
                self._waiting.clear()


# ---------------------------------------------------------------------------------------- caller


class Caller(AbstractAsyncContextManager["Caller"]):
    """Somebody on the phone. A context manager: leaving it hangs up.

    `on_event` sees what the leg reports, `Terminated` included.
    """

    def __init__(self, leg: Leg, clock: Clock, on_event: Callable[[LegEvent], None] = lambda event: None) -> None:
        self._leg = leg
        self._clock = clock
        self._on_event = on_event
        self.said = Ear()
        """The caller's own spurts, as they were emitted: a packet's last sample is spoken when it leaves."""
        self.heard = Ear()
        """The agent's spurts, as they arrived: a packet's first sample is heard when it is there."""
        self.ended: Terminated | None = None
        self._mouth = Mouth(leg.audio)
        self._news = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    # AudioTap

    def received(self, frame: Frame, at: float) -> None:
        """The agent's `frame`."""
        self.heard.hear(frame.samples, frame.rate, at)
        self._news.set()

    def emitted(self, frame: Frame, at: float) -> None:
        """Our `frame`."""
        self.said.hear(frame.samples, frame.rate, at - len(frame.samples) / frame.rate)
        self._mouth.feed()
        self._news.set()

    # life

    async def __aenter__(self) -> Self:
        self._leg.audio.tap(self)
        self._mouth.feed()
        self._reader = asyncio.create_task(self._read(), name="caller: events of the leg")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leg.hang_up()
        if self._reader is not None:
            await self._reader

    async def _read(self) -> None:
        async for event in self._leg.events():
            if isinstance(event, Terminated):
                self.ended = event
            self._on_event(event)
            self._news.set()

    # what a caller does

    async def say(self, speech: Samples) -> Spurt:
        """Says `speech` (8 kHz, any level) and returns when it sounded on the line. Raises `CallOver`."""
        before = self.said.now
        saying = asyncio.ensure_future(self._mouth.say(at_speech_level(speech)))
        try:
            await self._until(saying.done, None)
        finally:
            saying.cancel()
        spurts = [spurt for spurt in self.said.spurts if spurt.end > before]
        return Spurt(spurts[0].start, spurts[-1].end) if spurts else Spurt(before, self.said.now)

    def speak(self, speech: Samples) -> None:
        """Says `speech` (8 kHz) as it is, and does not wait: a live microphone."""
        self._mouth.add(speech)

    async def wait_for_speech(self, within: float, after: float | None = None) -> Spurt | None:
        """Waits until the agent begins to speak after `after` (default: now); None where he does not in time.

        Raises `CallOver`.
        """
        since = self._clock.now() if after is None else after
        await self._until(lambda: self.heard.begun_after(since) is not None, within)
        return self.heard.begun_after(since)

    async def wait_for_silence(self, seconds: float, within: float) -> bool:
        """Waits until the agent has been quiet for `seconds`, what came before included. Raises `CallOver`."""

        def quiet() -> bool:
            since = self.heard.quiet_since
            return self.heard.now - (since if since is not None else began) >= seconds

        began = self._clock.now()
        return await self._until(quiet, within)

    async def wait_for_end(self, within: float | None = None) -> bool:
        """Waits until the call ends; True where it was the far end that hung up."""
        try:
            await self._until(lambda: False, within)
        except CallOver as over:
            return over.how.by is Party.CALLER
        return False

    async def pause(self, seconds: float) -> None:
        """Says nothing for a while. Raises `CallOver`."""
        await self._until(lambda: False, seconds)

    async def _until(self, condition: Callable[[], bool], within: float | None) -> bool:
        """Waits for `condition`, looked at whenever something was heard or happened."""
        try:
            async with asyncio.timeout(within):
                while not condition():
                    if self.ended is not None:
                        raise CallOver(self.ended)
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return condition()
        return True

    # what a caller measures

    def answer_delay(self, said: Spurt) -> float | None:
        """Voice to voice: from the end of `said` to the first sound of the agent's answer, in seconds."""
        answer = self.heard.begun_after(said.end)
        return answer.start - said.end if answer is not None else None

    def stop_delay(self, said: Spurt) -> float | None:
        """Barge-in: from the start of `said` to the agent's last sound; None where he was silent then."""
        spoken_over = self.heard.at(said.start)
        return spoken_over.end - said.start if spoken_over is not None else None
