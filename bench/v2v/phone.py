"""The caller's telephone: an absolute 20 ms clock, plain RTP, and the time of everything that comes back."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from bench.v2v.clips import FRAME, RATE, Clip, Part, noise_frames
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


class Rtp:
    """Symmetric RTP with one peer: PCMU, 20 ms, no signalling."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect(("127.0.0.1", port))
        self._sequence, self._timestamp = random.getrandbits(15), random.getrandbits(31)
        self._ssrc = random.getrandbits(32)
        self._codec = MuLaw()
        self.packets: list[Packet] = []
        self.loud_until = 0.0
        """When what was received so far has been played by a far end with a playout buffer."""
        self.last_loud = 0.0
        self._play_end = 0.0
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def send(self, payload: bytes) -> None:
        header = struct.pack("!BBHII", 0x80, 0, self._sequence & 0xFFFF, self._timestamp & 0xFFFFFFFF, self._ssrc)
        self._sequence += 1
        self._timestamp += FRAME
        self._socket.send(header + payload)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(PACKETS):
            try:
                data = self._socket.recv(4096)
            except BlockingIOError:
                return
            if len(data) > 12 and data[0] == 0x80 and data[1] & 0x7F == 0:
                self._take(data[12:], now())

    def _take(self, payload: bytes, at: float) -> None:
        samples = self._codec.decode(payload)
        loud, hertz = False, 0
        for start in range(0, len(samples), FRAME):
            frame = samples[start : start + FRAME]
            if _level(frame) > AUDIBLE_DBFS:
                loud, hertz = True, hertz or tone_of(frame)
        seconds = len(samples) / RATE
        self.packets.append(Packet(at, seconds, loud, hertz))
        self._play_end = max(self._play_end, at) + seconds
        if loud:
            self.last_loud = at
            self.loud_until = self._play_end


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
    it has its last sample. `on_part(part, start)` is awaited when a part begins, its start in clock time.
    """

    def __init__(self, rtp: Rtp, on_part: Callable[[Part, float], Awaitable[None]]) -> None:
        self.rtp = rtp
        self.late: list[float] = []
        """How late each frame left, seconds."""
        self._on_part = on_part
        self._noise = noise_frames()
        self._saying: _Saying | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Keeps the line alive until cancelled."""
        begun, frame = now(), 0
        while True:
            frame += 1
            due = begun + frame * FRAME_SECONDS
            await asyncio.sleep(max(0.0, due - now()))
            departure = now()
            self.late.append(departure - due)
            if self._saying is None:
                self.rtp.send(self._noise[frame % len(self._noise)])
            else:
                self._go_on(self._saying, departure)

    def _go_on(self, saying: _Saying, departure: float) -> None:
        index, saying.next = saying.next, saying.next + 1
        self.rtp.send(saying.clip.frames[index])
        first = index * FRAME_SECONDS
        for part in saying.clip.parts:
            for instants, at in ((saying.starts, part.start), (saying.ends, part.end)):
                if first <= at < first + FRAME_SECONDS:
                    instants.append(departure - FRAME_SECONDS + at - first)
                    if instants is saying.starts:
                        task = asyncio.create_task(self._tell(part, instants[-1]))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
        if saying.next == len(saying.clip.frames):
            self._saying = None
            saying.done.set()

    async def _tell(self, part: Part, start: float) -> None:
        await self._on_part(part, start)

    async def say(self, clip: Clip) -> Said:
        """Says `clip`; returns when its speech truly began and ended, in clock time."""
        saying = self._saying = _Saying(clip)
        await saying.done.wait()
        return Said(saying.starts[0], saying.ends[-1])

    async def wait_agent(self, seconds: float) -> float | None:
        """When the agent is next heard, or None after `seconds` of silence."""
        since, known = now(), len(self.rtp.packets)
        while now() - since < seconds:
            heard = next((packet.at for packet in self.rtp.packets[known:] if packet.loud), None)
            if heard is not None:
                return heard
            await asyncio.sleep(0.004)
        return None

    async def wait_quiet(self, quiet: float, seconds: float) -> None:
        """Waits until the agent has been quiet for `quiet` seconds, at most `seconds`."""
        since = now()
        while now() - since < seconds:
            left = max(self.rtp.loud_until, since) + quiet - now()
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
    """When a clip's speech truly began and ended, clock time."""

    start: float
    end: float
