"""The media of many phones: a packet each 20 ms for each call, all on one socket and in one thread.

The far end tells calls apart by its own ports, and so does this. How late packets leave is noted: what this program
adds must not count against what it measures.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np

from connector.audio import FRAME_SECONDS, Samples
from connector.codec.registry import make_codec

RATE = 8000
FRAME = 160
"""Samples, and bytes of PCMU, of a packet."""
LEVEL = 8000
"""Amplitude of the tones, of 32767."""
HEADER = struct.Struct("!BBHII")
PCMU_TYPE = 0
NICE = -5
"""Scheduling priority that the thread asks for: what it measures must not keep it waiting."""
BUFFER = 4 << 20
"""Bytes that the socket's receive buffer asks for."""
LONGEST_WAIT = 0.002
"""Seconds after which newly answered calls are looked for."""


@dataclass(slots=True)
class Media:
    """One call's media. `says`: payloads, one a packet; `heard`: those that came back, where they are kept."""

    target: tuple[str, int]
    says: Sequence[bytes]
    keeps: bool
    sent: int = 0
    received: int = 0
    heard: list[bytes] = field(default_factory=list)


class Phones:
    """`local`: the socket's port, to be offered in SDP. `late`: seconds that each packet left after it was due."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._socket.bind((address, 0))
        self.local: int = self._socket.getsockname()[1]
        self.thread = 0
        self.late: list[float] = []
        self._answered: deque[Media] = deque()
        self._by_port: dict[int, Media] = {}
        self._due: list[tuple[float, int, Media]] = []
        self._calls = 0
        self._stopped = False

    @contextmanager
    def talking(self) -> Iterator[None]:
        """Runs the thread, and closes the socket behind it."""
        thread = threading.Thread(target=self._run, name="phones")
        thread.start()
        try:
            yield
        finally:
            self._stopped = True
            thread.join()
            self._socket.close()

    def begin(self, port: int, says: Sequence[bytes], *, keeps: bool = False) -> Media:
        """A call was answered at `port` of the same address: says `says` to it. From any thread."""
        media = Media((self._address, port), says, keeps)
        self._answered.append(media)
        return media

    def _run(self) -> None:
        self.thread = threading.get_native_id()
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, self.thread, NICE)
        while not self._stopped:
            while self._answered:
                media = self._answered.popleft()
                self._by_port[media.target[1]] = media
                self._calls += 1
                heappush(self._due, (time.monotonic(), self._calls, media))
            self._send()
            wait = LONGEST_WAIT
            if self._due:
                wait = min(wait, max(0.0, self._due[0][0] - time.monotonic()))
            if select.select([self._socket], [], [], wait)[0]:
                self._receive()

    def _send(self) -> None:
        """Sends all that is due."""
        while self._due and self._due[0][0] <= (now := time.monotonic()):
            due, number, media = heappop(self._due)
            self.late.append(now - due)
            sent = media.sent
            header = HEADER.pack(0x80, PCMU_TYPE, sent & 0xFFFF, sent * FRAME & 0xFFFFFFFF, number)
            with suppress(ConnectionRefusedError, BlockingIOError):
                self._socket.sendto(header + media.says[sent], media.target)
            media.sent += 1
            if media.sent < len(media.says):
                heappush(self._due, (due + FRAME_SECONDS, number, media))

    def _receive(self) -> None:
        """Takes what has come, 100 packets at most: sending is more urgent."""
        with suppress(BlockingIOError, ConnectionRefusedError):
            for _ in range(100):
                data, source = self._socket.recvfrom(2048)
                media = self._by_port.get(source[1])
                if media is not None and data[1] & 0x7F == PCMU_TYPE:
                    media.received += 1
                    if media.keeps:
                        media.heard.append(data[HEADER.size :])


# --------------------------------------------------------------------------------------- tones


def frequency(call: int) -> float:
    """The tone of a call, 20 Hz apart from its neighbours."""
    return 400.0 + 20.0 * call


def tone(hertz: float, seconds: float) -> list[bytes]:
    """PCMU payloads of a sine."""
    times = np.arange(round(seconds / FRAME_SECONDS) * FRAME) / RATE
    samples = np.rint(LEVEL * np.sin(2 * np.pi * hertz * times)).astype(np.int16)
    codec = make_codec("PCMU")
    return [codec.encode(frame) for frame in samples.reshape(-1, FRAME)]


def decoded(payloads: Sequence[bytes]) -> Samples:
    """The sound of PCMU payloads, in the order in which they came."""
    codec = make_codec("PCMU")
    return np.concatenate([codec.decode(payload) for payload in payloads]) if payloads else np.empty(0, np.int16)


@dataclass(frozen=True, slots=True)
class Sound:
    """What was heard: `seconds` of loud sound, its strongest frequency, and how much of it lies within 30 Hz of it."""

    seconds: float
    hertz: float
    purity: float

    def is_tone(self, hertz: float, seconds: float) -> bool:
        """Is it the tone of `hertz`, not much shorter or longer than `seconds`?"""
        return abs(self.hertz - hertz) < 5 and self.purity > 0.9 and abs(self.seconds - seconds) < 0.4


def sound(samples: Samples) -> Sound:
    """Analyses the stretch between the first and the last loud sample, less its edges."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > LEVEL // 4)
    if len(loud) == 0 or loud[-1] - loud[0] < 3 * RATE // 10:
        return Sound(0.0, 0.0, 0.0)
    stretch = samples[loud[0] + RATE // 10 : loud[-1] - RATE // 10].astype(np.float64)
    power = np.abs(np.fft.rfft(stretch)) ** 2
    frequencies = np.fft.rfftfreq(len(stretch), 1 / RATE)
    strongest = float(frequencies[np.argmax(power)])
    near = np.abs(frequencies - strongest) < 30
    return Sound(float(loud[-1] - loud[0]) / RATE, strongest, float(power[near].sum() / power.sum()))
