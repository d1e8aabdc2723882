"""The way of the far end's audio: packet → session → jitter buffer → decode → concealment → frame."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from connector.audio import FRAME_SECONDS, Frame, Samples
from connector.codec.fifo import SampleFifo
from connector.codec.registry import Codec, Redundant
from connector.errors import RtpError
from connector.interfaces import Digit
from connector.receiver.comfort_noise import comfort_noise
from connector.receiver.concealment import Concealment
from connector.receiver.jitter_buffer import LIMIT_SECONDS, Buffered, JitterBuffer
from connector.receiver.time_scale import OVERLAP_SECONDS, join
from connector.rtp.packet import RtpPacket
from connector.rtp.session import PayloadKind, RtpSession
from connector.rtp.telephone_event import EventReceiver, TelephoneEvent

SMOOTHING = 1 / 16
"""Weight of a new value in the smoothed delay."""
HISTORY_FRAMES = 3
"""Frames kept for concealment and for making audio longer: 60 ms."""
CHOICE_SECONDS = 0.006
"""An adjustment may be so much coarser than was asked for, to find a place where it is not heard."""
STEP_SECONDS = 0.02
"""The most that one adjustment changes, beside the choice."""
PATIENCE, URGENCY = (1.9, 500), (0.9, 25)
"""How alike both sides of a joint must be at first, and pulls after which any joint will do: 10 s; 0.5 s where packets
are going to be late. Above 1, only a pause of speech will do."""
LEFTOVER_SECONDS = 0.03
"""So much delay more than is needed, an outage's leftover, is felt in every answer ..."""
HASTE = (0.9, 8)
"""... and made up for as fast as speech can be hurried: by a step each quarter of a second."""
TRY_PULLS = 5
"""Between two looks for such a joint, unless packets are going to be late: a look costs as much as eight frames."""
PAUSE_PULLS = 5
"""Between two adjustments in the same direction: 100 ms."""


class Received(NamedTuple):
    """A frame to deliver; its last packet arrived at `at`, or would have."""

    frame: Frame
    at: float


