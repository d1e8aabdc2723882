"""The jitter buffer: packets in any order in, one slot of time after the other out.

It knows no clock but the pulls: a slot passes with each `pop`, and a packet's slack is the slots that
lie between it and the next pull. So a stall of this machine, in which neither packets nor pulls are
served, is no jitter, and virtual time needs no special care.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from connector.audio import FRAME_SECONDS

START_SLOTS = 2
"""Slots between the first packet and its turn: 40 ms."""
LIMIT_SLOTS = 10
"""The most that may wait: 200 ms. What is older than that is not played any more."""
WINDOW_PACKETS = 250
"""The delay may be shortened when so many packets in a row came too early: five seconds of them."""
FIRST_WINDOW_PACKETS = 50
"""At a stream's begin the start delay is a guess, so that one second of good packets is enough."""
SPARE_SLOTS = 2
"""Too early: so many whole slots before its turn. All but one of them can be spared."""
CAPACITY = 64
"""Packets held at most; a sane stream of 5 ms packets needs 40."""
REMEMBERED = 32
"""Played packets that are remembered, so that a duplicate is not taken for a late packet."""


class Buffered(NamedTuple):
    """A packet that waits for its slot. `timestamp`: extended; `duration`: in its units; `arrival`: seconds."""

    sequence: int
    timestamp: int
    duration: int
    payload: bytes
    arrival: float


class JitterBuffer:
    """Bounded, adaptive: grows on late packets, shrinks by `shorten` while `excessive`.

    `clock_rate`: of the timestamps, Hz. All durations are in timestamp units.
    """

    def __init__(self, clock_rate: int) -> None:
        self._slot = round(clock_rate * FRAME_SECONDS)
        self._limit = LIMIT_SLOTS * self._slot
        self._clock_rate = clock_rate
        self.late = 0
        """Packets that came after their slot."""
        self.duplicates = 0
        self.discarded = 0
        """Packets dropped in time to keep the delay bounded, or to shorten it."""
        self._spare = 0
        self._least_slack = self._limit
        self._window_packets = FIRST_WINDOW_PACKETS
        self.restart()

    def __str__(self) -> str:
        return f"jitter buffer {1000 * self.delay / self._clock_rate:.0f} ms"

    def restart(self) -> None:
        """Forgets the stream; the next packet begins a new one."""
        # By timestamp: each packet, and how many pulls there had been when it came.
        self._packets: dict[int, tuple[Buffered, int]] = {}
        self._pulls = 0
        self._played: deque[int] = deque(maxlen=REMEMBERED)
        self._newest: Buffered | None = None
        self._next = 0
        self._starved = 0
        self._hold = 0
        self._popped = 0
        self._begin_window(FIRST_WINDOW_PACKETS)

    @property
    def delay(self) -> int:
        """How much time lies between the next slot and the end of the newest packet."""
        if self._newest is None:
            return 0
        return max(0, self._newest.timestamp + self._newest.duration - self._next)

    @property
    def excessive(self) -> bool:
        """Whether some delay could be spared."""
        return self._spare > 0

    def push(self, packet: Buffered) -> None:
        """Takes a packet, in any order."""
        if not 0 < packet.duration <= self._limit:
            self.discarded += 1
            return
        newest = self._newest
        if newest is not None and packet.sequence > newest.sequence and packet.timestamp < newest.timestamp:
            self.restart()  # the sender's clock was set back: time goes on from here
        if self._newest is None:
            self._next = packet.timestamp - START_SLOTS * self._slot
        if packet.timestamp < self._next:
            self._take_late(packet)
        elif packet.timestamp in self._packets:
            self.duplicates += 1
        elif len(self._packets) >= CAPACITY:
            self.discarded += 1
        else:
            self._keep(packet)

    def pop(self) -> Buffered | int:
        """The packet whose turn it is, or how much time must be made up instead (at most one slot)."""
        self._pulls += 1
        if self._newest is None:
            return self._slot
        if self._hold > 0:
            self._hold -= self._slot
            return self._slot
        found = self._packets.pop(self._next, None)
        if found is not None:
            packet, _ = found
            self._next += packet.duration
            self._popped = packet.duration
            self._played.append(packet.timestamp)
            return packet
        self._drop_before(self._next)
        if not self._packets:
            self._starved += self._slot
            return self._slot
        gap = min(min(self._packets) - self._next, self._slot)
        self._next += gap
        return gap

    def shorten(self) -> None:
        """Says that the packet just popped is not played: the delay shrinks by its duration."""
        self.discarded += 1
        self._spare -= self._popped
        if not self.excessive:
            self._begin_window()

    def _keep(self, packet: Buffered) -> None:
        # The sender was silent for the slots that passed while the buffer was empty, or for as many of them as its
        # timestamps skip; the rest of the wait was delay, which the buffer has grown by.
        self._next = min(self._next + self._starved, packet.timestamp)
        self._starved = 0
        self._packets[packet.timestamp] = packet, self._pulls
        if self._newest is None or packet.timestamp > self._newest.timestamp:
            self._newest = packet
            self._bound()
        self._judge(packet.timestamp - self._next)

    def _take_late(self, packet: Buffered) -> None:
        if packet.timestamp in self._played:
            self.duplicates += 1
            return
        self.late += 1
        self._begin_window()
        # Let the stream rest for as long as this packet was late, so that its like will be in time.
        lateness = -(-(self._next - packet.timestamp) // self._slot) * self._slot
        if self._longest_wait() + lateness <= self._limit:
            self._hold = max(self._hold, lateness)

    def _longest_wait(self) -> int:
        """How long the packet that waits longest will have waited at its turn, without any hold."""
        return max(
            (
                (self._pulls - pulls) * self._slot + packet.timestamp + packet.duration - self._next
                for packet, pulls in self._packets.values()
            ),
            default=0,
        )

    def _bound(self) -> None:
        """Drops the oldest packets, so that the newest never waits longer than the limit."""
        if self._hold and self._longest_wait() + self._hold > self._limit:
            self._hold = 0
        excess = self.delay - self._limit
        if excess > 0:
            # On to the first packet within the limit: slots must begin where packets do.
            self._next = min(timestamp for timestamp in self._packets if timestamp >= self._next + excess)
            self._drop_before(self._next)

    def _drop_before(self, timestamp: int) -> None:
        for old in [old for old in self._packets if old < timestamp]:
            del self._packets[old]
            self.discarded += 1

    def _judge(self, slack: int) -> None:
        """Takes a packet that came `slack` before its turn into the judgement how much delay can be spared."""
        self._least_slack = min(self._least_slack, slack)
        self._window_packets -= 1
        spare = max(0, self._least_slack // self._slot - SPARE_SLOTS + 1) * self._slot
        self._spare = min(self._spare, spare)
        if self._window_packets == 0:
            self._begin_window()
            self._spare = spare

    def _begin_window(self, packets: int = WINDOW_PACKETS) -> None:
        self._spare = 0
        self._least_slack = self._limit
        self._window_packets = packets
