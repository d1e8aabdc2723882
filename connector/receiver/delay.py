"""How much delay a line needs: a quantile of the measured relative arrival delay.

The way of WebRTC's NetEQ: each packet's delay relative to the fastest of the last seconds goes into a
histogram that forgets, and the delay is a high quantile of it (`modules/audio_coding/neteq`, delay
manager; Moon, Kurose and Towsley 1998, "Packet audio playout delay adjustment", is the idea). No clock
of ours is compared with the sender's over longer than `WINDOW_SECONDS`, so that drift is no jitter.
"""

from __future__ import annotations

from math import inf

WINDOW_SECONDS = 3.0
"""The fastest packet is sought in the last one to two windows: 100 ppm of drift are 0.6 ms in these."""
QUANTILE = 0.995
"""Share of the packets that shall be in time."""
MEMORY_PACKETS = 500
"""How soon a packet is forgotten: by a factor e after so many more."""
BUCKET_SECONDS = 0.002
BUCKETS = 100
"""What is later than 200 ms counts as so late: no delay of ours would be."""
OUTAGE_SECONDS = 0.1
"""A packet that is so much later than the target was held up by an outage. One alone makes nothing later ..."""
AGAIN_SECONDS = 10.0
"""... but another one within this time does: then it is the line's way."""
BURST_SECONDS = 0.015
"""Packets that had queued up come closer to one another than they were sent."""
START_SECONDS = 0.006
"""What a line is thought to need that has not been measured yet: as most do; the first late packets tell more."""
START_WEIGHT = 0.02
"""Weight of that guess, in packets: the first few measured ones outvote it."""
SETTLED_PACKETS = 50
"""One second of packets tells how little delay a line needs; that it needs more is told by any."""
REVIEW_PACKETS = 8
"""The quantile is computed again after so many packets."""


class DelayEstimator:
    """Takes each packet's transit; `target` is the delay, relative to the fastest packets, that is enough."""

    def __init__(self) -> None:
        self.target = START_SECONDS
        """Seconds after the arrival of the fastest packets at which nearly all have come."""
        self.base = inf
        """Transit of the fastest packets: arrival minus timestamp, seconds (its zero means nothing)."""
        self._counts = [0.0] * BUCKETS
        self._counts[round(START_SECONDS / BUCKET_SECONDS) - 1] = START_WEIGHT
        self._total = START_WEIGHT
        # Not the old is made lighter but the new heavier: one addition per packet.
        self._weight = 1.0
        self._growth = 1.0 + 1.0 / MEMORY_PACKETS
        self._review = REVIEW_PACKETS
        self.outage = -inf
        """When the latest outage ended, if it was the only one for a while (clock time)."""
        self._queued = False
        self._latest_outage = self._arrival = -inf
        self.restart()

    @property
    def settled(self) -> bool:
        """Whether enough has been measured to trust a small target."""
        return self._total >= SETTLED_PACKETS

    def restart(self) -> None:
        """The timestamps begin anew; the network is still the same."""
        self.base = self._fastest = inf
        self._window_end = -inf

    def take(self, transit: float, arrival: float) -> None:
        """Takes a packet that arrived at `arrival`, `transit` after its timestamp (both in seconds)."""
        if arrival >= self._window_end:
            self._turn(transit, arrival)
        elif transit < self._fastest:
            self._fastest = transit
            if transit < self.base:
                self.base = transit
        since, self._arrival = arrival - self._arrival, arrival
        if self._queued and since < BURST_SECONDS:
            return
        late = transit - self.base
        self._queued = late > self.target + OUTAGE_SECONDS and not self._again(arrival)
        if self._queued:
            return
        bucket = int(late / BUCKET_SECONDS)
        self._counts[bucket if bucket < BUCKETS else -1] += self._weight
        self._total += self._weight
        self._weight *= self._growth
        self._review -= 1
        if not self._review:
            self._measure()

    def _again(self, arrival: float) -> bool:
        """Whether the outage that ended at `arrival` is one of several."""
        again = arrival - self._latest_outage < AGAIN_SECONDS
        self._latest_outage = arrival
        self.outage = -inf if again else arrival
        return again

    def _turn(self, transit: float, arrival: float) -> None:
        """A window begins. The one before still counts, unless it ended long ago."""
        before = self._fastest if arrival < self._window_end + WINDOW_SECONDS else inf
        base, self._fastest = min(before, transit), transit
        self._window_end = arrival + WINDOW_SECONDS
        risen = int((base - self.base) / BUCKET_SECONDS) if self.base < inf else 0
        self.base = base
        if risen > 0:
            # The way is longer: what was late on the old one is as much less late on the new one.
            on_time = sum(self._counts[: risen + 1])
            self._counts = [on_time, *self._counts[risen + 1 :], *[0.0] * min(risen, BUCKETS - 1)]

    def _measure(self) -> None:
        self._review = REVIEW_PACKETS
        if self._weight > 1e9:
            self._counts = [count / self._weight for count in self._counts]
            self._total /= self._weight
            self._weight = 1.0
        missing = QUANTILE * self._total
        for bucket, count in enumerate(self._counts):
            missing -= count
            if missing <= 0:
                self.target = (bucket + 1) * BUCKET_SECONDS
                return
