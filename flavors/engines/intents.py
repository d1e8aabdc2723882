"""Language model `intents`: a scripted front desk that answers from the flavor's own YAML.

An intent is a list of sentences that callers say and the replies to them. The same sentences are the
grammar of a recogniser (`LanguageModel.phrases`), and matching is tolerant enough for a keyboard or a
free recogniser: it ignores case, punctuation, fillers and politeness, and weighs words by how much
they tell the intents apart. What matches nothing well is answered with `not_understood`, never with a
guess. The engine keeps nothing about a call: everything follows from the history.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from heapq import nlargest
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from connector.interfaces import (
    EngineContext,
    EngineDescriptor,
    EngineKind,
    EngineOptions,
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

MAX_PHRASES = 5000
"""Sentences that all templates together may expand to."""

UNKNOWN_WEIGHT = 1.5
"""Of a word that no intent uses; words of the script weigh at most 1."""

_CONTACT = "contact"
_EXTENSION = "extension"
_CONTACTS = "contacts"

# ------------------------------------------------------------------------------------ templates

_TOKEN = re.compile(r"\s*([()\[\]|]|\{\w*\}|[^()\[\]|{}\s]+|[{}])")


class _Template:
    """A phrase with `(a|b)` for alternatives, `[a]` for what may be missing, and `{contact}`."""

    def __init__(self, source: str) -> None:
        self._tokens = _TOKEN.findall(source)
        self._at = 0
        self.variants = self._alternatives(closing=None)
        """Every sentence it stands for, as tuples of words."""

    def _alternatives(self, closing: str | None) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        while True:
            found += self._sequence()
            end = self._next()
            if end == closing:
                return found
            if end != "|":
                raise ValueError(f"expected {closing!r}" if closing else f"unexpected {end!r}")

    def _sequence(self) -> list[tuple[str, ...]]:
        variants: list[tuple[str, ...]] = [()]
        while self._peek() not in (None, "|", ")", "]"):
            token = self._next()
            match token:
                case "(":
                    part = self._alternatives(closing=")")
                case "[":
                    part = [*self._alternatives(closing="]"), ()]
                case "{contact}":
                    part = [(token,)]
                case str() if token[0] in "{}":
                    raise ValueError(f"{token!r}: a phrase can hold only {{contact}}")
                case _:
                    part = [(str(token),)]
            variants = [head + tail for head in variants for tail in part]
            if len(variants) > MAX_PHRASES:
                raise ValueError(f"stands for more than {MAX_PHRASES} sentences")
        return variants

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> str | None:
        token = self._peek()
        self._at += 1
        return token


def expand(template: str) -> list[str]:
    """Every sentence that `template` stands for, in order and without duplicates.

    `(a|b)` is one of its alternatives, `[a]` may be missing, `{contact}` stays. Raises ValueError
    where brackets do not match or a sentence is empty.
    """
    sentences = [" ".join(words) for words in _Template(template).variants]
    if not all(sentences):
        raise ValueError("one of its sentences has no words")
    return list(dict.fromkeys(sentences))


def _checked_template(template: str) -> str:
    expand(template)
    return template


def _names_in(text: str) -> set[str]:
    """The `{name}` fields of a reply."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def _checked_reply(text: str) -> str:
    for name in _names_in(text):
        if not name.isidentifier():
            raise ValueError(f"{{{name}}} is not the name of a value")
    return text


# -------------------------------------------------------------------------------------- options

PhraseTemplate = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_checked_template)]
ReplyText = Annotated[str, Field(min_length=1), AfterValidator(_checked_reply)]
Replies = ReplyText | Annotated[tuple[ReplyText, ...], Field(min_length=1)]


class Contact(EngineOptions):
    """Somebody to talk to."""

    names: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    """What callers say; the first one is spoken."""
    extension: str = ""
    """A number, a SIP or tel URI; empty where nobody can be connected."""


