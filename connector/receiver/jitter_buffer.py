"""The jitter buffer: packets in any order in, a stretch of time after the other out.

It knows no clock but the times of arrival and of the pulls that it is told. What has been taken out is
known by the timestamp of what comes next; the *reach* is how much later than the fastest packets a
packet may come and still be in time. It is held above what `DelayEstimator` measures, and brought down
again when there is more of it than a packet's worth.
"""

from __future__ import annotations

from collections import deque
from math import ceil, floor, gcd, inf
from typing import NamedTuple

from connector.audio import FRAME_SECONDS
from connector.receiver.delay import DelayEstimator

LIMIT_SECONDS = 0.2
"""The most that may wait. What is older than that is not played any more."""
REST_SECONDS = 0.12
"""A wait for packets of this length is silence: the next packet begins a talk spurt, with a delay chosen anew."""
REVIEW_PULLS = 10
"""The delay is judged so often: each 200 ms."""
ADJUSTED_PULLS = 3
"""After an adjustment it is judged sooner."""
SLACK_SECONDS = 0.002
"""Beside a quarter of what the jitter needs: less than that is not worth an adjustment."""
OUTAGE_LEFTOVER_SECONDS = 4.0
"""Time in which the delay that an outage has left is made up for."""
CAPACITY = 64
"""Packets held at most; a sane stream of 5 ms packets needs 40."""
LOSSLESS, LOSSY, LOSSIEST = 0.001, 0.006, 0.1
"""Share of packets missed lately below which a line is not lossy any more, above which it is, and above which it makes
no difference, so that an outage is forgotten within a minute."""
LOSS_MEMORY = 500
"""Packets after which a missed one is forgotten, by a factor e."""
OTHERS = 256
"""Packets without audio whose numbers are remembered: keys pressed for five seconds."""
GAPS = 32
"""Stretches that were not played: a packet from there is late, any other old one a duplicate."""


class Buffered(NamedTuple):
    """A packet that waits for its turn.

    `sequence`, `timestamp`: extended; `duration`: in units of the timestamp, 0 for comfort noise (RFC 3389),
    which lasts until the next audio; `arrival`: seconds.
    """

    sequence: int
    timestamp: int
    duration: int
    payload: bytes
    arrival: float


