"""The way of our speech: resample → playout → encode → packetizer → packet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from connector.audio import FRAME_SECONDS, Samples
from connector.codec.registry import Codec
from connector.errors import MediaError
from connector.rtp.session import RtpSession
from connector.rtp.telephone_event import EventSender
from connector.sender.packetizer import Packetizer
from connector.sender.playout import Playout


class Emission(NamedTuple):
    """One frame that leaves: its packet, and the samples that it carries (silence where it carries a key)."""

    packet: bytes
    samples: Samples


class SendPath:
    """Speech in at any time, one packet out per `pull`.

    `playout` takes the speech. A key displaces audio and the speech waits for it, so none is lost.
    """

    def __init__(
        self,
        session: RtpSession,
        codec: Codec,
        payload_type: int,
        telephone_event: int | None,
        event_rate: int | None = None,
    ) -> None:
        self.packetizer = Packetizer(session)
        self.playout = Playout(codec.rate)
        self._events = EventSender(codec.clock_rate)
        self._clock_rate = codec.clock_rate
        self.configure(codec, payload_type, telephone_event, event_rate)

    def __str__(self) -> str:
        return f"{self.playout} → {self.codec} → {self.packetizer}"

    def configure(
        self, codec: Codec, payload_type: int, telephone_event: int | None, event_rate: int | None = None
    ) -> None:
        """What to send from now on; playout goes on where it was, whatever the codec's rate.

        `event_rate`: clock of the telephone-events, Hz, where it is not the codec's. Sequence and timestamps go on,
        but a new clock rate begins a new stream (RFC 7160 section 4.1).
        """
        if codec.clock_rate != self._clock_rate:
            self.packetizer.restart()
        self.codec = codec
        self._payload_type = payload_type
        self._telephone_event = telephone_event
        self._clock_rate = codec.clock_rate
        self._events.clock_rate = event_rate or codec.clock_rate
        self.playout.rate = self.rate = codec.rate
        self._frame_samples = round(codec.rate * FRAME_SECONDS)
        self._duration = round(codec.clock_rate * FRAME_SECONDS)
        self.silence = np.zeros(self._frame_samples, np.int16)
        """A frame of silence."""
        self.silence.flags.writeable = False
        self._silent_payload = codec.encode(self.silence) if codec.memoryless else None

    def send_dtmf(self, digits: str) -> None:
        """Queues keys; raises `MediaError` where one is none, or where telephone-events were not negotiated."""
        if self._telephone_event is None:
            raise MediaError("the far end did not negotiate telephone-events (RFC 4733)")
        self._events.queue(digits)

    def pull(self) -> Emission:
        """The next frame."""
        if self._telephone_event is not None:
            key = self._events.next()
            if key is not None:
                offset = key.offset * self._clock_rate // self._events.clock_rate
                packet = self.packetizer.event(self._telephone_event, key.payload, offset, key.marker, self._duration)
                return Emission(packet, self.silence)
        samples = self.playout.pull(self._frame_samples)
        if samples is None:
            samples = self.silence
            payload = self._silent_payload or self.codec.encode(samples)
        else:
            payload = self.codec.encode(samples)
        return Emission(self.packetizer.audio(self._payload_type, payload, self._duration), samples)

    def skip(self, frames: int) -> None:
        """Time passes in which nothing is sent."""
        self.packetizer.skip(frames * self._duration)
