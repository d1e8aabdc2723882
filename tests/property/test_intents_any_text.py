"""The scripted model with any text: it always answers, and small talk around a sentence changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from connector.interfaces import IntentMatched, Message, ReplyEvent, Role, TextDelta
from flavors.engines.intents import Intents, IntentsOptions, Sentence, expand, sentences

OPTIONS = IntentsOptions.model_validate(
    {
        "contacts": [{"names": ["sales"], "extension": "1"}, {"names": ["maria garcia"], "extension": "2"}],
        "not_understood": ["First.", "Second."],
        "intents": [
            {"name": "hours", "phrases": ["when do you (open|close)", "opening hours"], "replies": "Nine to five."},
            {"name": "parking", "phrases": ["where can i park [my car]", "is there parking"], "replies": "Behind."},
            {
                "name": "contact",
                "phrases": ["(connect|transfer) me to {contact}"],
                "replies": "To {contact}.",
                "transfer": "{extension}",
                "unavailable": "No.",
            },
            {"name": "repeat", "phrases": ["say that again"], "replies": "Nothing.", "action": "repeat"},
            {"name": "bye", "phrases": ["goodbye"], "replies": "Goodbye.", "action": "hang_up"},
        ],
    }
)
ENGINE = Intents(OPTIONS)
SENTENCES = list(sentences(OPTIONS))


def reply(texts: list[str]) -> list[ReplyEvent]:
    async def collect() -> list[ReplyEvent]:
        return [event async for event in ENGINE.reply([Message(Role.USER, text) for text in texts])]

    return asyncio.run(collect())


@given(st.lists(st.text(max_size=200), min_size=1, max_size=5))
def test_any_text_gets_one_intent_and_one_text_first(texts: list[str]) -> None:
    intent, text, *actions = reply(texts)
    assert isinstance(intent, IntentMatched)
    assert isinstance(text, TextDelta)
    assert text.text
    assert len(actions) <= 1


@given(st.lists(st.text(max_size=50), min_size=1, max_size=5))
def test_the_same_history_gets_the_same_reply(texts: list[str]) -> None:
    assert reply(texts) == reply(texts)


@given(
    st.sampled_from(SENTENCES),
    st.lists(st.sampled_from(["um", "please", "hello", "well", "could you tell me"]), max_size=3),
    st.sampled_from([str.lower, str.upper, str.title]),
    st.sampled_from(["", ".", "?", " ...!", ", please."]),
)
def test_small_talk_case_and_punctuation_change_nothing(
    sentence: Sentence, around: list[str], case: Callable[[str], str], end: str
) -> None:
    match = ENGINE.match(case(" ".join([*around, sentence.text])) + end)
    assert match is not None
    assert (match.intent, match.contact) == (sentence.intent, sentence.contact)


words = st.sampled_from(["a", "b", "c"])
templates = st.recursive(
    words,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(" ".join)
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: "(" + "|".join(parts) + ")")
        | inner.map(lambda part: f"x [{part}]")
    ),
    max_leaves=6,
)


@given(templates)
def test_an_expanded_template_has_only_words(template: str) -> None:
    expanded = expand(template)
    assert expanded
    assert len(expanded) == len(set(expanded))
    assert all(set(sentence) <= set("abcx ") and sentence == sentence.strip() for sentence in expanded)


@given(st.text(alphabet="ab ()[]|{}", max_size=20))
def test_any_template_expands_or_is_refused(template: str) -> None:
    with suppress(ValueError):
        assert expand(template)
