"""Splits a streamed reply into pieces to speak.

A speech synthesiser wants a sentence: less sounds wrong, more makes the caller wait, and most go
astray on very short and on very long text. Each character is judged once, by what came before it,
so the pieces do not depend on how the model's stream was chunked.
"""

from __future__ import annotations

import re

SHORTEST = 10
"""A sentence of fewer characters than this is spoken together with the next one."""

FIRST_CLAUSE = 40
"""The first piece may end at a clause once it is this long, so that the voice begins early."""

LONGEST = 300
"""No piece is longer; it is cut at the last clause or else the last word that fits."""

SHORTEST_CLAUSE = 100
"""A piece that grew to `LONGEST` is cut at a clause only where that leaves at least this much."""

_CLOSING = "\"'”’»)]*_"
_FULL_STOP = re.compile(rf"[.?!][{re.escape(_CLOSING)}]*$")
_WIDE_STOP = "。！？"
_ELLIPSIS = re.compile(rf"(?:\.\.+|…)[{re.escape(_CLOSING)}]*$")
_CLAUSE_END = re.compile(rf"(?:[,;:–—…]|\.\.)[{re.escape(_CLOSING)}]*$")
_CLAUSE = re.compile(rf"(?:[,;:–—…]|\.\.)[{re.escape(_CLOSING)}]*(?=\s)")
_LIST_NUMBER = re.compile(r"(?:^|\n)\s*(?:\d{1,3}|[A-Za-z])\.$")
_INITIAL = re.compile(r"(?:^|[\s(.])[^\W\d_]\.$")
_LAST_WORD = re.compile(r"([^\s(]+)\.$")
_DOTTED = re.compile(r"[^\W\d_]{1,2}(?:\.[^\W\d_]{1,2})+")

_ENGLISH = """
    adm approx apt art assn assoc ave blvd bldg bros capt cf co col corp dept dipl dr ed eds eg est etc ext fig figs
    gen gov hon hr hrs hwy ie inc incl jr lt ltd max messrs min mr mrs ms mt no nos nr op pp prof rd rep rev sen sgt
    sr st str tel univ viz vol vs
"""
_GERMAN = "bzw ca evtl ggf ing inkl usw vgl zzgl"
_FRENCH = "av mlle mme"
_SPANISH = "sra srta"
ABBREVIATIONS = frozenset(f"{_ENGLISH} {_GERMAN} {_FRENCH} {_SPANISH}".split())
"""Words, without their full stop, after which a full stop does not end a sentence."""


def fold(text: str) -> str:
    """`text` with every run of white space as one space, and none at its ends."""
    return " ".join(text.split())


def split(text: str) -> list[str]:
    """Splits a text that is known from the start."""
    splitter = SentenceSplitter()
    return splitter.push(text) + splitter.flush()


class SentenceSplitter:
    """Splits one reply. Pieces have their white space folded and are never blank."""

    def __init__(self) -> None:
        self._text = ""
        self._first = True

    def push(self, text: str) -> list[str]:
        """Takes in the next stretch of the reply and returns the pieces that it completes."""
        pieces: list[str] = []
        for character in text:
            pieces += self._push(character)
        return pieces

    def flush(self) -> list[str]:
        """The reply is over: returns what is left, whatever it ends in."""
        return self._emit(len(self._text))

    def _push(self, character: str) -> list[str]:
        pieces: list[str] = []
        if character.isspace() and self._ends_here(character):
            pieces = self._emit(len(self._text))
        self._text += character
        if character in _WIDE_STOP and len(self._text.strip()) >= SHORTEST:
            pieces += self._emit(len(self._text))
        if len(self._text) >= LONGEST:
            pieces += self._emit(_cut(self._text))
        return pieces

    def _ends_here(self, space: str) -> bool:
        """Whether a piece ends before `space`, the white space that follows it."""
        piece = self._text.strip()
        if self._first and len(piece) >= FIRST_CLAUSE and _CLAUSE_END.search(piece):
            return True
        if len(piece) < SHORTEST:
            return False
        return space == "\n" or (
            _FULL_STOP.search(piece) is not None
            and not _ELLIPSIS.search(piece)
            and not _LIST_NUMBER.search(self._text)
            and not _INITIAL.search(piece)
            and not _is_abbreviation(piece)
        )

    def _emit(self, length: int) -> list[str]:
        piece = fold(self._text[:length])
        self._text = self._text[length:]
        if not piece:
            return []
        self._first = False
        return [piece]


def _is_abbreviation(piece: str) -> bool:
    word = _LAST_WORD.search(piece)
    return word is not None and (word[1].casefold() in ABBREVIATIONS or _DOTTED.fullmatch(word[1]) is not None)


def _cut(text: str) -> int:
    """Where to cut `text`, which is as long as a piece may be."""
    clauses = [match.end() for match in _CLAUSE.finditer(text)]
    if clauses and clauses[-1] >= SHORTEST_CLAUSE:
        return clauses[-1]
    words = [match.start() for match in re.finditer(r"\s", text)]
    return words[-1] if words and words[-1] >= SHORTEST else len(text)