class Intent(EngineOptions):
    """What callers say (`phrases`, or a key), and what happens."""

    name: Annotated[str, Field(min_length=1)]
    """In records and metrics."""
    phrases: Annotated[tuple[PhraseTemplate, ...], Field(min_length=1)]
    """What callers say. `(a|b)`: one of them; `[a]`: may be missing; `{contact}`: a name of one of `contacts`."""
    digits: Annotated[str, Field(pattern=r"^[0-9A-D*#]*$")] = ""
    """Keys that mean the same."""
    replies: Replies
    """One text, or several that take turns. `{name}`: a value; `{contact}`, `{extension}`: of the one asked for."""
    transfer: str = ""
    """Where to transfer the caller once the reply was heard; `{name}` as in replies."""
    unavailable: Replies = ()
    """Said instead, and nobody is transferred, where `transfer` (or the contact's extension) is empty."""
    action: Literal["none", "hang_up", "repeat"] = "none"
    """`hang_up` ends the call after the reply; `repeat` says the last reply again (`replies` where there is none)."""
    recording: Literal["as_it_is", "pause", "resume"] = "as_it_is"
    """`pause` keeps nothing of what is said or keyed from the reply on; `resume` does again once it was heard."""

    @property
    def asks_for_contact(self) -> bool:
        """Whether its phrases name somebody."""
        return any("{contact}" in phrase for phrase in self.phrases)


class IntentsOptions(EngineOptions):
    """The script of a front desk."""

    values: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], str] = Field(default_factory=dict)
    """Facts that replies quote as `{name}`."""
    contacts: tuple[Contact, ...] = ()
    """Whom callers may ask for."""
    intents: Annotated[tuple[Intent, ...], Field(min_length=1)]
    """What callers may want."""
    not_understood: Replies = "Sorry, I did not understand."
    """Said for the first, second, ... utterance in a row that matches nothing; the last one stays."""
    fillers: tuple[str, ...] = (
        *("um", "uh", "er", "ah", "oh", "well", "so", "ok", "okay", "actually", "just", "please", "hi", "hey", "hello"),
        *("can you tell me", "could you tell me", "please tell me", "i would like to know", "i want to know"),
        *("do you know", "excuse me"),
    )
    """Words that carry no intent; ignored unless nothing else is said."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.72
    """How well the words must match, 0 to 1."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if reserved := {_CONTACT, _EXTENSION, _CONTACTS} & self.values.keys():
            raise ValueError(f"values: {', '.join(sorted(reserved))}: the name is taken by the engine")
        names = Counter(intent.name for intent in self.intents)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"intents: {', '.join(twice)}: more than one intent has this name")
        keys = Counter(intent.digits for intent in self.intents if intent.digits)
        if twice := [digits for digits, count in keys.items() if count > 1]:
            raise ValueError(f"intents: digits {', '.join(twice)}: more than one intent has them")
        for intent in self.intents:
            self._check_intent(intent)
        for text in _texts(self.not_understood):
            self._check_names("not_understood", text, {*self.values, _CONTACTS})
        owners: dict[str, str] = {}
        for sentence in sentences(self):
            owner = owners.setdefault(sentence.text, sentence.intent.name)
            if owner != sentence.intent.name:
                raise ValueError(f"intents: {sentence.text!r} is said in both {owner} and {sentence.intent.name}")
        if len(owners) > MAX_PHRASES:
            raise ValueError(f"intents: {len(owners)} sentences in all; at most {MAX_PHRASES}")
        return self

    def _check_intent(self, intent: Intent) -> None:
        where = f"intents: {intent.name}"
        if intent.asks_for_contact and not self.contacts:
            raise ValueError(f"{where}: its phrases say {{contact}}, but there are no contacts")
        if intent.transfer and not intent.unavailable:
            raise ValueError(f"{where}: say in `unavailable` what callers hear where nobody can be reached")
        if intent.transfer and intent.action != "none":
            raise ValueError(f"{where}: transfer and action {intent.action} exclude each other")
        known = {*self.values, _CONTACTS}
        if intent.asks_for_contact:
            known |= {_CONTACT, _EXTENSION}
            if intent.digits or not all("{contact}" in variant for p in intent.phrases for variant in expand(p)):
                raise ValueError(f"{where}: every way to say it must name a {{contact}}")
        for text in (*_texts(intent.replies), *_texts(intent.unavailable), intent.transfer):
            self._check_names(where, text, known)

    @staticmethod
    def _check_names(where: str, text: str, known: set[str]) -> None:
        if unknown := _names_in(text) - known:
            raise ValueError(f"{where}: {{{sorted(unknown)[0]}}} is not one of {', '.join(sorted(known))}")


