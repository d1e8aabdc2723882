"""Where a streamed reply is cut into pieces, and how many pieces are synthesised as one."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.pipeline.sentences import LONGEST, LONGEST_JOINED, SentenceSplitter, join, split


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        # The first piece is short, but not so short that it sounds odd alone.
        (
            "Sure, I can check that for you. Your booking is on Friday.",
            ["Sure, I can check that for you.", "Your booking is on Friday."],
        ),
        ("Yes, of course. One moment.", ["Yes, of course.", "One moment."]),
        ("Good morning, this is the desk. Hello.", ["Good morning,", "this is the desk.", "Hello."]),
        ("Sure. Let me look, one moment.", ["Sure. Let me look,", "one moment."]),
        # A comma, a dash or a colon beside a number is no clause's end.
        ("It is on November 20, 2026 at noon.", ["It is on November 20, 2026 at noon."]),
        ("We are open from 9 – 17 every day.", ["We are open from 9 – 17 every day."]),
        # Abbreviations: some never end a sentence, some do where a capital letter follows.
        ("Ask for Dr. Smith or Mrs. Jones. Thank you.", ["Ask for Dr. Smith or Mrs. Jones.", "Thank you."]),
        ("It closes at 5 p.m. Please come early.", ["It closes at 5 p.m.", "Please come early."]),
        ("It closes at 5 p.m. on Fridays.", ["It closes at 5 p.m. on Fridays."]),
        ("We sell apples, pears etc. You are welcome.", ["We sell apples,", "pears etc.", "You are welcome."]),
        ("Fruit, e.g. Granny Smith apples.", ["Fruit, e.g. Granny Smith apples."]),
        ("Hello, this is Max. How can I help you?", ["Hello, this is Max.", "How can I help you?"]),
        ("My answer is no. That is final.", ["My answer is no.", "That is final."]),
        ("It is (ref. #AB-1234) on Nov. 20th, 2026. Fine.", ["It is (ref. #AB-1234) on Nov. 20th, 2026.", "Fine."]),
        ("We are closed in Dec. We open in Jan. again.", ["We are closed in Dec.", "We open in Jan. again."]),
        ("You want Suite No. 5 on top.", ["You want Suite No. 5 on top."]),
        # German ordinals and dates.
        ("Ihr Termin ist am 3. Mai um neun. Gut so?", ["Ihr Termin ist am 3. Mai um neun.", "Gut so?"]),
        ("Das Büro ist im 2. Stock. Kommen Sie.", ["Das Büro ist im 2. Stock.", "Kommen Sie."]),
        ("Wir sehen uns am 20.11. um neun Uhr.", ["Wir sehen uns am 20.11. um neun Uhr."]),
        ("Geöffnet vom 3. bis 5. Mai, sonst nicht.", ["Geöffnet vom 3. bis 5. Mai,", "sonst nicht."]),
        (
            "Das ist bei Hrn. Dr. Müller in der Hauptstr. 5. Gut?",
            ["Das ist bei Hrn. Dr. Müller in der Hauptstr. 5.", "Gut?"],
        ),
        ("Cela coûte env. 15 euros, p. ex. Oui.", ["Cela coûte env. 15 euros,", "p. ex. Oui."]),
        ("The room opens at 9. Please be early.", ["The room opens at 9.", "Please be early."]),
        # Numbers and addresses.
        ("The value is 3.5 today. Right?", ["The value is 3.5 today.", "Right?"]),
        (
            "See https://example.com/a.b?c=d. Or write to maria.garcia@example.com. Thanks.",
            ["See https://example.com/a.b?c=d.", "Or write to maria.garcia@example.com.", "Thanks."],
        ),
        # Markdown is not cut in the middle.
        (
            "Read [the terms. All of them](https://example.com) now.",
            ["Read [the terms. All of them](https://example.com) now."],
        ),
        ("**Please note. We close early.** Thank you.", ["**Please note. We close early.**", "Thank you."]),
        ("Press `save. now` to go on. Then wait.", ["Press `save. now` to go on.", "Then wait."]),
        ("It is **bold, very** loud.", ["It is **bold, very** loud."]),
        (
            "This is **left open. And it ends.\nNext line. End.",
            ["This is **left open. And it ends.", "Next line.", "End."],
        ),
        (
            "Our hours:\n| Day | Hours. Yes |\n|---|---|\n| Monday | 9-5 |\nThat is all.",
            ["Our hours:", "| Day | Hours. Yes |", "|---|---| | Monday | 9-5 |", "That is all."],
        ),
        (
            "Run this:\n```python\nprint('a. B')\n\nprint(2)\n```\nThat is it.",
            ["Run this:", "```python print('a. B') print(2) ```", "That is it."],
        ),
        ("```\nnever closed. At all.\n", ["``` never closed. At all."]),
        ("- one apple. Red\n- two pears\n", ["- one apple.", "Red - two pears"]),
    ],
)
def test_pieces(text: str, pieces: list[str]) -> None:
    assert split(text) == pieces


def test_the_first_piece_is_there_with_its_last_word() -> None:
    splitter = SentenceSplitter()
    assert splitter.push("Sure, I can check that for you.") == ["Sure, I can check that for you."]
    assert splitter.push(" Your") == []


def test_fenced_code_is_one_piece_however_long() -> None:
    code = "```\n" + "x = 1.  # no. Sentence, here\n" * 40 + "```"
    pieces = split(f"Here is the code.\n{code}\nIt is long.")
    assert pieces[0] == "Here is the code."
    assert pieces[1] == " ".join(code.split())
    assert pieces[2] == "It is long."


markdown = st.lists(
    st.sampled_from(
        [
            "Hello there.",
            "5 p.m.",
            "etc.",
            "No.",
            "am 3.",
            "Mai",
            "we",
            "**",
            "`",
            "```",
            "[",
            "](",
            ")",
            "|",
            "\n",
            " ",
        ]
    ),
    max_size=40,
).flatmap(lambda parts: st.sampled_from(["", " "]).map(lambda joint: joint.join(parts)))


@given(markdown, st.lists(st.integers(0, 40)))
def test_pieces_are_the_text_however_it_was_chunked(text: str, sizes: list[int]) -> None:
    splitter = SentenceSplitter()
    pieces: list[str] = []
    cuts = [0, *accumulate(sizes), len(text)]
    for start, end in pairwise(sorted(min(cut, len(text)) for cut in cuts)):
        pieces += splitter.push(text[start:end])
    pieces += splitter.flush()
    assert pieces == split(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(piece.startswith("```") or len(piece) <= LONGEST for piece in pieces)


@pytest.mark.parametrize(
    ("lead", "count"),
    [(0.0, 1), (0.5, 1), (1.0, 2), (2.0, 4), (4.0, 8), (5.0, 10), (60.0, 10)],
)
def test_the_more_is_to_be_played_the_more_is_joined(lead: float, count: int) -> None:
    pieces = ["This is a short piece."] * 20
    assert join(pieces, lead) == (" ".join(pieces[:count]), count)


def test_a_piece_is_never_divided() -> None:
    assert join(["x" * LONGEST], 0.0) == ("x" * LONGEST, 1)
    assert join(["x" * LONGEST, "y"], 60.0) == ("x" * LONGEST, 1)


@given(st.lists(st.text("ab ", min_size=1, max_size=120), min_size=1), st.floats(0, 100))
def test_joined_pieces_are_the_first_ones(pieces: list[str], lead: float) -> None:
    text, count = join(pieces, lead)
    assert 1 <= count <= len(pieces)
    assert text == " ".join(pieces[:count])
    assert count == 1 or len(text) <= LONGEST_JOINED
