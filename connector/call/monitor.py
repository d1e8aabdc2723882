"""Who watches calls: metrics, the command line."""

from __future__ import annotations

from typing import Protocol

from connector.interfaces import CallInfo
from connector.record import CallRecord, Turn


class CallMonitor(Protocol):
    """Told of every call, on the event loop; must not block and must not raise."""

    def began(self, info: CallInfo) -> None:
        """A call came in."""

    def answered(self, info: CallInfo, flavor: str) -> None:
        """It was answered by `flavor`."""

    def turn(self, info: CallInfo, turn: Turn) -> None:
        """A turn of it is over."""

    def ended(self, info: CallInfo, record: CallRecord) -> None:
        """It is over and its record is written."""


class Monitors:
    """A `CallMonitor` that tells several."""

    def __init__(self, *monitors: CallMonitor) -> None:
        self._monitors = monitors

    def began(self, info: CallInfo) -> None:
        for monitor in self._monitors:
            monitor.began(info)

    def answered(self, info: CallInfo, flavor: str) -> None:
        for monitor in self._monitors:
            monitor.answered(info, flavor)

    def turn(self, info: CallInfo, turn: Turn) -> None:
        for monitor in self._monitors:
            monitor.turn(info, turn)

    def ended(self, info: CallInfo, record: CallRecord) -> None:
        for monitor in self._monitors:
            monitor.ended(info, record)
