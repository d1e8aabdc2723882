"""Text as language models write it, made fit to be spoken."""

from __future__ import annotations

import random
import string
import time

import pytest

from chatterbox_service.text import LONGEST_PIECE, prepare

LONG = 16_384
"""Characters, of a text with which quadratic time shows."""


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Yes", "Yes."),
        ("Hello there!", "Hello there!"),
        ("  Hello,\n  there.  ", "Hello, there."),
        ("**Bold**, *slanted*, ~~gone~~ and `code`.", "Bold, slanted, gone and code."),
        ("A snake_case_name and 2 * 3 * 4 = 24.", "A snake_case_name and 2 * 3 * 4 = 24."),
        ("_Really_ __now__.", "Really now."),
        ("# Opening hours\nWe open at 9.", "Opening hours. We open at 9."),
        ("We have:\n- apples\n- pears\n\nAnything else?", "We have: apples. pears. Anything else?"),
        ("1. Call us\n2. Wait", "1. Call us. 2. Wait."),
        ("See [our site](https://example.com/a?b=c).", "See our site."),
        ("Write to https://www.example.com/help.", "Write to example.com/help."),
        ("![A cat](cat.png) sits.", "A cat sits."),
        ("<speak>Wait<break time='1s'/>here, <b>please</b>.</speak>", "Wait. here, please."),
        ("Tom &amp; Jerry say 3 &lt; 4.", "Tom & Jerry say 3 < 4."),
        ("Great 👍🏽 news 🎉!", "Great news !"),
        ("A family 👨‍👩‍👧 and a flag 🇩🇪.", "A family and a flag ."),
        ("It is 20 °C and costs 5 €.", "It is 20 °C and costs 5 €."),
        ("Oh [laugh] no.", "Oh [laugh] no."),
        ("```python\nprint(1)\n```", "print(1)."),
        ("| Day | Hours |\n|---|---|\n| Mon | 9 to 5 |", "Day, Hours. Mon, 9 to 5."),
        ("Cafe\u0301 \u200bopen\x07.", "Café open."),
        ("می\u200cخواهم", "می\u200cخواهم."),
        ("你好。", "你好。"),
        ("½", "1/2."),
        ("Take 2½ cups, or &frac34; of one.", "Take 2 1/2 cups, or 3/4 of one."),
        ("Take 1⁄2.", "Take 1/2."),
        ("5 m² are 10²³ of H₂O.", "5 m2 are 10 23 of H2O."),
        ("① Wait ② Call ①②", "1 Wait 2 Call 1 2."),
        ("Louis ⅩⅣ", "Louis XIV."),
        ("二〇二四年", "二〇二四年."),
    ],
)
def test_what_is_spoken(written: str, spoken: str) -> None:
    assert prepare(written) == [spoken]


@pytest.mark.parametrize("written", ["", "   \n", "👍", "...", "***", "---\n", "<br>", "```\n```", "?!"])
def test_nothing_to_speak(written: str) -> None:
    assert prepare(written) == []


def test_long_text_is_split_where_sentences_end_and_loses_nothing() -> None:
    sentences = [f"This is sentence number {number}, which says a little." for number in range(40)]
    pieces = prepare(" ".join(sentences))
    assert " ".join(pieces) == " ".join(sentences)
    assert all(len(piece) <= LONGEST_PIECE and piece.endswith("little.") for piece in pieces)
    assert min(map(len, pieces)) > LONGEST_PIECE / 3, "a short rest alone would sound cut off"


def test_titles_and_initials_end_no_sentence() -> None:
    text = "Please ask for Dr. Miller or for J. Smith at the desk. " * 6
    assert all(piece.endswith("desk.") for piece in prepare(text, longest=120))


def test_a_sentence_that_is_too_long_is_split_at_a_clause_or_a_word() -> None:
    clauses = prepare("We have apples and pears and plums, " * 20 + "and more.", longest=100)
    assert all(piece.endswith((",", "more.")) and len(piece) <= 100 for piece in clauses)
    words = prepare("word " * 100, longest=60)
    assert all(len(piece) <= 60 and set(piece.rstrip(".").split()) == {"word"} for piece in words)
    assert "".join(prepare("x" * 1000, longest=60)).rstrip(".") == "x" * 1000


def test_text_without_spaces_is_split_where_its_sentences_end() -> None:
    pieces = prepare("今天天气很好。我们去公园吧。" * 10, longest=40)
    assert all(piece.endswith("。") and len(piece) <= 40 for piece in pieces)


def test_any_text_makes_pieces_within_bounds() -> None:
    chooser = random.Random(1)
    alphabet = string.printable + "äß€👍🏽\u200d\ufe0f你好。*_`~[](){}<>|#"
    for _ in range(300):
        text = "".join(chooser.choices(alphabet, k=chooser.randrange(1200)))
        for piece in prepare(text):
            assert piece == piece.strip()
            assert 0 < len(piece) <= LONGEST_PIECE
            assert any(character.isalnum() for character in piece)


NASTY = (
    "**x ",
    "`",
    "[",
    "<a ",
    "_x ",
    "|",
    "- ",
    "~~a",
    "***",
    "a. ",
    "((",
    "# ",
    " ",
    "\t",
    "\n ",
    " \t|",
    "|-",
    "½",
)


@pytest.mark.parametrize("nasty", NASTY)
def test_hostile_markup_takes_no_long_time(nasty: str) -> None:
    began = time.process_time()
    prepare((nasty * LONG)[:LONG] + "x")
    assert time.process_time() - began < 2
