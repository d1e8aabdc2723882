"""Splits a streamed reply into pieces to speak.

A speech synthesiser wants a sentence: less sounds wrong, more makes the caller wait, and most go
astray on very short and on very long text. Each character is judged once, by what came before it,
so the pieces do not depend on how the model's stream was chunked. Pieces are the text and nothing
but the text; `connector.pipeline.spoken` makes of each what is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

SHORTEST = 10
"""A sentence of fewer characters than this is spoken together with the next one.

Alone, *Sure,* or *Yes.* is half a second of voice and a gap, and many synthesisers mumble it.
"""

FIRST_CLAUSE = 12
"""The first piece may end at a clause once it is this long, so that the voice begins early.

Twelve characters last most of a second, in which the next piece is made.
"""

LONGEST = 300
"""No piece but fenced code is longer; it is cut at the last clause or else the last word that fits."""

SHORTEST_CLAUSE = 100
"""A piece that grew to `LONGEST` is cut at a clause only where that leaves at least this much."""

LONGEST_JOINED = 250
"""Waiting pieces are joined to texts of at most so many characters."""

JOINED_PER_SECOND = 50.0
"""Characters to synthesise at once for each second of audio still to be played.

They are some three seconds of voice: an engine that makes speech three times as fast as it is
played, and says nothing until it has made it all, is done before the voice falls silent.
"""

_CLOSING = "\"'”’»)]*_"
_QUOTED = frozenset('"“„«‹(')
"""What may have to be closed after the full stop."""
_FULL_STOP = re.compile(rf"[.?!][{re.escape(_CLOSING)}]*$")
_WIDE_STOP = "。！？"
_ELLIPSIS = re.compile(rf"(?:\.\.+|…)[{re.escape(_CLOSING)}]*$")
_CLAUSE_END = re.compile(rf"(?<!\d)(?<!\d\s)(?<!\d(?:st|nd|rd|th))(?:[,;:–—…]|\.\.)[{re.escape(_CLOSING)}]*$")
_CLAUSE = re.compile(rf"(?:[,;:–—…]|\.\.)[{re.escape(_CLOSING)}]*(?=\s)")
_LIST_NUMBER = re.compile(r"(?:^|\n)\s*(?:\d{1,3}|[A-Za-z])\.$")
_INITIAL = re.compile(r"(?:^|[\s(.])[^\W\d_]\.$")
_LAST_WORD = re.compile(r"([^\s(]+)\.$")
_STREET = re.compile(r"[a-zäöü]-?[Ss]tr$")
_DOTTED = re.compile(r"[^\W\d_]{1,2}(?:\.[^\W\d_]{1,2})+")
_GERMAN_ORDINAL = re.compile(
    r"(?:^|\s)(?:(?i:am|vom|zum|zur|beim|im|der|die|das|dem|den|des|bis|ab|seit|und|ihr|ihre|ihren|ihrem|jede[mnrs]?)"
    r"|(?:Mon|Diens|Donners|Frei|Sams|Sonn)tag,?|Mittwoch,?)\s\d{1,2}\.(?:\d{1,2}\.)?$"
)
"""*am 3.* waits for *Mai*, *der 2.* for *Stock*."""
_FENCE = "```"
_FENCE_OPENS = re.compile(rf"(?:^|\n)[^\S\n]*(?P<fence>{_FENCE})$")
_TABLE_ROW = re.compile(r"(?:^|\n)[^\S\n]*\|[^\n]*$")
_INLINE = re.compile(r"\*\*.+?\*\*|__.+?__|`[^`]+`|\[[^\[\]]*\](?:\([^)]*\)|(?!\())")
_INLINE_OPENS = re.compile(r"\*\*|__|`|\[")

_TITLES = """
    adm bros capt cf dr gen gov hon lt messrs mr mrs ms prof rev sen rep sgt sr st sra srta mme mlle hr hrn fr dra
    srtas sres
"""
_BEFORE_MORE = """
    approx aprox bzw ca env evtl ex ej ggf incl ing inkl vgl viz vs zzgl av nr núm
"""
_AT_THE_END_TOO = """
    a.m p.m apt art assn assoc ave bldg blvd co col corp dept dipl ed eds eg est etc ext fig figs hrs hwy ie inc jr ltd
    max min mt no nos op pp rd ref sec str tel univ usw vol
    jan feb mar apr jun jul aug sep sept oct nov dec janv févr avr juil déc okt dez ene abr ago dic
    mon tue tues wed thu thur thurs fri sat sun
"""
_CERTAIN = """
    you me us them him it that this these those here there now today tomorrow then too again please course welcome help
    ihnen dir euch uns mir das dies hier da jetzt heute morgen dann gern gerne bitte danke
    vous moi nous cela ça ici là maintenant aujourd'hui demain plaisir
    usted ustedes mí eso esto aquí ahí ahora hoy mañana gusto favor
"""
CERTAIN_ENDS = frozenset(_CERTAIN.split())
"""Words that end a sentence, and are neither abbreviations nor parts of a name.

