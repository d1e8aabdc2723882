"""Whether what a caller has said so far can be the whole turn, from the words alone.

The words come from a recogniser: mostly lower case, often without punctuation, sometimes with a wrong
word. So nothing is parsed. What decides is, in this order: what the words are for (an answer, a number
being dictated), whether the last ones can end a sentence, whether a clause that was opened has its
verb, and whether what was said is only the announcement of a request. Turns that are whole by grammar
and by what they are for are those to answer at once (Sacks, Schegloff and Jefferson, 1974: a turn may
change hands where a unit of it is complete); all of it is data in `connector.turn.words`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from connector.turn.dictation import (
    Dictated,
    dictated,
    is_address_whole,
    is_phone_number,
    is_postcode,
    spelled_with_example,
)
from connector.turn.sentence import FEW_WORDS, can_end, clauses, has_its_verbs, has_verb, lacks_full_verb
from connector.turn.words import TABLES, UNKNOWN, table_of
from connector.turn.words.table import START, Words


class Completeness(Enum):
    """How much of a turn the words are."""

    COMPLETE = "complete"
    """A whole request, question, answer or farewell: to be answered as soon as the caller is silent."""
    OPEN = "open"
    """Whole, but people often go on: a greeting, a request announced without its particulars."""
    UNFINISHED = "unfinished"
    """It cannot end here: "i would like to", "could you please send", "if i pay today"."""
    DICTATING = "dictating"
    """Digits, letters or parts of an address are being given, and the next group may follow after a pause."""
    DICTATED = "dictated"
    """Digits of a number that may be of any length: these are as many as order and customer numbers have."""


class Expected(Enum):
    """What the agent's question asks for."""

    ANYTHING = "anything"
    YES_NO = "yes or no"
    CHOICE = "one of several"
    NUMBER = "a number of unknown length"
    PHONE = "a telephone number"
    POSTCODE = "a postcode"
    QUANTITY = "how many"
    NAME = "a name"
    SPELLING = "a spelled word"
    EMAIL = "an e-mail address"
    ADDRESS = "a postal address"
    DATE = "a day"
    BIRTHDATE = "a day with its year"
    TIME = "a time of day"


_DICTATED = frozenset({Expected.NUMBER, Expected.PHONE, Expected.POSTCODE, Expected.SPELLING, Expected.BIRTHDATE})
"""Answers whose every digit is part of a dictation."""

_COUNTED = frozenset({Expected.QUANTITY, Expected.TIME, Expected.DATE})
"""Answers in which a number is a number."""

_SPELLED = frozenset({Expected.SPELLING, Expected.NAME, Expected.EMAIL})
"""Answers that may be spelled, so that one letter is already one of several."""

_FRAGMENTS = frozenset({Expected.CHOICE, Expected.NAME, Expected.ADDRESS})
"""Answers that are a noun phrase without its sentence: "my mother", "the blue one"."""

_CUT = re.compile(r"(?:\.\.|…|[-–—,:;])\s*$")
"""How a recogniser writes that the sentence was cut. Its full stop says nothing: Whisper ends every text with one."""

_WORD = re.compile(r"\d+(?:[.,:/]\d+)+|\+?\d+|[^\W\d_]+(?:'[^\W\d_]+)*'?|[@_]|(?<=\w)\.(?=\w)")
"""A word, a number, a decimal or time of day, or a sign of an e-mail address."""

_WHOLE_NUMBER = 5
"""Written digits that are a number of their own rather than an amount or a year."""

_LONG_ENOUGH = 5
"""Digits that may be a whole order or customer number; shorter ones are mostly its first group."""

_SPOKEN_GROUPS = 3
"""Spoken numbers in a row that are a dictation though nothing announced one."""


def judge(words: str, language: str = "en", expected: Expected = Expected.ANYTHING) -> Completeness:
    """How much of a turn `words` are.

    `words`: what the caller has said in this turn, as recognised; `language`: its BCP 47 tag;
    `expected`: what the agent asked for. No words are UNFINISHED. A language without a table gets
    only what holds in any: punctuation, fillers and digits; all else is OPEN there.
    """
    table = table_of(language)
    heard = _tokens(words, table)
    if not heard or (heard[-1] in table.fillers and " ".join(heard) not in table.answers):
        return Completeness.UNFINISHED
    given = _dictation(heard, table, expected)
    if _CUT.search(words):
        return Completeness.UNFINISHED if given is None else Completeness.DICTATING
    if given is not None:
        return given
    if table is UNKNOWN:
        return Completeness.OPEN
    core, before = _core(heard, table)
    if not core:
        return before
    whole = " ".join(core)
    if whole in table.wholes or (expected is Expected.YES_NO and whole in table.short_answers):
        return Completeness.COMPLETE
    if whole in table.announcements:
        return Completeness.OPEN
    if not can_end(core, heard, table) or not has_its_verbs(core, table, fragment=expected in _FRAGMENTS):
        return Completeness.UNFINISHED
    return Completeness.OPEN if _goes_on(core, table, expected) else Completeness.COMPLETE


