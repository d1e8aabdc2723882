"""What one language's words say about the end of a turn: the table that each language fills in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias

START = "^"
"""Stands before the first word, so that a pattern can ask for the beginning."""

Pattern: TypeAlias = tuple[frozenset[str] | None, ...]
"""A row of words, each any of a set; None is any word."""


def words(text: str) -> frozenset[str]:
    """The words of `text`, which are separated by white space."""
    return frozenset(text.split())


def listed(text: str) -> list[str]:
    """As `words`, in their order."""
    return text.split()


def phrases(text: str) -> frozenset[str]:
    """The lines of `text`, each a phrase."""
    return frozenset(line.strip() for line in text.strip().splitlines())


class Patterns:
    """Rows of patterns, found by the word at which the comparison begins: a judgement meets few of them."""

    def __init__(self, rows: Iterable[Pattern] = ()) -> None:
        self._by_last: dict[str | None, list[Pattern]] = {}
        self._by_first: dict[str | None, list[Pattern]] = {}
        for row in rows:
            for word in row[-1] or (None,):
                self._by_last.setdefault(word, []).append(row)
            for word in row[0] or (None,):
                self._by_first.setdefault(word, []).append(row)

    def at_end(self, heard: Sequence[str]) -> int:
        """How many of the last words of `heard` the longest matching pattern covers; 0 where none matches."""
        rows = chain(self._by_last.get(heard[-1], ()), self._by_last.get(None, ())) if heard else ()
        return max((len(row) for row in rows if len(row) <= len(heard) and _fits(row, heard[-len(row) :])), default=0)

    def at_beginning(self, heard: Sequence[str]) -> int:
        """How many of the first words of `heard` the longest matching pattern covers; 0 where none matches."""
        rows = chain(self._by_first.get(heard[0], ()), self._by_first.get(None, ())) if heard else ()
        return max((len(row) for row in rows if len(row) <= len(heard) and _fits(row, heard)), default=0)


def _fits(row: Pattern, heard: Sequence[str]) -> bool:
    return all(
        word in wanted if wanted is not None else word != START for wanted, word in zip(row, heard, strict=False)
    )


def patterns(text: str, **classes: frozenset[str]) -> Patterns:
    """The lines of `text`, each a pattern.

    Of words between blanks: `word`, `this/that`, `@class` of `classes`, `*` any word, `^` the beginning.
    """
    return Patterns(
        tuple(
            None if element == "*" else classes[element[1:]] if element[0] == "@" else frozenset(element.split("/"))
            for element in line.split()
        )
        for line in text.strip().splitlines()
    )


@dataclass(frozen=True)
class Words:
    """A language, as far as the end of a turn needs it.

    Everything is lower case, without punctuation but the apostrophe; hyphens are spaces, except that
    "e-mail" is "email". A table left empty decides nothing.
    """

    elides: bool = False
    """Whether an apostrophe ends a word (l'adresse) and does not only abbreviate one (I'd)."""

    # Whole utterances
    fillers: frozenset[str] = frozenset()
    """Sounds of somebody who looks for words: more follows."""
    backchannels: frozenset[str] = frozenset()
    """Phrases by which a listener says only that they listen."""
    lead_ins: frozenset[str] = frozenset()
    """Words before the sentence proper: they neither complete nor open it."""
    answers: frozenset[str] = frozenset()
    """Phrases that are a whole turn, or may stand before or after one: yes, thanks, goodbye."""
    wholes: frozenset[str] = frozenset()
    """Whole utterances that are complete though the rules below would doubt it."""
    short_answers: frozenset[str] = frozenset()
    """Whole utterances that are complete as the answer to a yes-or-no question only ("i do")."""
    announcements: frozenset[str] = frozenset()
    """Whole utterances after which people mostly go on: a greeting, a call for help."""
    courtesies: frozenset[str] = frozenset()
    """Phrases after a sentence that change nothing about it: please, thank you."""
    asides: Patterns = field(default_factory=Patterns)
    """Phrases after a sentence that leave it as it is ("i think")."""

    # The last words
    cannot_end: frozenset[str] = frozenset()
    """Words that need another one: articles, conjunctions, most prepositions, auxiliaries."""
    after_numbers: frozenset[str] = frozenset()
    """Those that end a time of day ("five am")."""
    cannot_end_after: Patterns = field(default_factory=Patterns)
    """Endings that need another word though their last word alone does not."""
    may_end: Patterns = field(default_factory=Patterns)
    """Endings that are fine though the two tables above forbid them."""
    particles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Prepositions that end a sentence as the particle of one of these verbs, said earlier (log … in, rufen … an)."""
    separated: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Verbs, in the form that is said first, which need one of these particles later (rufe … an)."""
    object_pronouns: frozenset[str] = frozenset()
    """Pronouns that such a preposition may follow ("what is this for")."""
    stranding: frozenset[str] = frozenset()
    """Prepositions that may end a question or a relative clause whose object came first ("what is this for")."""

    # The verb and its object
    transitive: frozenset[str] = frozenset()
    """Verb forms that need an object after them."""
    object_before: frozenset[str] = frozenset()
    """Words one to three places before such a verb that make up for it: the passive's auxiliary."""
    clitics: frozenset[str] = frozenset()
    """Object pronouns that do so where only auxiliaries and adverbs are between; elsewhere they are articles."""
    fronted: frozenset[str] = frozenset()
    """Words anywhere before it that may be its object: what, which, that."""
    quantified: frozenset[str] = frozenset()
    """The same for a measure: how many, how long."""
    nouns_too: frozenset[str] = frozenset()
    """Those of `transitive` that are nouns as well, which they are where no subject or auxiliary is before them."""
    adverbs: frozenset[str] = frozenset()
    """Words that may stand between a subject and its verb."""
    auxiliaries: frozenset[str] = frozenset()
    """Finite forms that show a clause by themselves."""
    subjects: frozenset[str] = frozenset()
    """Pronouns that can only be the subject, so that the word beside them is a verb."""
    verbs: frozenset[str] = frozenset()
    """Common forms of full verbs."""
    verb_endings: tuple[str, ...] = ()
    """Endings that make a word a verb where one is missing."""
    infinitive: frozenset[str] = frozenset()
    """Words that make the next one an infinitive (to)."""
    determiners: frozenset[str] = frozenset()
    """Words that begin a noun phrase."""
    verb_after_subject: frozenset[str] = frozenset()
    """Auxiliaries that ask a question before the subject and leave the full verb behind it ("does the shop open")."""
    asking: frozenset[str] = frozenset()
    """Words that may stand before such an auxiliary."""

    # Clauses
    subordinators: frozenset[str] = frozenset()
    """Words that open a clause, which needs a verb and, at the beginning, a second clause (if, when)."""
    embedding: frozenset[str] = frozenset()
    """Words that open a clause inside a sentence; at the beginning they ask a question (what, where)."""
    indirect: frozenset[str] = frozenset()
    """Those of a clause whose last word may be one of `closing`: "where your office is"."""
    closing: frozenset[str] = frozenset()
    """Auxiliaries that may be the last word of such a clause."""
    coordinators: frozenset[str] = frozenset()
    """And, but, or: what stands before them is no object of a verb after them."""
    verb_final: bool = False
    """Whether the verb of such a clause is its last word."""
    brackets: Patterns = field(default_factory=Patterns)
    """Beginnings that need an infinitive at the end (können sie … schicken)."""
    late_endings: tuple[str, ...] = ()
    """Endings of a verb that ends such a clause, where it is none of `verbs`."""
    infinitive_endings: tuple[str, ...] = ()
    """Endings of an infinitive."""
    not_infinitives: frozenset[str] = frozenset()
    """Words that look like an infinitive and are none."""
    possessives: frozenset[str] = frozenset()
    """My, our: an utterance that begins with one and has no verb is a subject without its sentence."""

    # Requests
    requests: Patterns = field(default_factory=Patterns)
    """Beginnings of a wish: what follows is often given in pieces."""
    pending: Patterns = field(default_factory=Patterns)
    """Endings whose point mostly follows ("is it possible", "what is the best way")."""
    anaphors: frozenset[str] = frozenset()
    """Words for one of several: with them a noun phrase alone is a choice, without it may be a subject."""
    topics: Patterns = field(default_factory=Patterns)
    """Beginnings that announce a matter ("i have a question"): people go on, whatever it is about."""
    narrations: Patterns = field(default_factory=Patterns)
    """Beginnings of what happened so far: people tell it before what they want."""
    scheduled: frozenset[str] = frozenset()
    """Words of a wish that is complete only with a time."""
    times: frozenset[str] = frozenset()
    """Words that give a time."""
    details: frozenset[str] = frozenset()
    """Words that add a particular to a wish: prepositions, conjunctions, relative pronouns."""
    continuations: frozenset[str] = frozenset()
    """Conjunctions that lead from a narration to its point."""

    # Dictation
    numbers: Mapping[str, str] = field(default_factory=dict)
    """Spoken numbers, up to four words, and their digits."""
    scales: frozenset[str] = frozenset()
    """Words of larger numbers: with one of them it is an amount, where nothing says that a number is dictated."""
    letters: Mapping[str, str] = field(default_factory=dict)
    """Names of letters and signs of more than one character, and what they stand for."""
    spelled_as: Patterns = field(default_factory=Patterns)
    """What stands between a letter and the word that explains it ("b as in bravo")."""
    number_nouns: frozenset[str] = frozenset()
    """Nouns whose value is dictated in groups."""
    phone_nouns: frozenset[str] = frozenset()
    """Those that mean a telephone number."""
    email_nouns: frozenset[str] = frozenset()
    """Those that mean an e-mail address."""
    copulas: frozenset[str] = frozenset()
    """What stands between such a noun and its value."""
    clock: frozenset[str] = frozenset()
    """Words after which numbers are a time or a year, not dictation."""
    at_signs: frozenset[str] = frozenset()
    """Names of @."""
    dots: frozenset[str] = frozenset()
    """Names of the dot in an address."""
    postcode_nouns: frozenset[str] = frozenset()
    """Words of a postcode's name."""
    months: frozenset[str] = frozenset()
    """Names of the months."""
    phone_digits: int = 10
    """Digits of a national telephone number."""
    trunk_phone_digits: int = 11
    """Digits of one that begins with 0 or 1, in a language whose countries differ."""

    # Questions of the agent, in the order of precedence
    questions: tuple[tuple[str, frozenset[str]], ...] = ()
    """Name of what is expected and the phrases that ask for it."""
    yes_no: Patterns = field(default_factory=Patterns)
    """Beginnings of a question to be answered by yes or no."""
    choice: frozenset[str] = frozenset()
    """Words between alternatives."""


def counted(units: Sequence[str], tens: Mapping[str, int], joint: str) -> dict[str, str]:
    """Spoken numbers 0 to 99: `units` from 0 on, then each of `tens` alone and with its unit after `joint`."""
    spoken = {word: str(number) for number, word in enumerate(units)}
    for ten, value in tens.items():
        spoken[ten] = str(value)
        for unit, word in enumerate(units[1:10], 1):
            spoken[f"{ten}{joint}{word}"] = str(value + unit)
    return spoken
