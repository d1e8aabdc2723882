"""Passages that may not be interrupted: how they are marked, and that a stream of any chunks reads the same."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.config.passages import paired
from connector.pipeline.passages import Passage, PassageReader, passages, plain


def test_a_text_without_marks_is_one_passage() -> None:
    assert passages("Hello. 2 < 3, is it not?") == [Passage("Hello. 2 < 3, is it not?", True)]
    assert passages("") == []


def test_marked_words_may_not_be_interrupted() -> None:
    text = "Hello. <no-interrupt>Calls are recorded.</no-interrupt> How can I help?"
    assert passages(text) == [
        Passage("Hello. ", True),
        Passage("Calls are recorded.", False),
        Passage(" How can I help?", True),
    ]
    assert plain(text) == "Hello. Calls are recorded. How can I help?"


def test_a_whole_text_may_be_marked_and_case_does_not_matter() -> None:
    assert passages("<No-Interrupt>Wait.</NO-INTERRUPT>") == [Passage("Wait.", False)]


def test_what_a_model_forgets_to_close_lasts_to_the_end() -> None:
    assert passages("A. <no-interrupt>B.") == [Passage("A. ", True), Passage("B.", False)]
    assert passages("A.</no-interrupt> B.") == [Passage("A. B.", True)]


def test_a_stream_is_held_back_only_where_a_tag_may_be_coming() -> None:
    reader = PassageReader()
    assert reader.push("Less < ") == [Passage("Less < ", True)]
    assert reader.push("more <no-int") == [Passage("more ", True)]
    assert reader.push("erest> said ") == [Passage("<no-interest> said ", True)]
    assert reader.push("<") == []
    assert reader.push("no-interrupt>this") == [Passage("this", False)]
    assert reader.push(" <") == [Passage(" ", False)]
    assert reader.flush() == [Passage("<", False)]


MARKED = st.lists(
    st.sampled_from(["<no-interrupt>", "</no-interrupt>", "<", "</no", ">", "a", " b. ", "é"]), max_size=12
)


@given(MARKED, st.lists(st.integers(1, 8), min_size=1))
def test_chunks_do_not_matter(parts: list[str], sizes: list[int]) -> None:
    text = "".join(parts)
    reader, found, rest = PassageReader(), [], text
    while rest:
        size = sizes[len(rest) % len(sizes)]
        found += reader.push(rest[:size])
        rest = rest[size:]
    found += reader.flush()
    assert all(passage.text for passage in found)
    runs = [(kind, "".join(p.text for p in run)) for kind, run in groupby(found, lambda passage: passage.interruptible)]
    assert runs == [(passage.interruptible, passage.text) for passage in passages(text)]
    assert "".join(passage.text for passage in found) == plain(text)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("<no-interrupt>Wait.", "never closed"),
        ("Wait.</no-interrupt>", "closed before it is opened"),
        ("<no-interrupt>A <no-interrupt>B</no-interrupt></no-interrupt>", "opened within another"),
    ],
)
def test_a_configured_text_has_its_tags_in_pairs(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        paired(text)


def test_paired_tags_are_right() -> None:
    text = "<no-interrupt>A</no-interrupt> b <no-interrupt>C</no-interrupt>"
    assert paired(text) == text
