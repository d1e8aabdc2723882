"""What a language needs for its numbers, dates and symbols to be said; each language is a module of such data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum


class Form(Enum):
    """What a number word stands before: in German one is *eins* alone, *ein* Meter and *eine* Stunde."""

    ALONE = "alone"
    MASCULINE = "masculine"
    FEMININE = "feminine"


@dataclass(frozen=True, slots=True)
class Noun:
    """What is counted."""

    one: str
    many: str
    form: Form = Form.MASCULINE


@dataclass(frozen=True, slots=True)
class Money:
    """A currency and its hundredth; without one, a price is read as a number."""

    unit: Noun
    cent: Noun | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words for what stands between numbers and in addresses."""

    point: str
    minus: str
    plus: str
    times: str
    equals: str
    to: str
    per: str
    conjunction: str
    alternative: str
    number: str
    about: str
    less: str
    more: str
    at_least: str
    at_most: str
    at: str
    dot: str
    slash: str
    out_of: str
    dash: str
    underscore: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """One language's tables. Patterns are sources of regular expressions."""

    words: Words
    thousands: str
    """Character class of what groups a number's digits by three."""
    decimal: str
    """Character class of what stands before a number's decimals."""
    decimals_by_digit: bool
    """Whether 3.14 is *three point one four*, not *three point fourteen*."""
    month_first: bool
    """Whether 11/20/2026 is a date; dates that could be read either way are left as their numbers."""
    day_first: bool
    """Whether 3/4/2026 is always the third of April."""
    pairs_as_numbers: bool
    """Whether two digits of a telephone number are said as one number."""
    cardinal: Callable[[int, Form], str]
    ordinal: Callable[[int, str], str]
    """The ordinal of a number as it follows the given word ('' for none)."""
    ordinals: str
    """How ordinals in digits are written: group `n`, and `mark` for what tells that it is one."""
    agreement: Callable[[str], Form]
    """The form of a number before this word ('' for none)."""
    dated_by: str
    """Words after which 11/18 is a date."""
    year: Callable[[int], str]
    dated: str
    """Words after which a number from 1100 on is a year; from 1900 to 2099 it is one in any case."""
    clock: Callable[[int, int, str], str]
    """Hour, minute and what was written of the half of the day."""
    clocks: tuple[str, ...]
    """How times of the day are written: groups `hour`, `minute`, `half`."""
    date: Callable[[int, int, int | None, str], str]
    """Day, month and year, as they follow the given word."""
    dates: tuple[str, ...]
    """How dates with the month's name are written: groups `day`, `month`, `to`, `year`."""
    months: Mapping[str, int]
    weekdays: Mapping[str, str]
    fraction: Callable[[int, int, int], str]
    """Whole number (0 for none), numerator, denominator up to ten."""
    units: Mapping[str, Noun]
    currencies: Mapping[str, Money]
    scales: Mapping[str, Noun]
    """What multiplies a sum of money: *m*, *million*."""
    elided: bool
    """Whether *de* is *d'* before a vowel."""
    small_change: str
    """Stands between the units and the hundredths of a price."""
    cents_named: bool
    """Whether the hundredths of a price are named: *fifty cents*, but *zwölf Euro fünfzig*."""
    abbreviations: Mapping[str, str]
    """As written, with what it is said as; one that ends in a full stop may also end the sentence."""
    special: tuple[tuple[str, str, str | Callable[[re.Match[str]], str]], ...]
    """Rules of this language alone, before those of numbers: what a text must have, pattern, replacement."""
    postcodes: str
    """How the postcodes that are said digit by digit are written; '' where they are said as numbers."""
    dictated: str
    """Words before a number that is said digit by digit."""
    keys: Mapping[str, str]
    """The keys * and # of a telephone."""
    keys_after: str
    """Words after which a lone * or # is a key."""
    roman: Mapping[str, Callable[[int], str]]
    """What stands before a Roman numeral, with how it is said."""
    symbols: Mapping[str, str]


def nouns(table: str, form: Form = Form.MASCULINE) -> dict[str, Noun]:
    """`abbreviations | one | many`, a line each, as nouns by abbreviation."""
    found: dict[str, Noun] = {}
    for line in table.strip().splitlines():
        short, one, many = (part.strip() for part in line.split("|"))
        found.update(dict.fromkeys(short.split(), Noun(one, many, form)))
    return found


def listed(names: str) -> list[str]:
    """Names in order."""
    return names.split()


def numbered(names: list[str]) -> dict[str, int]:
    """Names in order, by name: the first is 1."""
    return {name: index for index, name in enumerate(names, 1)}