@dataclass(slots=True)
class ReceiveCounts:
    """What the path itself counts.

    `frames` delivered, of which `concealed` ones were partly or wholly made up because packets were lost or late, and
    `silent` ones because the far end sent nothing: before its first packet, in suppressed silence, on hold.
    `adjusted`: times that audio was made longer or shorter to follow the line. (How many packets were missed, and in
    how many bursts, the jitter buffer counts.)
    """

    frames: int = 0
    concealed: int = 0
    silent: int = 0
    adjusted: int = 0


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
        self.event_rate: int | None = None
        """Clock that durations of telephone-events count, Hz, where it is not the codec's."""
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
        self._redundant = codec if isinstance(codec, Redundant) else None
        self._rate = codec.rate
        self._clock_rate = codec.clock_rate
        self._frame_samples = round(codec.rate * FRAME_SECONDS)
        self._concealment = Concealment(codec.rate)
        self._concealment.fade()  # silence, until the first packet comes
        self._history: deque[Samples] = deque(maxlen=HISTORY_FRAMES)
        self._events = EventReceiver(codec.clock_rate)
        self._noise: Samples | None = None
        self._noise_at = 0
        self._unexplained = 0
        self._made_up = 0
        self._tries = 0
        self._fifo.clear()
        self.jitter_buffer.held = 0
        self._session.clock_rate = codec.clock_rate
        self.jitter_buffer.restart(codec.clock_rate)

    # ------------------------------------------------------------------------------- in

    def push(self, packet: RtpPacket, arrival: float) -> list[Digit] | None:
        """Takes a packet that arrived at clock time `arrival`; returns the keys whose press it ends, if any.

        Raises `RtpError` where its payload cannot be read.
        """
        sorted_in = self._session.receive(packet, arrival)
        if sorted_in is None:
            return None
        kind, sequence, timestamp, restarted = sorted_in
        digits = self._restart() if restarted else None
        payload = packet.payload
        if kind is PayloadKind.AUDIO:
            duration = self._codec.duration(payload)
            if not duration:
                raise RtpError("an RTP packet without audio")
            self.jitter_buffer.push(Buffered(sequence, timestamp, duration, payload, arrival))
        elif kind is PayloadKind.EVENT:
            self.jitter_buffer.other(sequence)
            digits = digits or []
            for event in TelephoneEvent.parse_all(payload):
                if self.event_rate is not None:  # its timestamp is the stream's in any case
                    event = event._replace(duration=event.duration * self._clock_rate // self.event_rate)
                digits += self._events.receive(timestamp, event)
                timestamp += event.duration
        else:
            comfort_noise(payload)  # refused here, not when its turn comes
            self.jitter_buffer.push(Buffered(sequence, timestamp, 0, payload, arrival))
        return digits

    def tick(self) -> list[Digit]:
        """To be called once per frame: the keys whose end was lost."""
        return self._events.tick()

    def _restart(self) -> list[Digit]:
        self.jitter_buffer.restart()
        self._noise = None
        return self._events.restart()

    # ------------------------------------------------------------------------------- out

    def pull(self, now: float) -> Received:
        """The next frame, for delivery at clock time `now`."""
        buffer = self.jitter_buffer
        buffer.judge(now)
        arrival = None
        concealed = False
        samples = None
        if buffer.steady and not buffer.held and not buffer.wish:
            packet = buffer.take()
            if packet is not None:
                samples = self._decode(packet)
                arrival = packet.arrival
                if len(samples) != self._frame_samples:
                    self._fifo.append(samples)
                    samples = None
        if samples is None:
            samples, arrival, concealed = self._assemble(now, arrival)
        self._history.append(samples)
        counts = self.counts
        frame = Frame(samples, self._rate, counts.frames * FRAME_SECONDS, concealed)
        counts.frames += 1
        if arrival is not None:
            self.delay += (now - arrival - self.delay) * (SMOOTHING if self._arrival is not None else 1)
            self._arrival = arrival
        else:
            arrival = self._would_have_arrived(now, concealed)
        return Received(frame, arrival)

    def _assemble(self, now: float, arrival: float | None) -> tuple[Samples, float | None, bool]:
        """A frame of what there is and what must be made up; when its last packet arrived; whether any was made up."""
        buffer, fifo, count = self.jitter_buffer, self._fifo, self._frame_samples
        concealed = self._made_up > 0
        self._made_up = max(0, self._made_up - count)
        if buffer.wish:
            self._adjust(now)
        elif self._tries > 0:
            self._tries = 0
        while len(fifo) < count:
            buffer.held = len(fifo) * self._clock_rate // self._rate
            wanted = -(-(count - len(fifo)) * self._clock_rate // self._rate)
            item = buffer.pop(now, wanted)
            if isinstance(item, int):
                concealed = True
                gap = item * self._rate // self._clock_rate
                self._made_up = max(0, len(fifo) + gap - count)
                played = self._fill_gap(gap)
                arrival = arrival if played is None else played.arrival
            elif not item.duration:
                self._noise, self._noise_at = comfort_noise(item.payload), 0
            else:
                fifo.append(self._led_in(item))
                arrival = item.arrival
        if concealed:
            self._unexplained += 1
        if self._unexplained and arrival is not None:
            self._explain()
        samples = fifo.take(count)
        buffer.held = len(fifo) * self._clock_rate // self._rate
        return samples, arrival, concealed

    def _fill_gap(self, count: int) -> Buffered | None:
        """Makes up `count` samples, and plays the packet after them, which is returned, where it is there already."""
        fifo, concealment = self._fifo, self._concealment
        if self._noise is not None:
            noise = self._of(self._noise, count)
            if not concealment.faded:  # the end of speech goes over into the noise
                speech = concealment.conceal(count, self._past)
                rise = np.linspace(0.0, 1.0, count)
                noise = np.rint(speech * (1 - rise) + noise * rise).astype(np.int16)
                concealment.fade()
            fifo.append(noise)
            return None
        following = None if concealment.faded else self.jitter_buffer.take_following()
        if following is None:
            made_up = concealment.ring_out if self._events.pressed and not concealment.faded else concealment.conceal
            fifo.append(made_up(count, self._past))
            return None
        recovered = self._redundant.recover(following.payload, count) if self._redundant is not None else None
        samples = self._decode(following)
        if recovered is None:
            fifo.append(concealment.bridge(count, self._past, samples))
        else:
            fifo.append(concealment.resume(recovered) if concealment.made_up else recovered)
            fifo.append(samples)
        return following

    def _decode(self, packet: Buffered) -> Samples:
        try:
            return self._codec.decode(packet.payload)
        except RtpError:
            # Damaged on the way: as good as lost, and the next packet has to be led in.
            self.jitter_buffer.steady = False
            return self._concealment.conceal(packet.duration * self._rate // self._clock_rate, self._past)

    def _led_in(self, packet: Buffered) -> Samples:
        """The samples of a packet, going over smoothly from what was played before them."""
        buffer, concealment = self.jitter_buffer, self._concealment
        made_up = concealment.made_up
        samples = self._decode(packet)
        if concealment.made_up > made_up:
            return samples  # by concealment, in place of the packet's own
        if self._noise is not None:
            samples = concealment.resume(samples, self._of(self._noise, len(samples)))
            self._noise = None
        elif buffer.cut and not concealment.made_up:
            concealment.conceal(1, self._past)
            samples = concealment.resume(samples)
        elif concealment.made_up:
            samples = concealment.resume(samples)
        buffer.cut = False
        return samples

    def _explain(self) -> None:
        """A packet came after a gap, so that it is known what the gap was."""
        if self.jitter_buffer.silent:
            self.counts.silent += self._unexplained
        else:
            self.counts.concealed += self._unexplained
        self._unexplained = 0

    def _of(self, noise: Samples, count: int) -> Samples:
        """The next `count` samples of comfort noise, which begins again where it ends."""
        places = np.arange(self._noise_at, self._noise_at + count)
        self._noise_at += count
        return noise.take(places, mode="wrap")

    def _past(self) -> Samples:
        """What was played until now, and what is about to be."""
        return np.concatenate((*self._history, self._waiting()))

    def _waiting(self) -> Samples:
        waiting = self._fifo.take(len(self._fifo))
        self._fifo.append(waiting)
        return waiting

    # ------------------------------------------------------------------------------- following the line

    def _adjust(self, now: float) -> None:
        """Makes the audio longer or shorter, as wished, if there is a place for it that is not heard."""
        self._tries += 1
        if self._tries <= 0:
            return
        buffer, rate = self.jitter_buffer, self._rate
        leftover = -buffer.wish > LEFTOVER_SECONDS * self._clock_rate and buffer.follows_outage(now)
        urgent = leftover or (buffer.wish > 0 and buffer.urgent)
        if self._tries % TRY_PULLS and not urgent:
            return
        unit = max(1, rate // self._clock_rate)
        choice = round(CHOICE_SECONDS * rate)
        wish = buffer.wish
        step = 2 * STEP_SECONDS if leftover else STEP_SECONDS
        exact = min(abs(wish) * rate // self._clock_rate, round(step * rate) + choice)
        if wish > 0:
            wait = max(buffer.longest_wait(now), now - (self._arrival or now) + len(self._fifo) / rate)
            if wait + (exact + choice) / rate > LIMIT_SECONDS:
                return
            jumps = range(-exact - choice, -exact + 1, unit)
        else:
            jumps = range(max(unit, exact - choice), exact + 1, unit)
        if not self._decode_ahead(max(0, jumps[-1]) + round(OVERLAP_SECONDS * rate)):
            return
        past = np.concatenate(self._history)
        if len(past) < -jumps[0]:
            return
        alike, pulls = HASTE if leftover else URGENCY if urgent else PATIENCE
        alike -= (alike + 1) * self._tries / pulls
        joined = join(
            np.concatenate((past, self._waiting())), len(past), jumps, rate, alike, -exact if wish > 0 else exact
        )
        if joined is None:
            return
        self._fifo.clear()
        self._fifo.append(joined)
        self.counts.adjusted += 1
        self._tries = -PAUSE_PULLS
        buffer.adjusted()

    def _decode_ahead(self, count: int) -> bool:
        """Whether so many samples wait for being played, without any made up."""
        while len(self._fifo) < count:
            packet = self.jitter_buffer.take() if self.jitter_buffer.steady else None
            if packet is None:
                return False
            self._fifo.append(self._decode(packet))
            self._arrival = packet.arrival
        return True

    def _would_have_arrived(self, now: float, concealed: bool) -> float:
        """When the last packet of a frame that brought none arrived, or would have."""
        if self._arrival is None:
            return now
        if concealed:  # what never came would have come a frame later
            self._arrival = min(now, self._arrival + FRAME_SECONDS)
        # The rest of a longer packet came with it.
        return self._arrival
