"""What was handed to the port, so that a playout position tells which words were heard."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

CHARACTERS_PER_SECOND = 15.0
"""Pace of a voice of which nothing has been measured yet."""

ROUNDING = 0.001
"""Seconds by which a position may fall short of a piece's end and still be its end."""


@dataclass(slots=True)
class _Line:
    text: str
    start: float
    seconds: float = 0.0
    complete: bool = False
    interruptible: bool = True


class Script:
    """The pieces of one reply in the order spoken, each with the seconds of audio it became."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        """Audio handed to the port so far."""
        return self._seconds

    def __len__(self) -> int:
        """How many pieces were begun."""
        return len(self._lines)

    def begin(self, text: str, *, interruptible: bool = True) -> None:
        """The audio that follows speaks `text`, which the caller may interrupt or not."""
        self.end()
        self._lines.append(_Line(text, self._seconds, interruptible=interruptible))

    def interruptible(self, position: float) -> bool:
        """Whether the caller may interrupt what is spoken at `position` seconds."""
        return all(line.interruptible for line in self._lines if line.start <= position < line.start + line.seconds)

    def add(self, seconds: float) -> None:
        """So much audio of the piece begun last was handed to the port."""
        self._lines[-1].seconds += seconds
        self._seconds += seconds

    def end(self) -> None:
        """The piece begun last is spoken completely."""
        if self._lines:
            self._lines[-1].complete = True

    def abandon(self) -> None:
        """The piece begun last ends where it is: its voice failed."""
        if self._lines and not self._lines[-1].complete:
            line = self._lines[-1]
            line.text = self._heard(line, line.seconds)
            line.complete = True

    def heard_whole(self, position: float) -> int:
        """How many pieces, from the first on, were heard to their end at `position`."""
        ends = (line.start + self._duration(line) for line in self._lines)
        return sum(1 for _ in takewhile(lambda end: end <= position + ROUNDING, ends))

    def heard(self, position: float) -> str:
        """The words heard when `position` seconds of audio had been played.

        A piece cut in the middle is cut at the word, in proportion to its duration; the duration of
        one that is still being synthesised is estimated by the pace of the pieces before it.
        """
        return " ".join(filter(None, (self._heard(line, position - line.start) for line in self._lines)))

    def _heard(self, line: _Line, seconds: float) -> str:
        if seconds <= 0:
            return ""
        duration = self._duration(line)
        if seconds >= duration - ROUNDING:
            return line.text
        length = round(len(line.text) * seconds / duration)
        if any(character.isspace() for character in line.text[max(0, length - 1) : length + 1]):
            return line.text[:length].rstrip()
        cut = line.text[:length].rsplit(maxsplit=1)
        return cut[0] if len(cut) == 2 else ""

    def _duration(self, line: _Line) -> float:
        return line.seconds if line.complete else max(line.seconds, len(line.text) / self._pace())

    def _pace(self) -> float:
        spoken = [line for line in self._lines if line.complete and line.seconds]
        if not spoken:
            return CHARACTERS_PER_SECOND
        return sum(len(line.text) for line in spoken) / sum(line.seconds for line in spoken)