def expectation(question: str, language: str = "en") -> Expected:
    """What the last sentence of `question`, the agent's words, asks for."""
    table = table_of(language)
    sentences = [sentence for sentence in re.split(r"(?<=[.?!])\s+", question.strip()) if sentence]
    asked = [sentence for sentence in sentences if sentence.endswith("?")] or sentences
    if not asked:
        return Expected.ANYTHING
    heard = _tokens(asked[-1], table)
    text = f" {' '.join(heard)} "
    alternatives = not table.choice.isdisjoint(heard)
    if table.yes_no.at_beginning(heard):
        return Expected.CHOICE if alternatives else Expected.YES_NO
    for name, cues in table.questions:
        if any(f" {cue} " in text for cue in cues):
            return Expected[name]
    return Expected.CHOICE if alternatives else Expected.ANYTHING


def backchannel(words: str, language: str = "en") -> bool:
    """Whether `words` only show that the caller listens: "uh-huh", "okay", "i see". To a question they may answer."""
    table = table_of(language)
    heard = _tokens(words, table)
    left = heard
    while left:
        said = max(_longest(left, table.backchannels), _longest(left, UNKNOWN.backchannels))
        if not said:
            return False
        left = left[said:]
    return bool(heard)


def filler_only(words: str) -> bool:
    """Whether `words` are nothing but sounds of somebody who looks for words, in any language: "um", "äh", "euh"."""
    heard = _tokens(words, UNKNOWN)
    return _ALL_FILLERS.issuperset(heard) and _longest(heard, UNKNOWN.backchannels) < len(heard)


_ALL_FILLERS = UNKNOWN.fillers.union(*(table.fillers for table in TABLES.values()))


def _tokens(words: str, table: Words) -> list[str]:
    text = words.lower().replace("’", "'").replace("e-mail", "email")
    if table.elides:
        text = text.replace("'", "' ")
    return _WORD.findall(text)


def _longest(heard: Sequence[str], known: frozenset[str], *, at_end: bool = False) -> int:
    """How many words at the beginning (or end) of `heard` are one phrase of `known`; the most of them."""
    for length in range(min(len(heard), 5), 0, -1):
        if " ".join(heard[-length:] if at_end else heard[:length]) in known:
            return length
    return 0


class _Core(NamedTuple):
    """The sentence proper, and what the words around it are where there is none."""

    words: list[str]
    around: Completeness


def _core(heard: list[str], table: Words) -> _Core:
    """`heard` without what stands before it ("yes, well") and after it ("please", "i think")."""
    around = Completeness.UNFINISHED
    while heard:
        if length := _longest(heard, table.announcements):
            around = Completeness.OPEN
        elif length := _longest(heard, table.answers):
            around = Completeness.COMPLETE
        elif length := _longest(heard, table.lead_ins):
            around = Completeness.UNFINISHED
        else:
            break
        if " ".join(heard) in table.wholes:
            break
        heard = heard[length:]
    while heard and (length := _longest(heard, table.courtesies, at_end=True)):
        heard = heard[:-length]
    aside = table.asides.at_end(heard)
    return _Core(heard[: len(heard) - aside] if aside < len(heard) else heard, around)


def _dictation(heard: list[str], table: Words, expected: Expected) -> Completeness | None:
    """COMPLETE or DICTATING where `heard` ends in a dictation; None where it does not."""
    address = _email(heard, table, expected)
    if address is not None:
        return address
    if spelled_with_example(heard, table):
        return Completeness.DICTATING
    said = dictated(heard, table)
    if not said.digits:
        several = said.letters > 1 and not table.cannot_end.issuperset(said.words)
        one_of_several = said.letters > 0 and expected in _SPELLED and said.words[-1] not in table.cannot_end
        return Completeness.DICTATING if several or one_of_several else None
    if expected in _COUNTED:
        return None
    if _is_whole(said, table, expected):
        return Completeness.COMPLETE
    if not _is_dictation(said, table, expected):
        return None
    return Completeness.DICTATED if _may_be_whole(said, table, expected) else Completeness.DICTATING


