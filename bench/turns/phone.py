"""The caller's telephone: an absolute 20 ms clock, and the time of everything that comes back."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bench.turns.clips import FRAME, RATE, Clip, Part, Speaker
from bench.turns.echo import EchoPath
from connector.audio import FRAME_SECONDS, Samples
from connector.codec.g711 import MuLaw

AUDIBLE_DBFS = -45.0
"""A frame above it is audio."""

PACKETS = 64
"""Read at a time."""

now = time.monotonic


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet of the agent's. `at`: when it was read; `hertz`: of the tone that it carries, 0 for none."""

    at: float
    seconds: float
    loud: bool
    hertz: int


class Received:
    """What came from the agent, and how far a far end with a playout buffer has played it."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.cleared: list[float] = []
        """When the agent had the buffer emptied."""
        self.loud_until = 0.0
        """When the last sound received so far has been played."""
        self.played_at = 0.0
        """When all that was received so far has been played."""
        self.on_audio: Callable[[Samples], None] = _unheard
        self._codec = MuLaw()

    def take(self, payload: bytes) -> None:
        """A packet of PCMU has come."""
        at, samples = now(), self._codec.decode(payload)
        self.on_audio(samples)
        loud, hertz = False, 0
        for start in range(0, len(samples), FRAME):
            frame = samples[start : start + FRAME]
            if _level(frame) > AUDIBLE_DBFS:
                loud, hertz = True, hertz or tone_of(frame)
        seconds = len(samples) / RATE
        self.packets.append(Packet(at, seconds, loud, hertz))
        self.played_at = max(self.played_at, at) + seconds
        if loud:
            self.loud_until = self.played_at

    def clear(self) -> None:
        """The agent wants nothing played of what waits."""
        at = now()
        self.cleared.append(at)
        self.played_at = min(self.played_at, at)
        self.loud_until = min(self.loud_until, at)


def _unheard(samples: Samples) -> None:
    """Nobody listens."""


class Line(Protocol):
    """A call's media, both ways: PCMU."""

    received: Received

    async def send(self, payload: bytes) -> None:
        """Sends 20 ms."""

    async def close(self) -> None:
        """Hangs up."""


class Rtp:
    """Symmetric RTP with one peer: PCMU, 20 ms, no signalling."""

    def __init__(self, host: str, port: int) -> None:
        self.received = Received()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect((host, port))
        self._sequence, self._timestamp = random.getrandbits(15), random.getrandbits(31)
        self._ssrc = random.getrandbits(32)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    async def send(self, payload: bytes) -> None:
        header = struct.pack("!BBHII", 0x80, 0, self._sequence & 0xFFFF, self._timestamp & 0xFFFFFFFF, self._ssrc)
        self._sequence += 1
        self._timestamp += FRAME
        self._socket.send(header + payload)

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(PACKETS):
            try:
                data = self._socket.recv(4096)
            except BlockingIOError:
                return
            if len(data) > 12 and data[0] == 0x80 and data[1] & 0x7F == 0:
                self.received.take(data[12:])


def _level(frame: Samples) -> float:
    """dBFS."""
    return float(10 * np.log10(np.mean((frame / 32768.0) ** 2) + 1e-12))


def tone_of(frame: Samples) -> int:
    """Frequency (a multiple of 50 Hz) that holds most of a frame's energy, else 0."""
    power = np.abs(np.fft.rfft(frame / 32768.0, FRAME)) ** 2
    loudest = int(power[1:].argmax()) + 1
    near = power[max(0, loudest - 1) : loudest + 2].sum()
    return loudest * 50 if near > 0.7 * power.sum() else 0


class Caller:
    """Says clips, and noise in between.

    Sample s of frame k is spoken at the frame's departure - 20 ms + s / 8000: a telephone sends a frame once
    it has its last sample. `on_part(part, start)` is awaited when words begin, their start in clock time.
    """

    def __init__(self, line: Line, speaker: Speaker, on_part: Callable[[Part, float], Awaitable[None]]) -> None:
        self.received = line.received
        self.late: list[float] = []
        """How late each frame left, seconds."""
        self._line = line
        self._on_part = on_part
        self._silence = speaker.silence()
        self._codec = MuLaw()
        self._saying: _Saying | None = None
        self._echo: EchoPath | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def packets(self) -> Sequence[Packet]:
        """All that came so far."""
        return self.received.packets

    def hear_itself(self, echo: EchoPath | None) -> None:
        """The agent's voice comes back over `echo` from now on."""
        self._echo = echo
        self.received.on_audio = _unheard if echo is None else echo.play

    async def run(self) -> None:
        """Keeps the line alive until cancelled."""
        begun, frame = now(), 0
        while True:
            frame += 1
            due = begun + frame * FRAME_SECONDS
            await asyncio.sleep(max(0.0, due - now()))
            departure = now()
            self.late.append(departure - due)
            payload = (
                self._silence[frame % len(self._silence)]
                if self._saying is None
                else self._go_on(self._saying, departure)
            )
            await self._line.send(payload if self._echo is None else self._with(self._echo, payload))

    def _with(self, echo: EchoPath, payload: bytes) -> bytes:
        mixed = np.clip(self._codec.decode(payload) + echo.frame(), -32768, 32767)
        return self._codec.encode(mixed.astype(np.int16))

    def _go_on(self, saying: _Saying, departure: float) -> bytes:
        index, saying.next = saying.next, saying.next + 1
        first = index * FRAME_SECONDS
        for part in saying.clip.parts:
            for instants, at in ((saying.starts, part.start), (saying.ends, part.end)):
                if first <= at < first + FRAME_SECONDS:
                    instants.append(departure - FRAME_SECONDS + at - first)
                    if instants is saying.starts and part.text:
                        task = asyncio.create_task(self._tell(part, instants[-1]))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
        if saying.next == len(saying.clip.frames):
            self._saying = None
            saying.done.set()
        return saying.clip.frames[index]

    async def _tell(self, part: Part, start: float) -> None:
        await self._on_part(part, start)

    async def say(self, clip: Clip) -> Said:
        """Says `clip`; returns when its sound truly began and ended, in clock time."""
        saying = self._saying = _Saying(clip)
        await saying.done.wait()
        return Said(saying.starts[0], saying.ends[-1])

    async def wait_agent(self, seconds: float) -> float | None:
        """When the agent is next heard, or None after `seconds` of silence."""
        since, known = now(), len(self.packets)
        while now() - since < seconds:
            heard = next((packet.at for packet in self.packets[known:] if packet.loud), None)
            if heard is not None:
                return heard
            await asyncio.sleep(0.004)
        return None

    async def wait_quiet(self, quiet: float, seconds: float) -> None:
        """Waits until the agent has been quiet for `quiet` seconds, at most `seconds`."""
        since = now()
        while now() - since < seconds:
            left = max(self.received.loud_until, since) + quiet - now()
            if left < 0:
                return
            await asyncio.sleep(left + 0.001)


class _Saying:
    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.next = 0
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.done = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Said:
    """When a clip's sound truly began and ended, clock time."""

    start: float
    end: float