The voice need not wait for what follows their full stop, which a model may take some time for.
"""

ABBREVIATIONS = frozenset(f"{_TITLES} {_BEFORE_MORE}".split())
"""Words, without their full stop, after which a full stop does not end a sentence."""

AMBIGUOUS = frozenset(_AT_THE_END_TOO.split())
"""Words, without their full stop, after which a full stop ends a sentence where a capital letter follows."""


def fold(text: str) -> str:
    """`text` with every run of white space as one space, and none at its ends."""
    return " ".join(text.split())


def split(text: str) -> list[str]:
    """Splits a text that is known from the start."""
    splitter = SentenceSplitter()
    return splitter.push(text) + splitter.flush()


def join(pieces: Sequence[str], lead: float) -> tuple[str, int]:
    """What of the waiting `pieces` (one at least) to synthesise as one text, and how many pieces that is.

    `lead`: seconds of audio still to be played. With little of it, that is the first piece alone; with
    much, as many as make a text of up to `LONGEST_JOINED` characters, because longer ones sound more natural.
    """
    longest = min(LONGEST_JOINED, lead * JOINED_PER_SECOND)
    text, count = pieces[0], 1
    for piece in pieces[1:]:
        if len(text) + 1 + len(piece) > longest:
            break
        text, count = f"{text} {piece}", count + 1
    return text, count


class SentenceSplitter:
    """Splits one reply. Pieces have their white space folded and are never blank.

    A table's row, a link, what is bold and inline code are not split before they are `LONGEST`; fenced
    code is one piece, however long.
    """

    def __init__(self) -> None:
        self._text = ""
        self._first = True
        self._fenced = False
        self._undecided = 0
        """Length of what is a piece if a capital letter follows, else 0."""

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
        if self._fenced:
            return self._push_code(character)
        pieces: list[str] = []
        if character.isspace():
            if self._ends_here(character):
                pieces = self._emit(len(self._text))
        elif self._undecided:
            if character.isupper():
                pieces = self._emit(self._undecided)
            self._undecided = 0
        self._text += character
        wide_stop = character in _WIDE_STOP and len(self._text.strip()) >= SHORTEST
        if wide_stop or (character == "." and self._first and self._certainly_ends()):
            pieces += self._emit(len(self._text))
        elif character == "`" and (fence := _FENCE_OPENS.search(self._text)):
            pieces += self._emit(fence.start("fence"))
            self._fenced = True
        elif len(self._text) >= LONGEST:
            pieces += self._emit(_cut(self._text))
        return pieces

    def _push_code(self, character: str) -> list[str]:
        self._text += character
        if len(self._text) < 2 * len(_FENCE) or not self._text.endswith(_FENCE):
            return []
        self._fenced = False
        return self._emit(len(self._text))

    def _ends_here(self, space: str) -> bool:
        """Whether a piece ends before `space`, the white space that follows it."""
        piece = self._text.strip()
        if len(piece) < SHORTEST:
            return False
        if space == "\n":
            return True
        if self._first and len(piece) >= FIRST_CLAUSE and _CLAUSE_END.search(piece):
            return not _within_markup(self._text)
        if not _FULL_STOP.search(piece) or _within_markup(self._text):
            return False
        word = _LAST_WORD.search(piece)
        if word is not None and (word[1].casefold() in AMBIGUOUS or _STREET.search(word[1])):
            self._undecided = len(self._text.rstrip())
            return False
        return not (
            _ELLIPSIS.search(piece)
            or _LIST_NUMBER.search(self._text)
            or _INITIAL.search(piece)
            or _GERMAN_ORDINAL.search(piece)
            or (word is not None and (word[1].casefold() in ABBREVIATIONS or _DOTTED.fullmatch(word[1])))
        )

    def _certainly_ends(self) -> bool:
        """Whether the full stop just taken in ends the first piece, whatever follows."""
        word = _LAST_WORD.search(self._text)
        if word is None or word[1].casefold() not in CERTAIN_ENDS or len(self._text.strip()) < SHORTEST:
            return False
        return not _within_markup(self._text) and _QUOTED.isdisjoint(self._text)

    def _emit(self, length: int) -> list[str]:
        piece = fold(self._text[:length])
        self._text = self._text[length:]
        self._undecided = 0
        if not piece:
            return []
        self._first = False
        return [piece]


def _within_markup(text: str) -> bool:
    """Whether `text` ends inside a table's row, or in what is linked, bold or code."""
    line = text.rpartition("\n")[2]
    return _TABLE_ROW.search(text) is not None or _INLINE_OPENS.search(_INLINE.sub("", line)) is not None


def _cut(text: str) -> int:
    """Where to cut `text`, which is as long as a piece may be."""
    clauses = [match.end() for match in _CLAUSE.finditer(text)]
    if clauses and clauses[-1] >= SHORTEST_CLAUSE:
        return clauses[-1]
    words = [match.start() for match in re.finditer(r"\s", text)]
    return words[-1] if words and words[-1] >= SHORTEST else len(text)
