"""What a receiver counts of a stream (RFC 3550 section 6.4.1, appendix A.3 and A.8)."""

from __future__ import annotations


class ReceptionStatistics:
    """Loss and interarrival jitter of one stream, on the way to us.

    What was lost for the listener, late and discarded packets too, is the jitter buffer's `missed`.
    `clock_rate`: of its timestamps, Hz. `first`: extended sequence number of its first packet.
    """

    def __init__(self, clock_rate: int, first: int = 0) -> None:
        self._clock_rate = clock_rate
        self._first = self._highest = first
        self._transit: float | None = None
        self._jitter = 0.0
        self._expected_prior = self._received_prior = 0
        self.received = 0
        """Packets, duplicates included (RFC 3550 appendix A.3)."""

    def count(self, sequence: int) -> None:
        """Counts a packet by its extended sequence number."""
        self.received += 1
        self._highest = max(self._highest, sequence)

    def take(self, sequence: int, timestamp: int, arrival: float) -> None:
        """Counts a media packet; its extended timestamp and its arrival (seconds) go into the jitter (appendix A.8)."""
        self.received += 1
        if sequence > self._highest:
            self._highest = sequence
        transit = arrival * self._clock_rate - timestamp
        if self._transit is not None:
            self._jitter += (abs(transit - self._transit) - self._jitter) / 16
        self._transit = transit

    def change_clock(self, clock_rate: int) -> None:
        """From here on timestamps count at another rate: transits do not compare across the change."""
        self._jitter *= clock_rate / self._clock_rate
        self._clock_rate = clock_rate
        self._transit = None

    @property
    def highest(self) -> int:
        """Highest extended sequence number received."""
        return self._highest

    @property
    def expected(self) -> int:
        """Packets that the sequence numbers announce."""
        return self._highest - self._first + 1 if self.received else 0

    @property
    def lost(self) -> int:
        """Packets lost so far; duplicates may make it negative."""
        return self.expected - self.received

    @property
    def jitter(self) -> int:
        """Interarrival jitter in timestamp units, as a report carries it."""
        return int(self._jitter)

    @property
    def jitter_seconds(self) -> float:
        """Interarrival jitter in seconds."""
        return self._jitter / self._clock_rate

    def fraction_lost(self) -> int:
        """Loss since the previous call, in 1/256 (appendix A.3); starts the next interval."""
        expected, received = self.expected - self._expected_prior, self.received - self._received_prior
        self._expected_prior, self._received_prior = self.expected, self.received
        lost = expected - received
        return min(255, lost * 256 // expected) if expected > 0 and lost > 0 else 0
