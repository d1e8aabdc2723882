"""Reports to the far end and from it (RFC 3550 section 6.4)."""

from __future__ import annotations

import random

from connector.rtp import rtcp
from connector.rtp.session import RtpSession

INTERVAL_SECONDS = 5.0
"""Mean time between reports (section 6.2)."""


class Reporter:
    """Makes our reports of a session and keeps what the far end's tell.

    `cname`: our canonical name (section 6.5.1). Times are clock times, `wall` is seconds since the epoch.
    """

    def __init__(self, session: RtpSession, cname: str) -> None:
        self._session = session
        self._cname = cname
        self._last_report = 0
        self._last_report_at = 0.0
        self.round_trip: float | None = None
        """Seconds to the far end and back, or None while unknown."""
        self.remote_loss: float | None = None
        """Share of our packets that the far end missed lately, 0 to 1, or None while unknown."""

    @staticmethod
    def interval() -> float:
        """Seconds until the next report, spread so that reports of many calls do not coincide (section 6.3.1)."""
        return INTERVAL_SECONDS * random.uniform(0.5, 1.5)

    def receive(self, data: bytes, now: float, wall: float) -> None:
        """Takes a compound packet; raises `RtpError` where it is none."""
        for packet in rtcp.parse(data):
            if isinstance(packet, rtcp.SenderReport) and packet.ssrc == self._session.remote:
                self._last_report, self._last_report_at = rtcp.middle(packet.ntp), now
            if isinstance(packet, rtcp.SenderReport | rtcp.ReceiverReport):
                for block in packet.blocks:
                    if block.ssrc == self._session.ssrc:
                        self._take(block, wall)

    def report(self, now: float, wall: float, timestamp: int, packets: int, octets: int) -> bytes:
        """A compound packet: what we sent (`packets`, `octets`; `timestamp` is the RTP time of now) and heard."""
        blocks = (self._block(now),) if self._session.remote is not None else ()
        sender = rtcp.SenderReport(self._session.ssrc, rtcp.ntp_time(wall), timestamp, packets, octets, blocks)
        return rtcp.serialize([sender, self._description()])

    def goodbye(self) -> bytes:
        """Our leave (section 6.6)."""
        report = rtcp.ReceiverReport(self._session.ssrc)
        return rtcp.serialize([report, self._description(), rtcp.Goodbye((self._session.ssrc,))])

    def _description(self) -> rtcp.SourceDescription:
        return rtcp.SourceDescription(self._session.ssrc, self._cname)

    def _block(self, now: float) -> rtcp.ReportBlock:
        statistics = self._session.statistics
        return rtcp.ReportBlock(
            ssrc=self._session.remote or 0,
            fraction_lost=statistics.fraction_lost(),
            lost=statistics.lost,
            highest=statistics.highest,
            jitter=statistics.jitter,
            last_report=self._last_report,
            delay=round((now - self._last_report_at) * 65536) if self._last_report else 0,
        )

    def _take(self, block: rtcp.ReportBlock, wall: float) -> None:
        self.remote_loss = block.fraction_lost / 256
        if block.last_report:
            # Section 6.4.1: A - LSR - DLSR, in 16.16 fixed point that wraps each 18 hours.
            elapsed = rtcp.middle(rtcp.ntp_time(wall)) - block.last_report - block.delay & 0xFFFFFFFF
            if elapsed < 60 << 16:  # more is a wall clock that was set in between
                self.round_trip = elapsed / 65536
