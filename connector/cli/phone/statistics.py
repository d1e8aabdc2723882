"""What a phone's RTP went through."""

from __future__ import annotations

from dataclasses import dataclass

from connector.interfaces import AudioPort


@dataclass(frozen=True, slots=True)
class LineStatistics:
    """Packets sent, received and lost on the way here, and interarrival jitter (RFC 3550 section 6.4.1) in seconds."""

    sent: int = 0
    received: int = 0
    lost: int = 0
    jitter: float = 0.0


def line_statistics(port: AudioPort) -> LineStatistics | None:
    """The counters of a phone's port."""
    counters = getattr(port, "statistics", None)
    if counters is None or isinstance(counters, LineStatistics):
        return counters
    return LineStatistics(counters.sent, counters.received, counters.lost, counters.jitter)