def _texts(replies: str | tuple[str, ...]) -> tuple[str, ...]:
    return (replies,) if isinstance(replies, str) else replies


# ------------------------------------------------------------------------------------- matching

_EXPANSIONS: Mapping[str, str] = {
    "i'd": "i would",
    "i'll": "i will",
    "i'm": "i am",
    "what's": "what is",
    "when's": "when is",
    "where's": "where is",
    "who's": "who is",
    "how's": "how is",
    "that's": "that is",
    "there's": "there is",
    "it's": "it is",
    "you're": "you are",
    "don't": "do not",
    "can't": "can not",
    "e-mail": "email",
    "good-bye": "goodbye",
}
_WORD = re.compile(r"\w+(?:['-]\w+)*")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One thing to say: `text` means `intent`, about `contact` where it names one."""

    text: str
    intent: Intent
    contact: Contact | None


def sentences(options: IntentsOptions) -> Iterator[Sentence]:
    """Everything that callers may say word for word, lower case."""
    for intent in options.intents:
        for template in intent.phrases:
            for variant in expand(template.lower()):
                if "{contact}" not in variant:
                    yield Sentence(variant, intent, None)
                    continue
                for contact in options.contacts:
                    for name in contact.names:
                        yield Sentence(variant.replace("{contact}", name.lower()), intent, contact)


@dataclass(frozen=True, slots=True)
class Match:
    """What a text means. `score`: 1.0 where the words are the script's own."""

    intent: Intent
    contact: Contact | None
    score: float


class Matcher:
    """Finds the sentence that a text stands for.

    The score is the Dice coefficient of the two bags of words, each word weighed by how few intents
    use it; a word that the script does not know weighs most. So "what is your" tells little,
    "parking" much, and "football" speaks against every sentence.
    """

    def __init__(self, options: IntentsOptions) -> None:
        self._threshold = options.threshold
        self._fillers = sorted((tuple(_words(filler)) for filler in options.fillers), key=len, reverse=True)
        self._keys = {intent.digits: intent for intent in options.intents if intent.digits}
        self._verbatim = {" ".join(_words(sentence.text)): sentence for sentence in sentences(options)}
        # Politeness makes many sentences of few: "[please]" doubles them, yet carries nothing.
        self._bags = {
            (tuple(sorted(self._content(sentence.text))), sentence.intent.name, sentence.contact): sentence.intent
            for sentence in self._verbatim.values()
        }
        users: dict[str, set[str]] = {}
        for content, name, _ in self._bags:
            for word in content:
                users.setdefault(word, set()).add(name)
        whole = math.log(1 + len(options.intents))
        self._weights = {word: math.log((1 + len(options.intents)) / len(by)) / whole for word, by in users.items()}
        self.match = lru_cache(maxsize=1024)(self._match)
        """What `text` means; None where nothing matches well, or two meanings match alike."""

    def _match(self, text: str) -> Match | None:
        if intent := self._keys.get("".join(text.split())):
            return Match(intent, None, 1.0)
        if known := self._verbatim.get(" ".join(_words(text))):
            return Match(known.intent, known.contact, 1.0)
        said = Counter(self._content(text))
        weight_said = self._weigh(said)
        scores: dict[tuple[str, Contact | None], Match] = {}
        for (content, name, contact), intent in self._bags.items():
            bag = Counter(content)
            common = self._weigh(said & bag)
            score = 2 * common / (weight_said + self._weigh(bag)) if common else 0.0
            former = scores.get((name, contact))
            if former is None or score > former.score:
                scores[name, contact] = Match(intent, contact, score)
        best, *rivals = nlargest(2, scores.values(), key=lambda match: match.score)
        if best.score < self._threshold or any(math.isclose(best.score, rival.score) for rival in rivals):
            return None
        return best

    def _weigh(self, bag: Counter[str]) -> float:
        return sum(self._weights.get(word, UNKNOWN_WEIGHT) * count for word, count in bag.items())

    def _content(self, text: str) -> list[str]:
        """The words of `text` without fillers; all of them where there is nothing else."""
        words = _words(text)
        kept: list[str] = []
        at = 0
        while at < len(words):
            filler = next((f for f in self._fillers if f and tuple(words[at : at + len(f)]) == f), None)
            if filler is None:
                kept.append(words[at])
            at += len(filler or " ")
        return kept or words


