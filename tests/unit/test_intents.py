"""The scripted language model: what it understands, what it says, and what it asks the call to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from connector.host.local import LocalEngineHost
from connector.interfaces import (
    EngineContext,
    HangUp,
    IntentMatched,
    Message,
    PauseRecording,
    ReplyEvent,
    ResumeRecording,
    Role,
    TextDelta,
    Transfer,
)
from flavors.engines.intents import Intents, IntentsOptions, descriptor, expand, sentences

SCRIPT: dict[str, Any] = {
    "values": {"hours": "nine to five", "operator": "2000"},
    "contacts": [
        {"names": ["sales", "the sales department"], "extension": "2001"},
        {"names": ["maria garcia", "maria"], "extension": ""},
    ],
    "not_understood": ["Sorry, I did not understand.", "Sorry, again?", "Say operator."],
    "intents": [
        {
            "name": "hours",
            "phrases": ["when do you (open|close)", "[your] opening hours"],
            "replies": "{hours}.",
            "digits": "1",
        },
        {"name": "joke", "phrases": ["tell me a joke"], "replies": ["First joke.", "Second joke."]},
        {
            "name": "contact",
            "phrases": ["(connect me to|i want to speak to) {contact}"],
            "replies": "Connecting you to {contact}.",
            "transfer": "{extension}",
            "unavailable": "{contact} cannot be reached.",
        },
        {
            "name": "operator",
            "phrases": ["operator", "i want to speak to a human"],
            "replies": "One moment.",
            "transfer": "{operator}",
            "unavailable": "Nobody is here.",
            "digits": "0",
        },
        {"name": "who", "phrases": ["who can i talk to"], "replies": "You can talk to {contacts}."},
        {"name": "repeat", "phrases": ["say that again"], "replies": "Nothing yet.", "action": "repeat"},
        {"name": "bye", "phrases": ["goodbye", "that is all"], "replies": "Goodbye.", "action": "hang_up"},
    ],
}


def make(**changes: Any) -> Intents:
    return Intents(IntentsOptions.model_validate({**SCRIPT, **changes}))


async def reply(engine: Intents, *turns: str, greeting: str = "Welcome.") -> list[ReplyEvent]:
    """The events for the last of `turns`, after the replies to the earlier ones."""
    history = [Message(Role.ASSISTANT, greeting)]
    events: list[ReplyEvent] = []
    for turn in turns:
        history.append(Message(Role.USER, turn))
        events = [event async for event in engine.reply(history)]
        history.append(Message(Role.ASSISTANT, said(events)))
    return events


def said(events: list[ReplyEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("hello", ["hello"]),
        ("when do you (open|close)", ["when do you open", "when do you close"]),
        ("[your] address [please]", ["your address please", "your address", "address please", "address"]),
        ("(a [b|c]|d)", ["a b", "a c", "a", "d"]),
        ("call {contact}", ["call {contact}"]),
    ],
)
def test_a_template_stands_for_its_sentences(template: str, expected: list[str]) -> None:
    assert expand(template) == expected


@pytest.mark.parametrize("template", ["(a", "a)", "[a", "(a|b]", "[a]", "", "call {name}", "a } b", "(a|b) " * 20])
def test_a_broken_template_is_refused(template: str) -> None:
    with pytest.raises(ValueError):
        expand(template)


async def test_an_intent_is_named_before_its_text() -> None:
    assert await reply(make(), "When do you open?") == [IntentMatched("hours"), TextDelta("nine to five.")]


@pytest.mark.parametrize(
    "text",
    [
        "WHEN DO YOU CLOSE?!",
        "um, when do you, uh, close please",
        "Hi, could you tell me your opening hours?",
        "do you know when you open",
        "1",
    ],
)
async def test_case_punctuation_fillers_and_politeness_do_not_matter(text: str) -> None:
    assert (await reply(make(), text))[0] == IntentMatched("hours")


@pytest.mark.parametrize(
    "text",
    [
        "when do you sleep",
        "what is the weather like",
        "I want to speak French",
        "I want to speak to the sales manager of another company",
        "connect me to",
        "7",
        "",
        "???",
        "日本語",
    ],
)
async def test_what_the_script_does_not_know_gets_no_answer(text: str) -> None:
    assert await reply(make(), text) == [IntentMatched(""), TextDelta("Sorry, I did not understand.")]


async def test_a_text_between_two_contacts_is_not_guessed() -> None:
    assert (await reply(make(), "connect me to sales maria"))[0] == IntentMatched("")


async def test_misunderstandings_in_a_row_escalate_and_then_start_over() -> None:
    engine = make()
    assert said(await reply(engine, "x")) == "Sorry, I did not understand."
    assert said(await reply(engine, "x", "y")) == "Sorry, again?"
    assert said(await reply(engine, "x", "y", "z")) == "Say operator."
    assert said(await reply(engine, "x", "y", "z", "q")) == "Say operator."
    assert said(await reply(engine, "x", "y", "tell me a joke", "q")) == "Sorry, I did not understand."


async def test_replies_take_turns() -> None:
    assert said(await reply(make(), "tell me a joke")) == "First joke."
    assert said(await reply(make(), "tell me a joke", "x", "tell me a joke")) == "Second joke."
    assert said(await reply(make(), *["tell me a joke"] * 3)) == "First joke."


async def test_a_contact_is_transferred_to_its_extension() -> None:
    assert await reply(make(), "i want to speak to the sales department") == [
        IntentMatched("contact"),
        TextDelta("Connecting you to sales."),
        Transfer("2001"),
    ]


async def test_a_contact_without_extension_is_declined_politely() -> None:
    assert await reply(make(), "connect me to Maria") == [
        IntentMatched("contact"),
        TextDelta("maria garcia cannot be reached."),
    ]


async def test_the_operator_key_transfers_and_an_empty_operator_does_not() -> None:
    assert (await reply(make(), "0"))[1:] == [TextDelta("One moment."), Transfer("2000")]
    alone = make(values={"hours": "", "operator": ""})
    assert (await reply(alone, "0"))[1:] == [TextDelta("Nobody is here.")]


async def test_goodbye_hangs_up_after_its_text() -> None:
    assert (await reply(make(), "goodbye"))[1:] == [TextDelta("Goodbye."), HangUp()]


async def test_contacts_are_listed() -> None:
    assert said(await reply(make(), "who can I talk to?")) == "You can talk to sales or maria garcia."


async def test_repeat_says_the_whole_last_reply_though_only_a_part_was_heard() -> None:
    history = [
        Message(Role.ASSISTANT, "Welcome."),
        Message(Role.USER, "connect me to sales"),
        Message(Role.ASSISTANT, "Connecting"),
        Message(Role.USER, "say that again"),
    ]
    assert [event async for event in make().reply(history)] == [
        IntentMatched("repeat"),
        TextDelta("Connecting you to sales."),
    ]


async def test_repeat_before_anything_else_repeats_the_greeting() -> None:
    assert said(await reply(make(), "say that again", "say that again")) == "Welcome."
    history = [Message(Role.USER, "say that again")]
    assert said([event async for event in make().reply(history)]) == "Nothing yet."


def test_phrases_are_every_sentence_once() -> None:
    phrases = make().phrases
    assert "your opening hours" in phrases
    assert "connect me to the sales department" in phrases
    assert len(phrases) == len(set(phrases))
    assert not any("{" in phrase for phrase in phrases)


def changed(index: int, **changes: Any) -> dict[str, Any]:
    intents = [dict(intent) for intent in SCRIPT["intents"]]
    intents[index].update(changes)
    return {**SCRIPT, "intents": intents}


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (changed(0, phrases=["when (do you open"]), "expected"),
        (changed(0, replies="We open at {our}."), "our"),
        (changed(0, replies="Braces { here"), "expected '}'"),
        (changed(0, replies="{}"), "not the name of a value"),
        (changed(0, name="joke"), "more than one intent has this name"),
        (changed(0, digits="0"), "more than one intent has them"),
        (changed(0, phrases=["tell me a joke"]), "is said in both"),
        (changed(0, digits="x"), "pattern"),
        (changed(2, unavailable=()), "unavailable"),
        (changed(2, action="hang_up"), "exclude each other"),
        (changed(2, phrases=["connect me [to {contact}]"]), "must name a {contact}"),
        ({**SCRIPT, "contacts": []}, "there are no contacts"),
        ({**SCRIPT, "values": {"contact": "x"}}, "taken by the engine"),
        ({**SCRIPT, "intents": []}, "at least 1"),
        ({**SCRIPT, "moods": []}, "Extra inputs"),
    ],
)
def test_a_mistake_in_the_script_is_named(script: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match="(?s)" + message.replace("{", r"\{").replace("}", r"\}")):
        IntentsOptions.model_validate(script)


# ---------------------------------------------------------------- the script that comes with it

FLAVOR = Path(__file__).parents[2] / "flavors" / "offline.yml"


def front_desk() -> IntentsOptions:
    script = yaml.safe_load(FLAVOR.read_text())["llm"]
    assert script.pop("engine") == "intents"
    return IntentsOptions.model_validate(script)


def test_every_sentence_of_the_front_desk_means_what_it_says() -> None:
    options = front_desk()
    engine = Intents(options)
    for sentence in sentences(options):
        match = engine.match(sentence.text)
        assert match is not None, sentence.text
        assert (match.intent.name, match.contact) == (sentence.intent.name, sentence.contact), sentence.text


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("Hi, could you tell me what your opening hours are?", "hours"),
        ("What's your address?", "address"),
        ("Can I park my car near your office?", "parking"),
        ("Please put me through to David.", "contact"),
        ("I'd like to talk to a human.", "operator"),
        ("bye bye", "goodbye"),
        ("0", "operator"),
        ("9", "help"),
    ],
)
async def test_the_front_desk_understands_other_words_too(text: str, intent: str) -> None:
    assert (await reply(Intents(front_desk()), text))[0] == IntentMatched(intent)


def test_the_front_desk_answers_nothing_else() -> None:
    engine = Intents(front_desk())
    lines = (FLAVOR.parents[1] / "bench" / "out_of_grammar.txt").read_text().splitlines()
    strangers = [line for line in lines if line and line[0] not in "#["]
    assert [line for line in strangers if engine.match(line)] == []


async def test_it_loads_from_its_descriptor(tmp_path: Path) -> None:
    engine = descriptor.load(IntentsOptions.model_validate(SCRIPT), EngineContext(LocalEngineHost(), tmp_path))
    await engine.start()
    await engine.check()
    await engine.aclose()


async def test_the_recording_is_paused_before_the_reply_and_resumed_after_it() -> None:
    intents = [
        {"name": "pay", "phrases": ["i want to pay"], "replies": "Your card number, please.", "recording": "pause"},
        {"name": "done", "phrases": ["that was it"], "replies": "Thank you.", "recording": "resume"},
    ]
    engine = make(intents=intents)
    assert await reply(engine, "i want to pay") == [
        IntentMatched("pay"),
        PauseRecording(),
        TextDelta("Your card number, please."),
    ]
    assert await reply(engine, "that was it") == [IntentMatched("done"), TextDelta("Thank you."), ResumeRecording()]
