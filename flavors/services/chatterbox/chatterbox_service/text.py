"""Makes text fit to be spoken: markup and emoji left out, long text in pieces that end with sentences.

What a language model writes is rarely plain, and Chatterbox reads what it is given: asterisks become
noises, and texts of more than a few hundred characters go astray.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterator

LONGEST_PIECE = 300
"""Characters that the model is given at once: some 20 s of speech. Audio streams, so longer ones win no time."""

_CLOSING = "\"'”’»)]"
_SENTENCE_END = re.compile(rf"[.!?…][{re.escape(_CLOSING)}]*\s+(?![a-zß-öø-ÿ])|[。！？]\s*")
_CLAUSE_END = re.compile(r"[,;:–—]\s+|[，、；：]\s*")
_SPACE = re.compile(r"\s+")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[^\W\d_]|\d{1,2}|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|vs|etc|e\.g|i\.e|z\.B|bzw|ca)\.\s+$"
)
"""A full stop after it ends no sentence: initials, ordinal numbers, titles."""
_LONGEST_ABBREVIATION = len("(Prof. ")
_ENDED = re.compile(rf"[.!?…:;,。！？，、；：-][{re.escape(_CLOSING)}]*$")

_MARKUP: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[ \t]+"), " "),  # First: over long runs of blanks, the others would take quadratic time.
    (re.compile(r"```[^\n`]{0,40}\n|```"), "\n\n"),
    (re.compile(r"</?(?:br|p|div|li|tr|h[1-6]|break)\b[^<>]*>", re.IGNORECASE), "\n\n"),
    (re.compile(r"</?[A-Za-z!?][^<>]*>"), ""),
    (re.compile(r"!?\[([^\[\]]+)\]\([^()\s]*\)"), r"\1"),
    (re.compile(r"https?://(?:www\.)?"), ""),
    (re.compile(r"^[ \t]*(?:[-*_=][ \t]*){3,}$", re.MULTILINE), "\n"),
    (re.compile(r"^[ \t]*\|?(?:[ \t]*:?-+:?[ \t]*\|)+[ \t:-]*$", re.MULTILINE), "\n"),
    (re.compile(r"^[ \t]*\|[ \t]*(.*?)[ \t]*\|[ \t]*$", re.MULTILINE), r"\n\1\n"),
    (re.compile(r"[ \t]+\|[ \t]+"), ", "),
    (re.compile(r"^[ \t]*#{1,6}[ \t]+(.*)$", re.MULTILINE), r"\n\1\n"),
    (re.compile(r"^[ \t]*(?:[-*+•>][ \t]+)+", re.MULTILINE), "\n"),
    (re.compile(r"^(?=[ \t]*\d{1,3}[.)][ \t])", re.MULTILINE), "\n"),
    (re.compile(r"(\*{1,3}|~~|`+)(?=\S)(.{1,300}?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<!\w)(_{1,3})(?=\S)(.{1,300}?)(?<=\S)\1(?!\w)"), r"\2"),
)
"""Markdown, HTML and SSML: what is found, and what is spoken of it. Blank lines are where a sentence ends.
What stands in brackets stays: Chatterbox Turbo performs `[laugh]`, `[sigh]` and their like."""

_SPOKEN_SYMBOLS = frozenset("+=<>±×÷°№")
_IN_A_ROW = frozenset({"<super>", "<sub>", "<compat>"})
"""Decompositions (Unicode Standard Annex 44) of numbers whose characters are read together: ¹⁰, ₁₂, ⅩⅣ."""
_JOINERS = frozenset("\u200c\u200d")
"""Letters of Persian and of Indian scripts depend on them; between emoji they mean nothing."""
_UNSPOKEN_MARKS = frozenset({0x20E3, *range(0xFE00, 0xFE10)})
"""What turns a character into an emoji: the keycap, and variation selectors."""


def prepare(text: str, longest: int = LONGEST_PIECE) -> list[str]:
    """The pieces to speak one after the other: each holds a letter or digit, and at most `longest` characters.

    Empty where `text` has nothing that can be spoken.
    """
    plain = html.unescape(_without_markup(unicodedata.normalize("NFC", text.replace("\r\n", "\n"))))
    sentences = []
    for paragraph in re.split(r"\n\s*\n", _without_symbols(_with_plain_numbers(plain))):
        folded = " ".join(paragraph.split())
        if any(character.isalnum() for character in folded):
            sentences.append(folded if _ENDED.search(folded) else f"{folded}.")
    return [piece for piece in _pieces(" ".join(sentences), longest) if any(c.isalnum() for c in piece)]


def _without_markup(text: str) -> str:
    for pattern, spoken in _MARKUP:
        text = pattern.sub(spoken, text)
    return text


def _with_plain_numbers(text: str) -> str:
    """`text` with 1/2 for ½, 2 for ², 1 for ①, IV for Ⅳ: the model knows digits and letters alone.

    What would run into a number before it is set apart: 2½ is 2 1/2.
    """
    kept: list[str] = []
    before = " "
    for character in text:
        plain = character
        if unicodedata.category(character) in ("No", "Nl"):
            plain = unicodedata.normalize("NFKC", character)
            kind = unicodedata.decomposition(character).partition(" ")[0]
            in_a_row = kind in _IN_A_ROW and unicodedata.decomposition(before).startswith(kind)
            if plain != character and before.isnumeric() and not in_a_row:
                kept.append(" ")
        kept.append(plain)
        before = character
    return "".join(kept).replace("\N{FRACTION SLASH}", "/")


def _without_symbols(text: str) -> str:
    """`text` without emoji, pictures, and characters that are not for reading."""
    kept: list[str] = []
    for character in text:
        category = unicodedata.category(character)
        if character in _JOINERS:
            speakable = bool(kept) and unicodedata.category(kept[-1])[0] in "LM"
        elif ord(character) in _UNSPOKEN_MARKS:
            speakable = False
        else:
            speakable = category[0] in "LMNPZ" or category == "Sc" or character in _SPOKEN_SYMBOLS
        if speakable:
            kept.append(character)
        elif character in "\n\t" or category == "So":
            kept.append("\n" if character == "\n" else " ")
    return "".join(kept)


def _pieces(text: str, longest: int) -> Iterator[str]:
    """`text` in as few pieces as can be, of about the same length: a short rest alone would sound cut off."""
    while len(text) > longest:
        aim = len(text) / math.ceil(len(text) / longest)
        cut = _cut(text[: longest + 1], aim)
        yield text[:cut].strip()
        text = text[cut:].strip()
    if text:
        yield text


def _abbreviated(text: str, end: int) -> bool:
    """Whether the full stop and space that end there belong to an abbreviation."""
    return _ABBREVIATION.search(text, max(0, end - _LONGEST_ABBREVIATION), end) is not None


def _cut(text: str, aim: float) -> int:
    """Where to end a piece within `text`, whose last character is already too many: near `aim`, at the best place."""
    for boundary in (_SENTENCE_END, _CLAUSE_END, _SPACE):
        places = [
            match.end()
            for match in boundary.finditer(text)
            if match.end() > aim / 3 and not _abbreviated(text, match.end())
        ]
        if places:
            return min(places, key=lambda place: abs(place - aim))
    return len(text) - 1
