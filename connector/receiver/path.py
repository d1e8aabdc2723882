"""The way of the far end's audio: packet → session → jitter buffer → decode → concealment → frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from connector.audio import FRAME_SECONDS, Frame
from connector.codec.fifo import SampleFifo
from connector.codec.registry import Codec
from connector.interfaces import Digit
from connector.receiver.concealment import Concealment
from connector.receiver.jitter_buffer import Buffered, JitterBuffer
from connector.rtp.packet import RtpPacket
from connector.rtp.session import PayloadKind, RtpSession
from connector.rtp.telephone_event import EventReceiver, TelephoneEvent

QUIET = 200
"""A frame whose samples stay below this (-44 dBFS) may be skipped unheard."""
SMOOTHING = 1 / 16
"""Weight of a new value in the smoothed delay."""


class Received(NamedTuple):
    """A frame to deliver; its last packet arrived at `at`, or would have."""

    frame: Frame
    at: float


@dataclass(slots=True)
class ReceiveCounts:
    """What the path itself counts: `frames` delivered, of which `concealed` were partly or wholly made up."""

    frames: int = 0
    concealed: int = 0


class ReceivePath:
    """Packets in at any time, one frame out per `pull`; silence until the first packet comes."""

    def __init__(self, session: RtpSession, codec: Codec) -> None:
        self._session = session
        self._fifo = SampleFifo()
        self._arrival: float | None = None
        self.jitter_buffer = JitterBuffer(codec.clock_rate)
        self.counts = ReceiveCounts()
        self.delay = 0.0
        """Seconds from a packet's arrival to its frame's delivery, smoothed."""
        self.codec = codec

    def __str__(self) -> str:
        return f"{self._session} → {self.jitter_buffer} → {self._codec} → {self._concealment} → frames"

    @property
    def codec(self) -> Codec:
        """What decodes; setting it begins a new stream."""
        return self._codec

    @codec.setter
    def codec(self, codec: Codec) -> None:
        self._codec = codec
        self._frame_samples = round(codec.rate * FRAME_SECONDS)
        self._concealment = Concealment(codec.rate)
        self._events = EventReceiver(codec.clock_rate)
        self._fifo.clear()
        self.jitter_buffer.restart()

    def push(self, packet: RtpPacket, arrival: float) -> list[Digit]:
        """Takes a packet that arrived at clock time `arrival`; returns the keys whose press it ends.

        Raises `RtpError` where its payload cannot be read.
        """
        sorted_in = self._session.receive(packet, arrival)
        if sorted_in is None:
            return []
        digits: list[Digit] = []
        kind, sequence, timestamp, restarted = sorted_in
        if restarted:
            digits += self._events.restart()
            self.jitter_buffer.restart()
        if kind is PayloadKind.AUDIO:
            payload = packet.payload
            self.jitter_buffer.push(Buffered(sequence, timestamp, self._codec.duration(payload), payload, arrival))
        elif kind is PayloadKind.EVENT:
            digits += self._events.receive(timestamp, TelephoneEvent.parse(packet.payload))
        # Comfort noise needs nothing: the sender's silence is filled as every gap is.
        return digits

    def pull(self, now: float) -> Received:
        """The next frame, for delivery at clock time `now`."""
        concealed = False
        arrival = None
        while len(self._fifo) < self._frame_samples:
            item = self.jitter_buffer.pop()
            if isinstance(item, int):
                concealed = True
                self._fifo.append(self._concealment.conceal(item * self._codec.rate // self._codec.clock_rate))
                continue
            samples = self._codec.decode(item.payload)
            if self.jitter_buffer.excessive and samples.max() < QUIET and samples.min() > -QUIET:
                self.jitter_buffer.shorten()
                continue
            arrival = item.arrival
            self._fifo.append(self._concealment.good(samples))
        time = self.counts.frames * FRAME_SECONDS
        frame = Frame(self._fifo.take(self._frame_samples), self._codec.rate, time, concealed)
        self.counts.frames += 1
        self.counts.concealed += concealed
        return Received(frame, self._arrived(arrival, concealed, now))

    def tick(self) -> list[Digit]:
        """To be called once per frame: the keys whose end was lost."""
        return self._events.tick()

    def _arrived(self, arrival: float | None, concealed: bool, now: float) -> float:
        """When the frame's last packet arrived; for a concealed one, when it would have."""
        if arrival is not None:
            self.delay += (now - arrival - self.delay) * (SMOOTHING if self._arrival is not None else 1)
        elif self._arrival is None:
            return now
        else:
            # The rest of a longer packet came with it; what never came would have come a frame later.
            arrival = min(now, self._arrival + FRAME_SECONDS) if concealed else self._arrival
        self._arrival = arrival
        return arrival
