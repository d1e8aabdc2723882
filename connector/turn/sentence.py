"""Whether a row of recognised words can be a sentence: how it ends, and whether its clauses have their verbs.

Not a parser: each rule asks one question that a table of `connector.turn.words` can answer, and says no
only where the words show it; a word that no table knows is taken for one that fits.
"""

from __future__ import annotations

from collections.abc import Sequence

from connector.turn.words.table import START, Words

_LONG_CLAUSE = 8
"""Words after which a clause before the main one is not taken for unfinished: the main one was not recognised."""

FEW_WORDS = 5
"""Fewer words than this, without a known verb, may yet get one ("how many people", "the invoice")."""


def can_end(core: Sequence[str], whole: Sequence[str], table: Words) -> bool:
    """Whether the last words can be the last ones; `whole` with what was said before ("yes, i am")."""
    heard = [START, *core]
    last, before = core[-1], core[:-1]
    if table.requests.at_beginning(core) == len(core):
        return False
    if any(verb in before and particles.isdisjoint(core) for verb, particles in table.separated.items()):
        return False
    if table.may_end.at_end(heard) or table.may_end.at_end(whole):
        return True
    if not table.particles.get(last, frozenset()).isdisjoint(before):
        return True
    if last in table.after_numbers and before and (before[-1] in table.numbers or before[-1][0].isdigit()):
        return True
    if last in table.closing and not table.indirect.isdisjoint(core[1:-2]):
        return True
    if last in table.stranding and (_is_relative(before, table) or not table.fronted.isdisjoint(before)):
        return before[-1] in table.object_pronouns or _is_verb(before[-1], table)
    if last in table.transitive:
        return _has_object(core, table)
    return last not in table.cannot_end and not table.cannot_end_after.at_end(heard)


def _is_verb(word: str, table: Words) -> bool:
    return (
        word in table.verbs
        or word in table.transitive
        or (bool(table.verb_endings) and word.endswith(table.verb_endings))
    )


def _has_object(core: Sequence[str], table: Words) -> bool:
    """Whether the transitive verb at the end has its object before it, or is a noun."""
    before = _last_clause(core, table)[:-1]
    previous = next((word for word in reversed(before) if word not in table.adverbs), START)
    between = (word for word in reversed(before) if word not in table.auxiliaries and word not in table.adverbs)
    if next(between, START) in table.clitics:
        return True
    if previous not in table.infinitive and not table.object_before.isdisjoint(before[-3:]):
        return True
    if previous not in table.fronted and not (table.fronted.isdisjoint(before) and table.quantified.isdisjoint(before)):
        return True
    if previous != START and core[-1] in table.nouns_too:
        verbal = (table.subjects, table.object_pronouns, table.infinitive, table.auxiliaries)
        if not any(previous in kind for kind in verbal):
            return True
    return _is_relative(core, table)


def _last_clause(core: Sequence[str], table: Words) -> Sequence[str]:
    start = max((place for place, word in enumerate(core) if word in table.coordinators), default=-1)
    return core[start + 1 :]


def _is_relative(core: Sequence[str], table: Words) -> bool:
    """Whether the verb at the end is that of a relative clause without its pronoun: "the card i received"."""
    place = len(core) - 2
    while place > 0 and (core[place] in table.adverbs or core[place] in table.auxiliaries):
        place -= 1
    is_subject = place > 0 and (core[place] in table.subjects or core[place] in table.object_pronouns)
    return is_subject and _is_verb(core[-1], table) and _is_noun(core[:place], table)


def _is_noun(heard: Sequence[str], table: Words) -> bool:
    """Whether the last word of `heard` is taken for a noun: nothing else is known of it."""
    word = heard[-1]
    if len(heard) > 1 and heard[-2] in table.determiners:
        return True
    known = (table.auxiliaries, table.cannot_end, table.embedding, table.subordinators, table.lead_ins, table.subjects)
    return len(heard) > 1 and not (
        any(word in kind for kind in known)
        or word in table.times
        or word in table.adverbs
        or word in table.object_pronouns
        or _is_verb(word, table)
    )


def clauses(heard: Sequence[str], table: Words) -> int:
    """How many clauses show their verb in `heard`."""
    count = 0
    for place, word in enumerate(heard):
        near = (*heard[max(place - 1, 0) : place], *heard[place + 1 : place + 2])
        if word in table.auxiliaries:
            count += not table.auxiliaries.intersection(heard[max(place - 1, 0) : place])
        elif word in table.subjects and place + 1 < len(heard):
            count += table.auxiliaries.isdisjoint(near)
    return count


def has_verb(heard: Sequence[str], table: Words) -> bool:
    """Whether `heard` shows a verb."""
    return (
        clauses(heard, table) > 0
        or any(word in table.infinitive or _is_verb(word, table) for word in heard)
        or not table.object_pronouns.isdisjoint(heard[:-1])
    )


def has_its_verbs(core: Sequence[str], table: Words, *, fragment: bool) -> bool:
    """Whether each clause that was opened has its verb; with `fragment` a noun phrase alone may be an answer."""
    first = core[0]
    opened = max((place for place, word in enumerate(core) if word in table.embedding and place), default=0)
    if opened and core[opened + 1 :] and not table.may_end.at_end([START, *core]):
        clause = core[opened + 1 :]
        if not (_ends_in_verb(clause, table) if table.verb_final else has_verb(clause, table)):
            return False
    asks = len(core) > 1 and core[1] in table.auxiliaries and core[1] not in table.subjects
    if first in table.subordinators and not asks and len(core) < _LONG_CLAUSE:
        shown = clauses(core[1:], table)
        if shown == 1 or (not shown and first in table.embedding):
            return False
    if table.brackets.at_beginning(core) and not _has_infinitive(core, table):
        return False
    bare = first in table.possessives and not fragment and 1 < len(core) < FEW_WORDS
    return not bare or has_verb(core[1:], table)


def _ends_in_verb(clause: Sequence[str], table: Words) -> bool:
    return any(word in table.verbs or word in table.auxiliaries for word in clause[1:] or clause) or (
        len(clause) > 1
        and clause[-1].endswith(table.late_endings)
        and clause[-1] not in table.not_infinitives
        and clause[-2] not in table.determiners
    )


def _has_infinitive(core: Sequence[str], table: Words) -> bool:
    return any(word in table.verbs for word in core[2:]) or (
        core[-1].endswith(table.infinitive_endings)
        and core[-1] not in table.not_infinitives
        and core[-2] not in table.determiners
    )


def lacks_full_verb(core: Sequence[str], table: Words) -> bool:
    """Whether a question has an auxiliary and a subject, but no known full verb: "when will my card payment"."""
    for place, word in enumerate(core[:-1]):
        asks = word in table.verb_after_subject and (not place or core[place - 1] in table.asking)
        if asks and core[place + 1] in table.determiners:
            return not any(_is_verb(verb, table) for verb in core[place + 3 :])
    return False
