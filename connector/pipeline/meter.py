"""How soon an engine answers, and how many requests it has, over all calls."""

from __future__ import annotations

from collections.abc import Callable

from connector.interfaces import EngineKind, ServiceUse
from connector.pipeline.script import CHARACTERS_PER_SECOND

SMOOTHING = 1 / 8
"""Weight of the newest time in a smoothed one (that of round trips, RFC 6298 section 2)."""

LOADED_RATIO = 2.0
"""An engine is loaded where an answer begins so much later than when it has nothing else to do ..."""

LOADED_SECONDS = 0.1
"""... and at least so many seconds later, which a caller might hear."""

PACED_SECONDS = 1.0
"""Speech that tells the pace of a voice: of less, its silences are too large a part."""


class Meter:
    """The requests of all calls to one engine: how many there are now, and how soon it answers.

    `report` is told of every request once it is known what became of it.
    """

    def __init__(self, kind: EngineKind, engine: str, report: Callable[[ServiceUse], None] | None = None) -> None:
        self.kind = kind
        self.engine = engine
        self.in_flight = 0
        """Requests that are running now."""
        self.begun = 0
        """Requests so far."""
        self.first_seconds: float | None = None
        """Time to the first text or audio, smoothed; None before the first one."""
        self.pace = CHARACTERS_PER_SECOND
        """Of a voice: characters of text that become a second of speech, smoothed."""
        self._report = report
        self._undisturbed: float | None = None
        """The same of requests that had the engine to themselves."""
        self._alone: int | None = None
        self._waiting: dict[int, float] = {}
        """When requests began of which nothing has come, by their tickets: the oldest first."""

    def loaded(self, now: float) -> bool:
        """Whether answers begin noticeably later, at clock time `now`, than when the engine has one request at a time.

        False until that is known. A load that is there all the time and not ours (another connector's) does not show.
        """
        if self.first_seconds is None or self._undisturbed is None:
            return False
        oldest = next(iter(self._waiting.values()), now)
        usual = self._undisturbed
        return max(self.first_seconds, now - oldest) > max(LOADED_RATIO * usual, usual + LOADED_SECONDS)

    def begin(self, now: float) -> int:
        """A request begins; returns its ticket."""
        self.begun += 1
        self._alone = None if self.in_flight else self.begun
        self.in_flight += 1
        self._waiting[self.begun] = now
        return self.begun

    def answered(self, ticket: int, now: float) -> None:
        """The first text or audio of the request `ticket` came."""
        seconds = now - self._waiting.pop(ticket)
        self.first_seconds = _smoothed(self.first_seconds, seconds)
        if ticket == self._alone:
            self._undisturbed = _smoothed(self._undisturbed, seconds)

    def end(self, ticket: int) -> None:
        """The request `ticket` is over, however it went."""
        self._waiting.pop(ticket, None)
        self.in_flight -= 1

    def spoke(self, characters: int, seconds: float) -> None:
        """A text of so many characters became `seconds` of speech."""
        if seconds >= PACED_SECONDS:
            self.pace = _smoothed(self.pace, characters / seconds)

    def report(self, use: ServiceUse) -> None:
        """Tells of a request whose fate is known."""
        if self._report is not None:
            self._report(use)


def _smoothed(before: float | None, seconds: float) -> float:
    return seconds if before is None else before + SMOOTHING * (seconds - before)