def _may_be_whole(said: Dictated, table: Words, expected: Expected) -> bool:
    """Whether there are digits enough for a number whose length nobody can know; a telephone number's is known."""
    named = table.number_nouns.intersection(said.before)
    of_any_length = expected is Expected.NUMBER if not named else not named & (table.phone_nouns | table.postcode_nouns)
    return of_any_length and said.digits >= _LONG_ENOUGH


def _is_whole(said: Dictated, table: Words, expected: Expected) -> bool:
    before = table.number_nouns.intersection(said.before)
    if expected is Expected.BIRTHDATE:
        # With the month's name a year of two or four digits is missing at most; "mille neuf cent" leaves two.
        year = 2 if not table.scales.isdisjoint(said.before) else 4
        return said.digits >= (6 if table.months.isdisjoint(said.before) else year)
    if expected is Expected.POSTCODE or before & table.postcode_nouns:
        return is_postcode(said.characters)
    phone = expected is Expected.PHONE or not before or bool(before & table.phone_nouns)
    return phone and expected is not Expected.SPELLING and is_phone_number(said.characters, table)


def _is_dictation(said: Dictated, table: Words, expected: Expected) -> bool:
    before = said.before[-1] if said.before else START
    named = not table.number_nouns.isdisjoint(said.before)
    if expected in _DICTATED or named:
        # "the same one": a number word that is no digit follows what no number follows.
        follows = (table.copulas, table.number_nouns, table.months)
        return said.groups > 1 or before == START or any(before in kind for kind in follows)
    if before in table.clock or not table.scales.isdisjoint(said.words):
        return False
    return said.groups >= _SPOKEN_GROUPS or (said.words[-1].isdigit() and len(said.words[-1]) >= _WHOLE_NUMBER)


def _email(heard: list[str], table: Words, expected: Expected) -> Completeness | None:
    """As `_dictation`, of an e-mail address."""
    nouns = [place for place, word in enumerate(heard) if word in table.email_nouns]
    copulas = [place for place, word in enumerate(heard) if word in table.copulas and place >= (nouns or [0])[-1]]
    named = bool(nouns) and bool(copulas)
    given = heard[copulas[0] + 1 :] if copulas and (named or copulas[0] < 2) else heard
    dotted = any(word in table.dots or word in "._" for word in given)
    whole = is_address_whole(given, table)
    if not given or not (named or expected is Expected.EMAIL or "@" in given or (dotted and whole is not None)):
        return None
    if whole is not None:
        return Completeness.COMPLETE if whole else Completeness.DICTATING
    parts = named or dotted or (len(given) <= 3 and not clauses(given, table) and not _longest(given, table.answers))
    return Completeness.DICTATING if parts and given[-1] not in table.cannot_end else None


def _goes_on(core: list[str], table: Words, expected: Expected) -> bool:
    """Whether people mostly say more after these words, whole as they are."""
    if 1 < len(core) < FEW_WORDS and core[0] in table.indirect and not has_verb(core[1:], table):
        return True
    if lacks_full_verb(core, table) or (len(core) == 1 and core[0] in table.verbs):
        return True
    if expected is Expected.NAME:
        named = [place for place, word in enumerate(core) if word in table.copulas]
        return len(core) - (named[0] + 1 if named else 0) == 1
    if len(core) == 1 and expected in (Expected.DATE, Expected.ADDRESS):
        return core[0] in table.months or core[0] in table.numbers or core[0].isdigit()
    if expected is Expected.BIRTHDATE and core[-1] in table.months:
        return True
    if not table.continuations.isdisjoint(core[2:]):
        return False
    if table.topics.at_beginning(core) or table.pending.at_end([START, *core]):
        return True
    if expected is Expected.ANYTHING and core[0] in table.determiners and 1 < len(core) < FEW_WORDS:
        return core[-1] not in table.anaphors and not has_verb(core[1:], table)
    timed = not table.times.isdisjoint(core)
    if table.narrations.at_beginning(core):
        return True
    wish = table.requests.at_beginning(core)
    if not wish:
        return False
    rest = core[wish:]
    if not table.scheduled.isdisjoint(core):
        return not timed
    return table.details.isdisjoint(rest if table.verb_final else rest[1:]) and not timed