class JitterBuffer:
    """Bounded and adaptive. `clock_rate`: of the timestamps, Hz. All durations are in timestamp units."""

    # Fifty times a second for each call: CPython shares the keys of 30 attributes at most, above that each object pays.
    __slots__ = (
        "_accounted",
        "_ahead",
        "_clock_rate",
        "_content",
        "_estimator",
        "_gap_from",
        "_gaps",
        "_hold",
        "_last",
        "_limit",
        "_lossiness",
        "_newest",
        "_others",
        "_packets",
        "_rest_after",
        "_reviews",
        "_slot",
        "_starved",
        "_theta",
        "bursts",
        "cut",
        "discarded",
        "duplicates",
        "held",
        "late",
        "missed",
        "next",
        "resting",
        "silent",
        "steady",
        "urgent",
        "wish",
    )

    def __init__(self, clock_rate: int) -> None:
        self._estimator = DelayEstimator()
        self.late = 0
        """Packets that came after their turn."""
        self.duplicates = 0
        self.discarded = 0
        """Packets dropped to keep the delay bounded, or because they make no sense."""
        self.missed = 0
        """Packets that were not there at their turn: lost on the way, late or discarded."""
        self.bursts = 0
        """Gaps that these left. `missed / bursts` is the mean length of a gap in packets (G.107's burst ratio is
        this over its value for the same share of losses at random, 1 / (1 - share))."""
        self.held = 0
        """How much was taken out but is not delivered yet; to be set by who takes it."""
        self._accounted = 0
        """Of `discarded`, those known when the latest gap was."""
        self._lossiness = 0.0
        self._ahead = False
        self.restart(clock_rate)

    def __str__(self) -> str:
        return f"jitter buffer {1000 * self.delay / self._clock_rate:.0f} ms"

    def restart(self, clock_rate: int | None = None) -> None:
        """Forgets the stream, not what was learned of the line; the next packet begins a new one."""
        if clock_rate is not None:
            self._clock_rate = clock_rate
            self._slot = round(clock_rate * FRAME_SECONDS)
            self._limit = round(clock_rate * LIMIT_SECONDS)
            self._rest_after = round(clock_rate * REST_SECONDS)
        self._packets: dict[int, Buffered] = {}
        self._newest: Buffered | None = None
        self._gaps: deque[tuple[int, int]] = deque(maxlen=GAPS)
        self._last: int | None = None
        self._others: deque[int] = deque(maxlen=OTHERS)
        self._starved = 0
        self._hold = 0
        self._gap_from: int | None = -1
        self._theta = inf
        self._reviews = REVIEW_PULLS
        self._content = False
        self._estimator.restart()
        self.next = 0
        """Timestamp of what is taken out next."""
        self.resting = True
        """Nothing is being said: the next packet begins a talk spurt."""
        self.steady = False
        """The next packet follows on what was taken out last, and nothing has to be decided before."""
        self.wish = 0
        """By how much the delay should be longer, or shorter where below 0."""
        self.urgent = False
        """A longer delay is wanted because packets would be late without, not only to fill gaps better."""
        self.cut = False
        """Audio was left out before the next packet, to bound the delay."""
        self.silent = False
        """What was made up last was never sent: the sender suppressed silence, or had not begun."""

    @property
    def delay(self) -> int:
        """How much time lies between what is delivered next and the end of the newest packet."""
        if self._newest is None:
            return 0
        return max(0, self._newest.timestamp + self._newest.duration - self.next) + self._hold + self.held

    @property
    def target(self) -> float:
        """Seconds after the fastest packets at which nearly all shall have come; one packet more on a lossy line,
        so that a gap can be filled from both of its sides."""
        packet = self._newest.duration / self._clock_rate if self._newest is not None else FRAME_SECONDS
        wanted = self._estimator.target + packet * self._ahead
        return max(0.0, min(wanted, LIMIT_SECONDS - packet - 2 * FRAME_SECONDS))

    # ------------------------------------------------------------------------------- in

    def push(self, packet: Buffered) -> None:
        """Takes a packet, in any order."""
        duration = packet.duration
        timestamp = packet.timestamp
        if not 0 <= duration <= self._limit - self._hold - self.held:
            self.discarded += 1
            return
        newest = self._newest
        if newest is None:
            self.next = timestamp
        elif timestamp < newest.timestamp and packet.sequence > newest.sequence:
            self.restart()  # the sender's clock was set back: time goes on from here
            self.next = timestamp
            newest = None
        arrival = packet.arrival
        if duration:
            self._estimator.take(arrival - timestamp / self._clock_rate, arrival)
        if timestamp < self.next:
            if any(begin <= timestamp < end for begin, end in self._gaps):
                self.late += 1
            else:
                self.duplicates += 1
        elif timestamp in self._packets:
            self.duplicates += 1
        elif len(self._packets) >= CAPACITY:
            self.discarded += 1
        else:
            self._packets[timestamp] = packet
            if newest is None or timestamp > newest.timestamp:
                self._newest = packet
                earliest = timestamp + duration - self._limit + self._hold + self.held
                if earliest > self.next:
                    self._bound(earliest)

    def other(self, sequence: int) -> None:
        """Says that a packet of this number carries no audio: it is not missing."""
        self._others.append(sequence)

    def _bound(self, earliest: int) -> None:
        """Drops the oldest packets, so that the newest never waits longer than the limit."""
        earliest -= self._hold  # a wait that was meant to help comes to an end first
        self._hold = 0
        if earliest <= self.next:
            return
        # On to the first packet within the limit: time goes on where a packet begins.
        first = min(timestamp for timestamp in self._packets if timestamp >= earliest)
        self._leave_out(first)
        self._starved = 0
        if not self.resting:
            self.cut = True
            self.steady = False

    def _leave_out(self, until: int) -> None:
        if until > self.next:
            self._gaps.append((self.next, until))
        self.next = until
        self._drop_before(until)

    def _drop_before(self, timestamp: int) -> None:
        for old in [old for old in self._packets if old < timestamp]:
            del self._packets[old]
            self.discarded += 1

    # ------------------------------------------------------------------------------- out

    def take(self) -> Buffered | None:
        """The audio packet whose turn it is, if it is there. For when the buffer is `steady`; else `pop`."""
        packet = self._packets.get(self.next)
        return None if packet is None or not packet.duration else self._taken(packet)

    def _taken(self, packet: Buffered) -> Buffered:
        del self._packets[packet.timestamp]
        self.next += packet.duration
        if packet.sequence - 1 != self._last:
            self._account(packet)
        self._last = packet.sequence
        return packet

    def pop(self, now: float, wanted: int) -> Buffered | int:
        """The packet whose turn it is at clock time `now`, or how much time must be made up instead.

        That is `wanted` at most, or the whole gap before a packet that is there already (see `take_following`).
        """
        self._drop_before(self.next)  # of packets that overlap, the later one
        if not self._packets:
            return self._starve(wanted)
        if self.resting:
            self._begin(now)
        elif self._starved:
            self._go_on()
        if self._hold:
            self._gap_begins()
            held_back = min(self._hold, wanted)
            self._hold -= held_back
            return held_back
        missed = self.missed
        packet = self._packets.get(self.next)
        if packet is not None:
            self._taken(packet)
            self.resting = not packet.duration
            self.steady = not self.resting
            if self._gap_from is not None:
                self.silent = missed == self.missed and packet.timestamp > self._gap_from
                self._gap_from = None
            return packet
        self._gap_begins()
        first = min(self._packets)
        gap = first - self.next
        if gap > 2 * self._slot:
            gap = min(gap, wanted)
        if not self.resting:
            self._gaps.append((self.next, self.next + gap))
        self.next += gap
        return gap

    def take_following(self) -> Buffered | None:
        """The packet after what `pop` said was to be made up, if it is there and others were missed before it."""
        packet = self._packets.get(self.next) if not self._hold else None
        if packet is None or not packet.duration or self._last is None or packet.sequence - 1 == self._last:
            return None
        self._gap_from = None
        return self._taken(packet)

    def _gap_begins(self) -> None:
        self.steady = self.silent = False
        if self._gap_from is None:
            self._gap_from = self.next

    def _starve(self, wanted: int) -> int:
        self._gap_begins()
        self._starved += wanted
        if self._starved >= self._rest_after:
            self.resting = True
        return wanted

    def _begin(self, now: float) -> None:
        """A talk spurt begins: its first packet waits until others of its age can be expected to have come."""
        first = self._packets[min(self._packets)]
        self.resting = False
        hold = 0
        if first.duration:
            parts = self._slot - gcd(first.duration, self._slot)  # the rest of a frame comes with a later packet
            reach = now - (first.timestamp + parts) / self._clock_rate - self._estimator.base
            hold = max(0, ceil((self.target - reach) / FRAME_SECONDS - 1e-6)) * self._slot
            unchanged = first.timestamp - self.next - self._starved
            if hold <= unchanged <= hold + self._slot:
                hold = unchanged
        before, self.next = self.next, first.timestamp
        if hold > 0:
            hold = max(0, min(hold, int((LIMIT_SECONDS - self.longest_wait(now)) * self._clock_rate)))
            # What was played already does not come again: time stands still for what the gap is too short for.
            self.next = max(before, first.timestamp - hold)
            self._hold = hold - (first.timestamp - self.next)
        if self.next > before:
            self._gaps.append((before, self.next))
        self._moved()

    def _go_on(self) -> None:
        """Packets came after the buffer had been empty: was the wait a loss, or were they delayed?"""
        first = min(self._packets)
        due = self.next + self._starved
        if first >= due:
            self._gaps.append((self.next, due))
            self.next = due  # what should have come meanwhile was lost
        elif due in self._packets and self._starved <= self._slot and self._content:
            # One packet was later than nearly all are. It is not worth a longer delay.
            late = sum(timestamp < due for timestamp in self._packets)
            self._leave_out(due)
            self.discarded -= late
            self.late += late
        elif first > self.next:
            self._gaps.append((self.next, first))
            self.next = first
        self._moved()

    def _account(self, packet: Buffered) -> None:
        """`packet` does not follow on the last one by its number: what was in between?"""
        if self._last is None:
            return
        between = packet.sequence - self._last - 1
        missed = max(0, between - sum(self._last < other < packet.sequence for other in set(self._others)))
        if missed:
            self.missed += missed
            self.bursts += 1
            # What an outage made us drop says nothing about the line.
            lost = max(0, missed - (self.discarded - self._accounted))
            self._lossiness = min(self._lossiness + lost / LOSS_MEMORY, LOSSIEST)
        self._accounted = self.discarded

    # ------------------------------------------------------------------------------- judging the delay

    def judge(self, now: float) -> None:
        """To be called once per pull; sets `wish` each 200 ms."""
        theta = now - (self.next - self._hold - self.held) / self._clock_rate
        if theta < self._theta:
            self._theta = theta  # a pull that ran late is no delay
        self._reviews -= 1
        if not self._reviews:
            self.wish = self._judged()

    def _judged(self) -> int:
        self._reviews = REVIEW_PULLS
        theta, self._theta = self._theta, inf
        self._lossiness *= 1 - REVIEW_PULLS / LOSS_MEMORY
        self._ahead = self._lossiness > (LOSSLESS if self._ahead else LOSSY)
        if self.resting or self._newest is None or not self._newest.duration or self._starved:
            return 0
        # Packets come whole: only whole steps of what packets and frames have in common change what is in time.
        step = gcd(self._newest.duration, self._slot)
        rest = self.held % step
        reach = theta - self._estimator.base - (rest + self._slot - step) / self._clock_rate
        target = self.target
        self._content = reach >= target
        self.urgent = reach < self._estimator.target
        if reach < target:
            return ceil((target - reach) * self._clock_rate / step) * step - rest
        if not self._estimator.settled:
            return 0
        spare = floor((reach - target * 1.25 - SLACK_SECONDS) * self._clock_rate / step) * step
        return -(spare + rest) if spare > 0 else 0

    def follows_outage(self, now: float) -> bool:
        """Whether the delay is mostly what an outage has left, at clock time `now`."""
        return now - self._estimator.outage < OUTAGE_LEFTOVER_SECONDS

    def longest_wait(self, now: float) -> float:
        """How long the packet that waits longest will have waited at its turn, seconds."""
        return max(
            (
                now
                - packet.arrival
                + (packet.timestamp + packet.duration - self.next + self._hold + self.held) / self._clock_rate
                for packet in self._packets.values()
            ),
            default=0.0,
        )

    def adjusted(self) -> None:
        """Says that the audio was made longer or shorter: the delay is judged anew, and soon."""
        self._moved()
        self._reviews = ADJUSTED_PULLS

    def _moved(self) -> None:
        """Time goes on elsewhere than it was judged for."""
        self._starved = 0
        self.wish = 0
        self._theta = inf
