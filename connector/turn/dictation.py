"""Numbers, spelled words and e-mail addresses that a caller dictates: said in groups, with pauses between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from connector.turn.words.table import Words, words

LONGEST_NUMBER = 4
"""Words of the longest spoken number below a hundred ("quatre vingt dix sept")."""

TOP_LEVEL_DOMAINS = words(
    """com net org info biz edu gov io ai eu app dev me uk us ca au nz ie in de at ch li fr be lu es mx ar cl pe it pt
    nl pl se dk no fi cat tv"""
)
"""How an e-mail address ends: the common ones, for a rare one costs only a pause. "co" is not here: "uk" may follow."""

_BRITISH_POSTCODE = re.compile(r"[a-z]{1,2}\d[a-z\d]?\d[a-z]{2}")
"""Royal Mail's format: outward code, then a digit and two letters."""


@dataclass(frozen=True, slots=True)
class Dictated:
    """What is dictated at the end of an utterance."""

    characters: str
    """Digits, letters and signs, without spaces."""
    groups: int
    """Spoken numbers, letters or written groups that it took."""
    before: tuple[str, ...]
    """The words before it."""
    words: tuple[str, ...]
    """The words that it is made of."""

    @property
    def digits(self) -> int:
        """How many of the characters are digits."""
        return sum(character.isdigit() for character in self.characters)

    @property
    def letters(self) -> int:
        """How many of the characters are letters."""
        return sum(character.isalpha() for character in self.characters)


def dictated(heard: Sequence[str], table: Words) -> Dictated:
    """The numbers and letters that `heard` ends in; of no group where it ends in another word."""
    characters, groups, start = "", 0, len(heard)
    while start:
        length, value = _group_before(heard, start, table)
        if not length:
            break
        characters, groups, start = value + characters, groups + 1, start - length
    return Dictated(characters, groups, tuple(heard[:start]), tuple(heard[start:]))


def _group_before(heard: Sequence[str], end: int, table: Words) -> tuple[int, str]:
    for length in range(min(LONGEST_NUMBER, end), 0, -1):
        phrase = " ".join(heard[end - length : end])
        value = table.numbers.get(phrase) or table.letters.get(phrase)
        if value:
            return length, value
    word = heard[end - 1]
    return (1, word) if word.removeprefix("+").isdigit() or (len(word) == 1 and word.isalpha()) else (0, "")


def spelled_with_example(heard: Sequence[str], table: Words) -> bool:
    """Whether the last words explain a letter: "b as in bravo"."""
    letter = len(heard) - 2 - table.spelled_as.at_end(heard[:-1])
    return 0 <= letter < len(heard) - 2 and len(heard[letter]) == 1 and heard[letter] not in table.cannot_end


def is_phone_number(characters: str, table: Words) -> bool:
    """Whether a whole telephone number was said: national, or international with its plus."""
    digits = sum(character.isdigit() for character in characters)
    if characters.startswith(("+", "00")):
        # One to three digits of country code instead of the trunk prefix.
        return digits >= table.phone_digits + (3 if characters.startswith("00") else 1)
    return digits >= (table.trunk_phone_digits if characters[:1] in ("0", "1") else table.phone_digits)


def is_postcode(characters: str) -> bool:
    """Whether a whole postcode was said: five digits (Germany, France, Spain, US), nine (US), or a British one."""
    return (characters.isdigit() and len(characters) in (5, 9)) or bool(_BRITISH_POSTCODE.fullmatch(characters))


def is_address_whole(heard: Sequence[str], table: Words) -> bool | None:
    """Whether the e-mail address in `heard` is whole; None where `heard` has no @."""
    ats = [place for place, word in enumerate(heard) if word == "@" or word in table.at_signs]
    if not ats:
        return None
    domain = heard[ats[-1] + 1 :]
    dots = [place for place, word in enumerate(domain) if word == "." or word in table.dots]
    return bool(dots) and "".join(domain[dots[-1] + 1 :]) in TOP_LEVEL_DOMAINS
