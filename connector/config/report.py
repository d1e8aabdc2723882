"""Collects what is wrong with a configuration, so that all of it is said in one go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches

from connector.errors import Problem

LONGEST_SHOWN = 60
"""Characters of a value that a message repeats."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: file, 1-based line, dotted key ("" for the whole file)."""

    file: str
    line: int
    key: str

    def member(self, part: str | int) -> Place:
        """The place of a member that has no line of its own."""
        if isinstance(part, int):
            return replace(self, key=f"{self.key}[{part}]")
        return replace(self, key=f"{self.key}.{shown(part)}" if self.key else shown(part))


class Unusable(Exception):
    """A value cannot be used: `message` says what is wrong, `hint` what would be right. The place is the catcher's."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Report:
    """Problems and warnings of one configuration.

    The first thing said about a place counts: what follows from it (a value that is missing
    because its variable is not set, say) is not said again.
    """

    def __init__(self) -> None:
        self._problems: dict[tuple[str, int, str], Problem] = {}
        self._warnings: dict[tuple[str, int, str], Problem] = {}
        self._files: dict[str, int] = {}

    def problem(self, place: Place, message: str, hint: str = "") -> None:
        """The configuration is unusable for this reason."""
        self._add(self._problems, Problem(place.file, place.line, place.key, message, hint))

    def warning(self, place: Place, message: str, hint: str = "") -> None:
        """The configuration is usable, yet this is probably not meant."""
        self._add(self._warnings, Problem(place.file, place.line, place.key, message, hint))

    def extend(self, other: Report, *, as_warnings: bool = False) -> None:
        """Takes over what `other` holds."""
        for problem in other.problems:
            self._add(self._warnings if as_warnings else self._problems, problem)
        for warning in other.warnings:
            self._add(self._warnings, warning)

    def below(self, place: Place) -> Report:
        """What this report says about `place` and its members."""
        part = Report()
        for found, taken in ((self._problems, part._problems), (self._warnings, part._warnings)):
            for note in found.values():
                if note.file == place.file and note.key.startswith(place.key):
                    part._add(taken, note)
        return part

    def _add(self, found: dict[tuple[str, int, str], Problem], problem: Problem) -> None:
        self._files.setdefault(problem.file, len(self._files))
        found.setdefault((problem.file, problem.line, problem.key), problem)

    def reading(self, file: str) -> None:
        """Files are reported in the order in which they were read."""
        self._files.setdefault(file, len(self._files))

    @property
    def problems(self) -> list[Problem]:
        """In file order."""
        return self._sorted(self._problems.values())

    @property
    def warnings(self) -> list[Problem]:
        """In file order."""
        return self._sorted(self._warnings.values())

    def _sorted(self, found: Iterable[Problem]) -> list[Problem]:
        return sorted(found, key=lambda problem: (self._files[problem.file], problem.line))


def shown(text: str) -> str:
    """`text` of a file as one line that is safe to print: shortened, control characters escaped."""
    line = text if text.isprintable() else repr(text)[1:-1]
    return line if len(line) <= LONGEST_SHOWN else f"{line[: LONGEST_SHOWN - 3]}..."


def one_of(wrong: str, known: Iterable[str], otherwise: str = "known") -> str:
    """The hint for a name that is not among `known`: the one that was probably meant, or all."""
    names = list(known)
    close = get_close_matches(wrong, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"{otherwise}: {', '.join(names)}" if names else f"{otherwise}: none"
