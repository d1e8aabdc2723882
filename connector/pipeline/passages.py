"""What of a text the caller may interrupt: its passages, read from `<no-interrupt>...</no-interrupt>`.

    reader = PassageReader()
    for passage in reader.push("You agree. <no-inter") + reader.push("rupt>Calls are recorded.") + reader.flush():
        ...                     # ("You agree. ", True), ("Calls are recorded.", False)

A language model streams, so a tag may come in parts: what could become one is held back until it is
clear. Passages do not depend on how the text was chunked, apart from where they are cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from connector.config.passages import CLOSING, OPENING, TAG


class Passage(NamedTuple):
    """Words, and whether the caller may interrupt them by speaking; a key always interrupts."""

    text: str
    interruptible: bool


class PassageReader:
    """Reads one text. What is opened and not closed lasts to the end; a closing tag without an opening one is none."""

    def __init__(self) -> None:
        self._interruptible = True
        self._held = ""

    def push(self, text: str) -> list[Passage]:
        """Takes in the next stretch and returns the passages that it adds, none of them empty."""
        text = self._held + text
        keep = _begun(text)
        self._held = text[len(text) - keep :]
        return self._read(text[: len(text) - keep])

    def flush(self) -> list[Passage]:
        """The text is over: returns what was held back."""
        text, self._held = self._held, ""
        return self._read(text)

    def _read(self, text: str) -> list[Passage]:
        found: list[Passage] = []
        start = 0
        for match in TAG.finditer(text):
            found.append(Passage(text[start : match.start()], self._interruptible))
            self._interruptible = bool(match["closing"])
            start = match.end()
        found.append(Passage(text[start:], self._interruptible))
        return _merged(found)


def passages(text: str) -> list[Passage]:
    """The passages of a text that is known from the start."""
    reader = PassageReader()
    return _merged(reader.push(text) + reader.flush())


def plain(text: str) -> str:
    """`text` without its tags: as it is said."""
    return TAG.sub("", text)


def _merged(found: Iterable[Passage]) -> list[Passage]:
    """`found`, neighbours of one kind as one, and none empty."""
    runs = groupby((passage for passage in found if passage.text), key=lambda passage: passage.interruptible)
    return [Passage("".join(passage.text for passage in run), kind) for kind, run in runs]


def _begun(text: str) -> int:
    """How many characters at the end of `text` may be the beginning of a tag."""
    start = text.rfind("<")
    tail = text[start:].lower() if start >= 0 else ""
    return len(tail) if tail and (OPENING.startswith(tail) or CLOSING.startswith(tail)) and ">" not in tail else 0
