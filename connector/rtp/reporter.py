"""Reports to the far end and from it (RFC 3550 section 6)."""

from __future__ import annotations

import math
import random
from typing import Protocol

from connector.rtp import rtcp
from connector.rtp.session import RtpSession

MINIMUM_SECONDS = 5.0
"""Least mean time between reports (section 6.2).

The other bound, 5 % of the session's bandwidth, is far away: two members that speak Opus at 24 kb/s might report each
second.
"""

COMPENSATION = math.e - 1.5
"""What timer reconsideration would otherwise make of the mean (section 6.3.1)."""

REMEMBERED_REPORTS = 8
"""Reports of ours that the far end may refer to: it refers to the latest that it has."""


class Sent(Protocol):
    """What we send: `timestamp` (RTP time of now), and `packets` and `octets` of payload so far."""

    timestamp: int
    packets: int
    octets: int


class Reporter:
    """Makes our reports of a session, says when they are due, and keeps what the far end's tell.

    `cname`: our canonical name (section 6.5.1). Times are clock times in seconds; `wall`: seconds since the epoch.
    """

    def __init__(self, session: RtpSession, sent: Sent, cname: str, clock_rate: int) -> None:
        self._session = session
        self._sent = sent
        self._cname = cname
        self._ssrc = session.ssrc
        self._base = (0, 0)
        """Packets and octets that were sent with earlier SSRCs."""
        self._counts = [(0, 0), (0, 0)]
        """Packets and octets at our two latest reports."""
        self._heard = 0
        self._reported_at = 0.0
        self._reports: dict[int, float] = {}
        """When our latest reports left, by the middle of their NTP times."""
        self._last_report = 0
        self._last_report_at = 0.0
        self.clock_rate = clock_rate
        """Of the timestamps that we send, Hz."""
        self.due = math.inf
        """When `expire` wants to be called."""
        self.round_trip: float | None = None
        """Seconds to the far end and back, or None while unknown."""
        self.remote: rtcp.ReportBlock | None = None
        """What the far end last said of our stream."""
        self.remote_expected = 0
        """Packets of our stream that had been sent when it said so."""

    @property
    def remote_loss(self) -> float | None:
        """Share of our packets that the far end missed lately, 0 to 1, or None while unknown."""
        return None if self.remote is None else self.remote.fraction_lost / 256

    @property
    def remote_jitter(self) -> float | None:
        """Interarrival jitter of our packets at the far end, seconds, or None while unknown."""
        return None if self.remote is None else self.remote.jitter / self.clock_rate

    # ---------------------------------------------------------------- ours

    def start(self, now: float) -> None:
        """The session begins: the first report comes after half the time (section 6.2)."""
        self._reported_at = now
        self.due = now + _interval(MINIMUM_SECONDS / 2)

    def expire(self, now: float, wall: float) -> bytes | None:
        """The report that leaves now; None where the time, drawn anew, lies ahead (reconsideration, section 6.3.6)."""
        minimum = MINIMUM_SECONDS if self._reports else MINIMUM_SECONDS / 2
        self.due = self._reported_at + _interval(minimum)
        if self.due > now:
            return None
        self._reported_at = now
        self.due = now + _interval(MINIMUM_SECONDS)
        return self.report(now, wall)

    def report(self, now: float, wall: float) -> bytes:
        """A compound packet: what we sent and heard, and our name."""
        return self._compound(now, wall, ())

    def goodbye(self, now: float, wall: float) -> bytes | None:
        """Our last report, and leave (section 6.6).

        None where we have sent nothing and so were never there (section 6.3.7).
        """
        if not self._sent.packets and not self._reports:
            return None
        return self._compound(now, wall, (self._session.ssrc,))

    def _compound(self, now: float, wall: float, leaving: tuple[int, ...]) -> bytes:
        ssrc = self._session.ssrc
        ntp = rtcp.ntp_time(wall)
        counts = self._sent.packets, self._sent.octets
        report = self._sender_or_receiver_report(ntp, now, counts)
        parts: list[rtcp.RtcpPacket] = [report, rtcp.SourceDescription(ssrc, self._cname)]
        if ssrc != self._ssrc:  # a collision: the old number is given up (section 8.2)
            leaving = (self._ssrc, *leaving)
            self._ssrc = ssrc
        if leaving:
            parts.append(rtcp.Goodbye(leaving))
        self._counts = [self._counts[1], counts]
        self._reports[rtcp.middle(ntp)] = now
        if len(self._reports) > REMEMBERED_REPORTS:
            del self._reports[next(iter(self._reports))]
        return rtcp.serialize(parts)

    def _sender_or_receiver_report(
        self, ntp: int, now: float, counts: tuple[int, int]
    ) -> rtcp.SenderReport | rtcp.ReceiverReport:
        """SR where we have sent since the report before the last (section 6.4)."""
        ssrc, blocks = self._session.ssrc, self._blocks(now)
        if ssrc != self._ssrc:
            self._base = self._counts[1]  # a new source counts from 0 (section 6.4.1)
        if counts[0] == self._counts[0][0]:
            return rtcp.ReceiverReport(ssrc, blocks)
        packets, octets = counts[0] - self._base[0], counts[1] - self._base[1]
        return rtcp.SenderReport(ssrc, ntp, self._sent.timestamp, packets, octets, blocks)

    def _blocks(self, now: float) -> tuple[rtcp.ReportBlock, ...]:
        """Of the far end's stream, where anything was heard of it since our last report (section 6.4)."""
        heard, statistics = self._session.received, self._session.statistics
        if self._session.remote is None or heard == self._heard:
            return ()
        self._heard = heard
        block = rtcp.ReportBlock(
            ssrc=self._session.remote,
            fraction_lost=statistics.fraction_lost(),
            lost=statistics.lost,
            highest=statistics.highest,
            jitter=statistics.jitter,
            last_report=self._last_report,
            delay=round((now - self._last_report_at) * 65536) if self._last_report else 0,
        )
        return (block,)

    # ---------------------------------------------------------------- the far end's

    def receive(self, data: bytes, now: float) -> None:
        """Takes a compound packet that arrived at `now`; raises `RtpError` where it is none, and changes nothing."""
        for packet in rtcp.parse(data):
            if isinstance(packet, rtcp.Goodbye):
                if self._session.remote in packet.ssrcs:
                    self._last_report = 0  # its state goes with it (section 6.3.4); no block tells of who is silent
                continue
            if packet.ssrc == self._session.ssrc:
                self._session.collide()
            if isinstance(packet, rtcp.SourceDescription):
                continue
            if isinstance(packet, rtcp.SenderReport) and packet.ssrc == self._session.remote:
                self._last_report, self._last_report_at = rtcp.middle(packet.ntp), now
            for block in packet.blocks:
                if block.ssrc == self._session.ssrc:
                    self._take(block, now)

    def _take(self, block: rtcp.ReportBlock, now: float) -> None:
        self.remote = block
        self.remote_expected = self._sent.packets - self._base[0]
        left_at = self._reports.get(block.last_report)
        if left_at is not None:
            # Section 6.4.1: A - LSR - DLSR, on a clock that nobody sets.
            self.round_trip = max(0.0, now - left_at - block.delay / 65536)


def _interval(minimum: float) -> float:
    """Seconds until the next report, spread so that reports of many calls do not coincide (section 6.3.1)."""
    return minimum * random.uniform(0.5, 1.5) / COMPENSATION
