"""DTMF as named events (RFC 4733)."""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

from connector.audio import FRAME_SECONDS
from connector.errors import MediaError, RtpError
from connector.interfaces import Digit

DIGITS = "0123456789*#ABCD"
"""A key's place is its event code (RFC 4733 section 3.2)."""

LONGEST = 0xFFFF
"""Longest duration that one segment of an event can carry, in timestamp units (section 2.5.1.3)."""

LOST_END_FRAMES = 10
"""An event whose end was lost is over when this many frames passed without a packet of it (200 ms)."""

PRESS_FRAMES = 5
"""We hold a key for 100 ms: above the 40 ms that receivers must recognise (ITU-T Q.24)."""
END_PACKETS = 3
"""The last packet of an event is sent so often (section 2.5.1.4)."""
PAUSE_FRAMES = 5
"""Between two keys: 100 ms, with the repeated ends 60 ms of audio."""

_PAYLOAD = struct.Struct("!BBH")


class TelephoneEvent(NamedTuple):
    """An event's payload (section 2.3). `volume`: -dBm0, 0 to 63. `duration`: timestamp units so far."""

    event: int
    end: bool
    volume: int
    duration: int

    @classmethod
    def parse(cls, payload: bytes) -> TelephoneEvent:
        """Reads a payload's first event; raises `RtpError` where it is truncated."""
        return cls.parse_all(payload)[0]

    @classmethod
    def parse_all(cls, payload: bytes) -> list[TelephoneEvent]:
        """Reads all events of a payload, each of which begins where the one before ends (section 2.5.1.5).

        Raises `RtpError` where the first is truncated; a truncated rest is no event.
        """
        if len(payload) < _PAYLOAD.size:
            raise RtpError(f"telephone-event truncated: {len(payload)} octets")
        whole = len(payload) - len(payload) % _PAYLOAD.size
        return [
            cls(event, bool(flags & 0x80), flags & 0x3F, duration)
            for event, flags, duration in _PAYLOAD.iter_unpack(payload[:whole])
        ]

    def serialize(self) -> bytes:
        """The payload's bytes."""
        return _PAYLOAD.pack(self.event, self.end << 7 | self.volume, self.duration)


class EventReceiver:
    """Makes one `Digit` of each key press, though its packets are repeated, reordered or lost."""

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._event: int | None = None
        self._start = self._segment = self._end = 0
        self._reported: int | None = None
        self._silent_frames = 0

    def receive(self, timestamp: int, event: TelephoneEvent) -> list[Digit]:
        """Takes an event with its extended timestamp; returns the presses that are known to be over."""
        if event.event >= len(DIGITS) or (self._reported is not None and timestamp <= self._reported):
            return []
        if not event.duration and (self._event is None or timestamp != self._start):
            return []  # only a state can last for no time at all (section 2.3.5); the next packet will tell more
        digits: list[Digit] = []
        if self._event is not None and not self._continues(timestamp, event.event):
            if timestamp <= self._start:
                return []
            digits += self._finish()  # a new press, and the end of the former was lost
        if self._event is None:
            self._event = event.event
            self._start = self._segment = self._end = timestamp
        self._segment = max(self._segment, timestamp)
        self._end = max(self._end, timestamp + event.duration)
        self._silent_frames = 0
        if event.end:
            digits += self._finish()
        return digits

    def _continues(self, timestamp: int, event: int) -> bool:
        """Whether an event belongs to the press that is held: reported again, or longer than a segment.

        A press goes on in a segment that starts where the former ended, at its greatest duration (section
        2.5.1.3), though the packets that would tell of that end may have been lost.
        """
        return event == self._event and (
            timestamp <= self._segment or timestamp in (self._end, self._segment + LONGEST)
        )

    @property
    def pressed(self) -> bool:
        """Whether a key is held, as far as is known: nobody sends audio meanwhile."""
        return self._event is not None

    def tick(self) -> list[Digit]:
        """To be called once per frame; returns a press whose end was lost."""
        if self._event is None:
            return []
        self._silent_frames += 1
        return self._finish() if self._silent_frames >= LOST_END_FRAMES else []

    def restart(self) -> list[Digit]:
        """The stream begins anew: earlier timestamps mean nothing. Returns a press that was still held."""
        digits = self._finish()
        self._reported = None
        return digits

    def _finish(self) -> list[Digit]:
        if self._event is None:
            return []
        digit = Digit(DIGITS[self._event], (self._end - self._start) / self._clock_rate)
        self._event = None
        # Repeated and delayed packets of this press have no later timestamp. (Durations do not tell: there are
        # senders that count them faster than their timestamps, so that the next press begins "before" the end.)
        self._reported = self._segment
        return [digit]


class EventPacket(NamedTuple):
    """What to send for one frame of a key: `offset` is how far the event's start lies behind, in timestamp units."""

    payload: bytes
    offset: int
    marker: bool


class EventSender:
    """Plays keys, one packet per frame, in place of audio."""

    def __init__(self, clock_rate: int, volume: int = 10) -> None:
        self.clock_rate = clock_rate
        """Of durations and offsets, Hz."""
        self._volume = volume
        self._keys: deque[int] = deque()
        self._frames = 0

    def queue(self, digits: str) -> None:
        """Appends keys; raises `MediaError`, and appends none, where one is not a DTMF key."""
        unknown = sorted({digit for digit in digits if digit.upper() not in DIGITS})
        if unknown:
            raise MediaError(f"not a DTMF key: {' '.join(unknown)} (keys are {DIGITS})")
        self._keys.extend(DIGITS.index(digit) for digit in digits.upper())

    def next(self) -> EventPacket | None:
        """The next frame's packet, or None where the frame is audio's."""
        if not self._keys:
            return None
        frame = self._frames
        self._frames += 1
        if frame < PRESS_FRAMES + END_PACKETS - 1:
            end = frame >= PRESS_FRAMES - 1
            unit = round(self.clock_rate * FRAME_SECONDS)
            duration = min(frame + 1, PRESS_FRAMES) * unit
            payload = TelephoneEvent(self._keys[0], end, self._volume, duration).serialize()
            return EventPacket(payload, frame * unit, frame == 0)
        if self._frames >= PRESS_FRAMES + PAUSE_FRAMES:
            self._keys.popleft()
            self._frames = 0
        return None