def _words(text: str) -> list[str]:
    raw = _WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    return [part for word in raw for part in _EXPANSIONS.get(word, word).replace("-", " ").split()]


# --------------------------------------------------------------------------------------- engine


class Intents:
    """`LanguageModel` of a script. Stateless: safe for any number of calls at once."""

    def __init__(self, options: IntentsOptions) -> None:
        self._options = options
        self.match = Matcher(options).match
        """What a text means, see `Matcher`."""
        self._values = {
            **options.values,
            _CONTACTS: _listing([contact.names[0] for contact in options.contacts]),
        }

    async def start(self) -> None:
        """Nothing to load: the script was checked with the configuration."""

    async def check(self) -> None:
        """Always able to serve."""

    async def aclose(self) -> None:
        """Nothing to free."""

    @cached_property
    def phrases(self) -> Sequence[str]:
        """Every sentence of the script, lower case, without duplicates."""
        return tuple(dict.fromkeys(sentence.text for sentence in sentences(self._options)))

    async def reply(self, history: Sequence[Message]) -> AsyncIterator[ReplyEvent]:
        """The intent's name ("" where nothing matches), its text, then its action."""
        heard = [message.content for message in history if message.role is Role.USER] or [""]
        *earlier, last = [self.match(text) for text in heard]
        yield IntentMatched(last.intent.name if last else "")
        if last is not None and last.intent.action == "repeat":
            yield TextDelta(self._repeated(history, earlier) or self._text(last, earlier))
            return
        if last is not None and last.intent.recording == "pause":
            yield PauseRecording()
        yield TextDelta(self._text(last, earlier))
        if last is None:
            return
        if last.intent.recording == "resume":
            yield ResumeRecording()
        if last.intent.action == "hang_up":
            yield HangUp()
        if target := self._target(last):
            yield Transfer(target)

    def _text(self, match: Match | None, earlier: Sequence[Match | None]) -> str:
        """The reply's text; replies take turns, and misunderstandings in a row escalate."""
        if match is None:
            texts = _texts(self._options.not_understood)
            return texts[min(_trailing_nones(earlier), len(texts) - 1)].format_map(self._values)
        texts = _texts(match.intent.replies if self._available(match) else match.intent.unavailable)
        before = sum(1 for other in earlier if other is not None and other.intent == match.intent)
        return self._fill(texts[before % len(texts)], match)

    def _repeated(self, history: Sequence[Message], earlier: Sequence[Match | None]) -> str:
        """The last reply in full, though the caller may have heard a part; before any, the greeting."""
        for at in range(len(earlier) - 1, -1, -1):
            match = earlier[at]
            if match is None or match.intent.action != "repeat":
                return self._text(match, earlier[:at])
        return next((message.content for message in history if message.role is Role.ASSISTANT), "")

    def _available(self, match: Match) -> bool:
        """False where the reply needs a target or an extension that is empty."""
        if not match.intent.unavailable:
            return True
        if match.intent.transfer:
            return bool(self._target(match))
        return match.contact is None or bool(match.contact.extension)

    def _target(self, match: Match) -> str:
        return self._fill(match.intent.transfer, match).strip()

    def _fill(self, text: str, match: Match) -> str:
        contact = match.contact
        about = {_CONTACT: contact.names[0], _EXTENSION: contact.extension} if contact else {}
        return text.format_map({**self._values, **about})


def _trailing_nones(matches: Sequence[Match | None]) -> int:
    count = 0
    for match in reversed(matches):
        if match is not None:
            break
        count += 1
    return count


def _listing(names: Iterable[str]) -> str:
    *head, last = list(names) or [""]
    return f"{', '.join(head)} or {last}" if head else last


def _load(options: IntentsOptions, context: EngineContext) -> Intents:
    return Intents(options)


descriptor = EngineDescriptor(name="intents", kind=EngineKind.LLM, options=IntentsOptions, extra="", load=_load)
