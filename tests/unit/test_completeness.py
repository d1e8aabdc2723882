"""Whether a caller's words are a whole turn: sentences and their beginnings, dictation, listener sounds, questions."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.turn.completeness import Completeness, Expected, backchannel, expectation, filler_only, judge

DATA = Path(__file__).parents[1] / "data" / "turns"
LANGUAGES = ("en", "de", "fr", "es")

COMPLETE, OPEN = Completeness.COMPLETE, Completeness.OPEN
UNFINISHED, DICTATING, DICTATED = Completeness.UNFINISHED, Completeness.DICTATING, Completeness.DICTATED


@dataclass(frozen=True)
class Utterance:
    """One labelled utterance of a caller."""

    language: str
    half: str
    """`tuned`: the tables were written with it in view; `held-out`: they were not."""
    completeness: Completeness
    expected: Expected
    words: str


def utterances(half: str) -> list[Utterance]:
    """The labelled utterances of one half, in all languages."""
    found = []
    for language in LANGUAGES:
        with (DATA / f"completeness_{language}.tsv").open(encoding="utf-8", newline="") as file:
            found += [
                Utterance(
                    language,
                    row["half"],
                    Completeness(row["completeness"]),
                    Expected[row["expected"].upper()],
                    row["words"],
                )
                for row in csv.DictReader(file, delimiter="\t")
            ]
    return [utterance for utterance in found if utterance.half == half]


@pytest.fixture(scope="module")
def held_out() -> Counter[tuple[Completeness, Completeness]]:
    """(label, judgement) of the half that was never tuned on, and how often."""
    return Counter(
        (each.completeness, judge(each.words, each.language, each.expected)) for each in utterances("held-out")
    )


def test_callers_who_have_finished_are_hardly_ever_taken_for_unfinished(
    held_out: Counter[tuple[Completeness, Completeness]],
) -> None:
    finished = sum(count for (label, _), count in held_out.items() if label is COMPLETE)
    assert finished > 80
    assert held_out[COMPLETE, UNFINISHED] / finished < 0.04


def test_callers_who_pause_are_hardly_ever_answered_at_once(
    held_out: Counter[tuple[Completeness, Completeness]],
) -> None:
    pausing = sum(count for (label, _), count in held_out.items() if label is not COMPLETE)
    answered = sum(count for (label, judged), count in held_out.items() if label is not COMPLETE and judged is COMPLETE)
    assert pausing > 120
    assert answered / pausing < 0.06


def test_the_four_judgements_are_right(held_out: Counter[tuple[Completeness, Completeness]]) -> None:
    right = sum(count for (label, judged), count in held_out.items() if label is judged)
    assert right / held_out.total() > 0.92


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_examples_of_the_tables_hold(language: str) -> None:
    wrong = [
        each
        for each in utterances("tuned")
        if each.language == language and judge(each.words, language, each.expected) is not each.completeness
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("parts", "judged"),
    [
        (["What time do you open on Saturday?"], [COMPLETE]),
        (["I would like to book a table,", "for four people on Friday evening."], [UNFINISHED, COMPLETE]),
        (["i would like to book a table", "for four people on friday evening"], [OPEN, COMPLETE]),
        (["i want to change my appointment", "to next tuesday morning"], [OPEN, COMPLETE]),
        (["my order number is", "seven four nine", "two one"], [UNFINISHED, DICTATING, DICTATED]),
        (["could you please send", "the invoice to my email address"], [UNFINISHED, COMPLETE]),
        (["i was hoping that you could", "send me the details today"], [UNFINISHED, COMPLETE]),
        (["is it possible", "to come on thursday"], [OPEN, COMPLETE]),
        (["in that case", "i would like", "the second one"], [UNFINISHED, UNFINISHED, COMPLETE]),
    ],
)
def test_a_caller_is_heard_to_the_end(parts: list[str], judged: list[Completeness]) -> None:
    assert [judge(" ".join(parts[: count + 1])) for count in range(len(parts))] == judged


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        ("who am i speaking to", True),
        ("i am speaking to", False),
        ("what is this for", True),
        ("what is the price for", False),
        ("can you turn it on", True),
        ("it depends on", False),
        ("the card i received", True),
        ("yesterday i received", False),
        ("there is a problem with my order", None),
        ("i want to order", False),
        ("what do you need", True),
        ("do you need", False),
        ("set it for five am", True),
        ("i am", False),
        ("if i pay today do i get a discount", True),
        ("if i pay today", False),
        ("when do you open", True),
        ("when i come home", False),
        ("do you know what the price is", True),
        ("the price is", False),
    ],
)
def test_the_same_last_word_ends_one_sentence_and_not_another(words: str, whole: bool | None) -> None:
    assert judge(words) is {True: COMPLETE, False: UNFINISHED, None: OPEN}[whole]


@pytest.mark.parametrize(
    ("words", "language", "whole"),
    [
        ("ich rufe wegen meiner rechnung", "de", False),
        ("ich rufe wegen meiner rechnung an", "de", True),
        ("können sie mir die rechnung", "de", False),
        ("können sie mir die rechnung schicken", "de", True),
        ("ich weiß nicht ob sie heute", "de", False),
        ("ich weiß nicht ob sie heute geöffnet haben", "de", True),
        ("wird es morgen windig sein", "de", True),
        ("pouvez-vous l'envoyer", "fr", True),
        ("pouvez-vous envoyer", "fr", False),
        ("me lo puede enviar", "es", True),
        ("me puede enviar", "es", False),
    ],
)
def test_verbs_at_the_end_and_objects_before_the_verb(words: str, language: str, whole: bool) -> None:
    assert judge(words, language) is (COMPLETE if whole else UNFINISHED)


@pytest.mark.parametrize(
    "words", ["I'd like to know,", "I'd like to", "so I...", "the reason is-", "well, um", "and", ""]
)
def test_a_sentence_that_was_cut(words: str) -> None:
    assert judge(words) is UNFINISHED


def test_the_full_stop_of_a_recogniser_says_nothing() -> None:
    assert judge("My order number is.") is UNFINISHED
    assert judge("Could you please send.") is UNFINISHED


@pytest.mark.parametrize(
    ("words", "expected", "judged"),
    [
        ("yes", Expected.ANYTHING, COMPLETE),
        ("no thanks", Expected.ANYTHING, COMPLETE),
        ("i do", Expected.YES_NO, COMPLETE),
        ("i do", Expected.ANYTHING, UNFINISHED),
        ("the blue one", Expected.CHOICE, COMPLETE),
        ("tomorrow", Expected.DATE, COMPLETE),
        ("march", Expected.DATE, OPEN),
        ("two", Expected.QUANTITY, COMPLETE),
        ("at seven thirty", Expected.TIME, COMPLETE),
        ("john", Expected.NAME, OPEN),
        ("john smith", Expected.NAME, COMPLETE),
        ("twelve", Expected.ADDRESS, OPEN),
        ("twelve baker street", Expected.ADDRESS, COMPLETE),
        ("i don't have one", Expected.EMAIL, COMPLETE),
        ("it's the same one", Expected.PHONE, COMPLETE),
    ],
)
def test_short_answers(words: str, expected: Expected, judged: Completeness) -> None:
    assert judge(words, "en", expected) is judged


@pytest.mark.parametrize(
    ("words", "language", "expected", "judged"),
    [
        ("seven four nine", "en", Expected.ANYTHING, DICTATING),
        ("7, 4, 9", "en", Expected.ANYTHING, DICTATING),
        ("It's 74921.", "en", Expected.NUMBER, DICTATED),
        ("my order number is seven four nine two one", "en", Expected.ANYTHING, DICTATED),
        ("my phone number is seven four nine two one", "en", Expected.ANYTHING, DICTATING),
        ("oh two oh double seven", "en", Expected.PHONE, DICTATING),
        ("oh two oh double seven nine four six oh nine five", "en", Expected.PHONE, COMPLETE),
        ("+1 555 123 4567", "en", Expected.PHONE, COMPLETE),
        ("zéro six douze trente-quatre", "fr", Expected.PHONE, DICTATING),
        ("zéro six douze trente-quatre cinquante-six quatre-vingt-dix-sept", "fr", Expected.PHONE, COMPLETE),
        ("null eins sieben sechs vierunddreißig", "de", Expected.PHONE, DICTATING),
        ("seis uno dos treinta y cuatro cincuenta y seis siete ocho", "es", Expected.PHONE, COMPLETE),
        ("nine four one", "en", Expected.POSTCODE, DICTATING),
        ("nine four one oh seven", "en", Expected.POSTCODE, COMPLETE),
        ("s w one a", "en", Expected.POSTCODE, DICTATING),
        ("s w one a one a a", "en", Expected.POSTCODE, COMPLETE),
        ("fifth of march nineteen", "en", Expected.BIRTHDATE, DICTATING),
        ("fifth of march nineteen eighty five", "en", Expected.BIRTHDATE, COMPLETE),
        ("oh five oh three", "en", Expected.BIRTHDATE, DICTATING),
        ("j o h n", "en", Expected.ANYTHING, DICTATING),
        ("J-O-H-N", "en", Expected.ANYTHING, DICTATING),
        ("b as in bravo", "en", Expected.ANYTHING, DICTATING),
        ("b wie berta", "de", Expected.ANYTHING, DICTATING),
        ("john dot smith at", "en", Expected.ANYTHING, DICTATING),
        ("john dot smith at", "en", Expected.EMAIL, DICTATING),
        ("john dot smith at gmail dot com", "en", Expected.ANYTHING, COMPLETE),
        ("john dot smith at b t dot co", "en", Expected.EMAIL, DICTATING),
        ("john dot smith at b t dot co dot uk", "en", Expected.EMAIL, COMPLETE),
        ("It's john.smith@gmail.com.", "en", Expected.EMAIL, COMPLETE),
        ("anna punkt berg at web punkt d e", "de", Expected.EMAIL, COMPLETE),
    ],
)
def test_dictation(words: str, language: str, expected: Expected, judged: Completeness) -> None:
    assert judge(words, language, expected) is judged


@pytest.mark.parametrize(
    "words",
    [
        "a table for two at seven thirty",
        "i was born in nineteen eighty five",
        "one hundred and twenty five dollars",
        "i paid with my card on the twenty first and nobody told me anything about room two hundred fifty",
    ],
)
def test_numbers_in_a_sentence_are_no_dictation(words: str) -> None:
    assert judge(words) is COMPLETE


@pytest.mark.parametrize("language", ["it", "xx", ""])
def test_what_holds_in_any_language(language: str) -> None:
    assert judge("vorrei prenotare un tavolo", language) is OPEN
    assert judge("vorrei prenotare,", language) is UNFINISHED
    assert judge("vorrei um", language) is UNFINISHED
    assert judge("3 4 5 7", language) is DICTATING


def test_regions_speak_their_language() -> None:
    assert judge("ich möchte", "de-AT") is judge("ich möchte", "de") is UNFINISHED


@pytest.mark.parametrize(
    ("words", "language"),
    [
        ("uh-huh", "en"),
        ("Mm-hmm.", "en"),
        ("yeah yeah", "en"),
        ("ok, right", "en"),
        ("I see.", "en"),
        ("mhm", "de"),
        ("ja genau", "de"),
        ("ah d'accord", "fr"),
        ("vale vale", "es"),
        ("uh-huh", "xx"),
    ],
)
def test_listener_sounds(words: str, language: str) -> None:
    assert backchannel(words, language)


@pytest.mark.parametrize("words", ["yeah but wait", "no", "stop", "yes please send it", "hello", ""])
def test_words_that_are_more_than_listening(words: str) -> None:
    assert not backchannel(words)


def test_fillers_are_those_of_all_languages() -> None:
    assert all(filler_only(words) for words in ("um", "Uh, um", "äh", "euh...", "eh"))
    assert not any(filler_only(words) for words in ("uh-huh", "mm-hmm", "um yes", "no", ""))


@pytest.mark.parametrize(
    ("question", "language", "expected"),
    [
        ("How can I help you today?", "en", Expected.ANYTHING),
        ("What is your order number?", "en", Expected.NUMBER),
        ("Could you give me the number of your phone?", "en", Expected.PHONE),
        ("Is this your phone number?", "en", Expected.YES_NO),
        ("Can I help you with anything else?", "en", Expected.YES_NO),
        ("Would you like tea or coffee?", "en", Expected.CHOICE),
        ("Morning or afternoon?", "en", Expected.CHOICE),
        ("Thanks! Could you spell that for me?", "en", Expected.SPELLING),
        ("And what's your date of birth?", "en", Expected.BIRTHDATE),
        ("How many people?", "en", Expected.QUANTITY),
        ("May I have your name, please?", "en", Expected.NAME),
        ("What is your e-mail address?", "en", Expected.EMAIL),
        ("Please tell me your zip code.", "en", Expected.POSTCODE),
        ("What time would you like to come?", "en", Expected.TIME),
        ("Which day works best for you?", "en", Expected.DATE),
        ("What address should we deliver to?", "en", Expected.ADDRESS),
        ("What is your number? I can wait.", "en", Expected.NUMBER),
        ("Your table is booked.", "en", Expected.ANYTHING),
        ("", "en", Expected.ANYTHING),
        ("Wie ist Ihre Kundennummer?", "de", Expected.NUMBER),
        ("Passt Ihnen das?", "de", Expected.YES_NO),
        ("Quelle est votre adresse e-mail ?", "fr", Expected.EMAIL),
        ("Est-ce que cela vous convient ?", "fr", Expected.YES_NO),
        ("¿Cuál es su número de pedido?", "es", Expected.NUMBER),
        ("¿Le parece bien?", "es", Expected.YES_NO),
        ("Qual è il suo numero?", "it", Expected.ANYTHING),
    ],
)
def test_what_the_agent_asked_for(question: str, language: str, expected: Expected) -> None:
    assert expectation(question, language) is expected


_SAID = st.sampled_from(
    [
        "i",
        "we",
        "the",
        "my",
        "is",
        "do",
        "please",
        "um",
        "yes",
        "seven",
        "4",
        "a",
        "b",
        "@",
        ".",
        ",",
        "...",
        "to",
        "send",
        "that",
        "what",
        "if",
        "when",
        "ich",
        "sie",
        "an",
        "je",
        "l'",
        "le",
        "me",
        "lo",
        "y",
    ]
)


@given(
    st.lists(_SAID | st.text(max_size=6), max_size=12).map(" ".join),
    st.sampled_from([*LANGUAGES, "xx"]),
    st.sampled_from(Expected),
)
def test_whatever_a_recogniser_writes_is_judged(words: str, language: str, expected: Expected) -> None:
    assert judge(words, language, expected) in Completeness
    assert expectation(words, language) in Expected
    assert not (backchannel(words, language) and not words.strip())
