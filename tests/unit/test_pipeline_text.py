"""Sentences, the history, and the script of what was heard."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from connector.interfaces import Role
from connector.pipeline.generation import Generations
from connector.pipeline.history import History
from connector.pipeline.script import Script
from connector.pipeline.sentences import LONGEST, SentenceSplitter, split

# ------------------------------------------------------------------------------ sentences


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello there. How are you?", ["Hello there.", "How are you?"]),
        ("We are at the station", ["We are at the station"]),
        ("Dr. Smith is in. He sees you at 3 p.m. today.", ["Dr. Smith is in.", "He sees you at 3 p.m. today."]),
        ("It costs 3.50 euros. That is all.", ["It costs 3.50 euros.", "That is all."]),
        ("Well... let me see. It is open.", ["Well... let me see.", "It is open."]),
        ("Yes. No. Maybe so. Fine.", ["Yes. No. Maybe so.", "Fine."]),
        ("We sell:\n1. Apples and pears\n2. Plums", ["We sell: 1. Apples and pears", "2. Plums"]),
        ("- red apples\n- green apples\n", ["- red apples", "- green apples"]),
        ('He said "Stop it." Then he left.', ['He said "Stop it."', "Then he left."]),
        ("J. R. Tolkien wrote it. Really?!  Yes, he did!", ["J. R. Tolkien wrote it.", "Really?! Yes, he did!"]),
        (
            "Write to info@example.com. Visit www.example.com now.",
            ["Write to info@example.com.", "Visit www.example.com now."],
        ),
        ("我们的营业时间是早上九点。请明天再来。", ["我们的营业时间是早上九点。", "请明天再来。"]),
        ("", []),
        (" \n \n", []),
    ],
)
def test_pieces(text: str, pieces: list[str]) -> None:
    assert split(text) == pieces


def test_a_sentence_is_complete_at_the_space_after_it() -> None:
    splitter = SentenceSplitter()
    assert splitter.push("We are open on Monday.") == []
    assert splitter.push(" ") == ["We are open on Monday."]
    assert splitter.flush() == []


def test_the_first_sentence_is_complete_at_once_where_its_last_word_leaves_no_doubt() -> None:
    splitter = SentenceSplitter()
    assert splitter.push("We are open today.") == ["We are open today."]
    assert splitter.push(" We are open now.") == []
    assert splitter.push(" ") == ["We are open now."]


def test_the_first_piece_may_end_at_a_clause() -> None:
    text = "Thank you very much for calling us today, I will look that up for you, one moment please, it takes a while."
    first, rest = split(text)
    assert first == "Thank you very much for calling us today,"
    assert rest == text[len(first) + 1 :]


def test_text_without_an_end_comes_in_pieces() -> None:
    for text in ("word " * 500, "word, " * 500, "x" * 2000):
        pieces = split(text)
        assert max(map(len, pieces)) <= LONGEST
        assert min(map(len, pieces[1:-1])) > LONGEST / 2
        assert not any(piece.startswith(("rd", "ord", "d")) for piece in pieces)


# ------------------------------------------------------------------------------ script


def spoken() -> Script:
    """Two pieces: 2 s of five words, then 1 s of two."""
    script = Script()
    script.begin("one two three four five")
    script.add(1.5)
    script.add(0.5)
    script.begin("six seven")
    script.add(1.0)
    script.end()
    return script


@pytest.mark.parametrize(
    ("position", "heard", "whole"),
    [
        (0.0, "", 0),
        (0.1, "", 0),
        (0.4, "one", 0),
        (1.0, "one two", 0),
        (1.95, "one two three four", 0),
        (2.0, "one two three four five", 1),
        (2.2, "one two three four five", 1),
        (2.5, "one two three four five six", 1),
        (3.0, "one two three four five six seven", 2),
        (math.inf, "one two three four five six seven", 2),
    ],
)
def test_what_was_heard_is_cut_at_the_word(position: float, heard: str, whole: int) -> None:
    assert spoken().heard(position) == heard
    assert spoken().heard_whole(position) == whole


def test_a_piece_still_being_made_is_longer_than_its_audio_so_far() -> None:
    script = Script()
    script.begin("a" * 14 + ".")
    script.add(1.0)
    script.begin("one two three four five six")
    script.add(0.1)
    assert script.heard(1.1) == "a" * 14 + "."
    script.add(0.9)
    assert script.heard(2.0) == "a" * 14 + ". one two three"


def test_a_voice_that_failed_said_what_it_said() -> None:
    script = Script()
    script.begin("one two three four five six")
    script.add(0.6)
    script.abandon()
    script.begin("Sorry.")
    script.add(0.4)
    script.end()
    assert script.heard(math.inf) == "one two Sorry."


# ------------------------------------------------------------------------------ history


def contents(history: History) -> list[tuple[str, str]]:
    return [(message.role.value, message.content) for message in history.messages]


def test_the_history_is_what_was_said_and_heard() -> None:
    history = History("Be kind.")
    history.add("", "Hello.")
    history.add("what time is it", "It is", cut=True)
    assert contents(history) == [
        ("system", "Be kind."),
        ("assistant", "Hello."),
        ("user", "what time is it"),
        ("assistant", "It is…"),
    ]


def test_asking_adds_nothing() -> None:
    history = History()
    assert [message.content for message in history.asking("hello")] == ["hello"]
    assert contents(history) == []


def test_what_was_not_answered_is_asked_together_with_what_follows() -> None:
    history = History()
    history.add("hello", "")
    assert [message.content for message in history.asking("are you there")] == ["hello are you there"]


def test_a_repeated_prompt_is_kept_once() -> None:
    history = History()
    for _ in range(100):
        history.add("", "Are you still there?")
    assert contents(history) == [("assistant", "Are you still there?")]


def test_an_answer_that_happens_to_be_the_same_is_kept() -> None:
    history = History()
    history.add("one", "Yes.")
    history.add("two", "Yes.")
    assert [role for role, _ in contents(history)] == ["user", "assistant"] * 2


def test_a_long_history_loses_its_older_half_at_once() -> None:
    history = History("Be kind.", limit=1000)
    lengths = []
    for number in range(100):
        history.add(f"question {number:4}", f"answer {number:6}")
        lengths.append(len(history.messages))
    assert max(lengths) <= 80
    assert sum(later < earlier for earlier, later in pairwise(lengths)) < 10
    assert history.messages[0].role is Role.SYSTEM
    assert history.messages[-1].content == "answer     99"


# ------------------------------------------------------------------------------ generations


def test_a_new_generation_makes_the_older_one_stale() -> None:
    generations = Generations()
    first = generations.begin()
    assert (first.number, first.live) == (1, True)
    second = generations.begin()
    assert (second.number, first.live, second.live) == (2, False, True)
    second.cancel()
    second.cancel()
    assert not second.live
    assert str(second) == "generation 2 (cancelled)"
