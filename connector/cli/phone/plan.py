"""What a caller of a scripted flavor says: drawn from what the flavor itself says that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from connector.interfaces import HangUp, IntentMatched, LanguageModel, Message, Role, TextDelta, Transfer

QUESTIONS = 3
"""Questions that the flavor knows, besides the one that it does not and the goodbye."""

SHORTEST = 3
"""Words of a question at least: callers do not speak in single words unless asked to."""

INTERRUPTIBLE = 80
"""Characters of a reply that lasts long enough to be interrupted (five seconds or so)."""

TOLERABLE = 110
"""Characters of a reply that the caller listens to as a whole, at most."""

STRANGE = (
    "I would like to order a large pizza with mushrooms.",
    "What is the capital of Mongolia?",
    "My cat has been sleeping on the piano since yesterday.",
    "How many goals did they score in the second half?",
    "Please play some jazz music in the kitchen.",
    "Is it going to rain in Copenhagen next week?",
    "The washing machine makes a terrible noise again.",
    "Can you translate this letter into Portuguese?",
)
"""Things that no front desk knows."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing to say, and what it should lead to.

    `intent`: its name, "" for "I did not understand". `reply`: the agent's words. `ends`: the agent
    hangs up. `interrupts`: it is said over the reply to the line before.
    """

    text: str
    intent: str
    reply: str
    ends: bool = False
    interrupts: bool = False


async def knowledge(model: LanguageModel) -> list[Line]:
    """Every sentence that `model` expects, with what it makes of it; those that transfer the call are left out."""
    lines = []
    for phrase in model.phrases:
        intent, reply, ends, leaves = "", "", False, False
        async for event in model.reply([Message(Role.USER, phrase)]):
            match event:
                case IntentMatched(name):
                    intent = name
                case TextDelta(text):
                    reply += text
                case HangUp():
                    ends = True
                case Transfer():
                    leaves = True
        if intent and not leaves:
            lines.append(Line(phrase, intent, reply, ends))
    return lines


def draw(lines: Sequence[Line], random: Random, strange: Sequence[str] = STRANGE) -> list[Line]:
    """A conversation of `QUESTIONS` intents and one strange sentence in random order, and a goodbye.

    One line interrupts the reply to the one before. Raises ValueError where the flavor knows too little.
    """
    questions = [line for line in lines if not line.ends and len(line.text.split()) >= SHORTEST]
    goodbyes = [line for line in lines if line.ends]
    long = sorted({line.intent for line in questions if len(line.reply) >= INTERRUPTIBLE})
    short = sorted({line.intent for line in questions if len(line.reply) <= TOLERABLE})
    if not long or len({*short, *long[:1]}) < QUESTIONS or not goodbyes:
        raise ValueError(f"the flavor should know {QUESTIONS} questions, one with a long reply, and a goodbye")
    interrupted = random.choice(long)
    others = random.sample([intent for intent in short if intent != interrupted], QUESTIONS - 1)
    said = [random.choice([line for line in questions if line.intent == intent]) for intent in (interrupted, *others)]
    said.append(Line(random.choice(list(strange)), "", ""))
    random.shuffle(said)
    at = next(index for index, line in enumerate(said) if line.intent == interrupted)
    if at == len(said) - 1:  # the goodbye is for the end: somebody else comes last
        said[0], said[at] = said[at], said[0]
        at = 0
    said[at + 1] = replace(said[at + 1], interrupts=True)
    return [*said, random.choice(goodbyes)]
