"""Engines that succeed one another: the first that works is asked, and where it breaks off, the next one goes on.

    ladder = TextToSpeechLadder("tts", [first, second, third])
    ladder.synthesize("Hello.")        # an engine to all who ask it
    ladder.around(lambda rung: metered(rung.engine()))

A rung is asked while its circuit is closed. What it has brought stays: a sentence is continued from the word where the
voice stopped, a reply from what was written of it, and an utterance is recognised anew.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from connector.audio import Audio
from connector.errors import EngineError
from connector.interfaces import (
    Engine,
    LanguageModel,
    Message,
    ReplyEvent,
    Role,
    SpeechToText,
    TextDelta,
    TextToSpeech,
    Transcript,
)
from connector.pipeline.circuit import Circuit
from connector.pipeline.leading_silence import LeadingSilence
from connector.pipeline.meter import Meter
from connector.pipeline.streams import closing

GO_ON = "(You were cut off after your last words. Go on right after them, and repeat nothing.)"
"""Asks a language model to continue what another one began. As a user's message: chat templates want one at the end."""

MARGIN = 4.0
"""Characters by which a voice is taken to be behind: it begins with silence, and a word twice is better than none."""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")
"""A word, or a character of a script that has no spaces (Chinese, Japanese)."""

_BEGUN_WORD = re.compile(r"[A-Za-z\u00c0-\u024f\u0370-\u052f'’-]{1,40}$")
"""Letters at the end of a text of which more may come (Latin, Greek, Cyrillic)."""

E = TypeVar("E", bound=Engine)


@dataclass(frozen=True, slots=True)
class Rung(Generic[E]):
    """One engine of a ladder. `number`: its place, from 1 on. `circuit`, `meter`: what all its calls share.

    `engine` gives the engine; it is called only while the circuit is closed, for before that there may be none.
    """

    number: int
    circuit: Circuit
    meter: Meter
    engine: Callable[[], E]


Ask = Callable[[Rung[E]], E]
"""The engine of a rung, as whoever asks it wants to have it: metered, for example."""


class _Ladder(Generic[E]):
    """`kind`: what it is in a flavor, for errors. The life of its engines is not its own."""

    def __init__(self, kind: str, rungs: Sequence[Rung[E]], ask: Ask[E] = lambda rung: rung.engine()) -> None:
        self._kind = kind
        self._rungs = rungs
        self._ask = ask

    def around(self, ask: Ask[E]) -> Self:
        """The same rungs, each as `ask` has it."""
        return type(self)(self._kind, self._rungs, ask)

    @property
    def meter(self) -> Meter:
        """That of the rung which would be asked now."""
        return next((rung for rung in self._rungs if rung.circuit.closed), self._rungs[0]).meter

    async def start(self) -> None:
        """Nothing: the engines are started by whom they belong to."""

    async def check(self) -> None:
        """Raises `EngineError` where no rung would be asked."""
        if not any(rung.circuit.closed for rung in self._rungs):
            raise self._exhausted([rung.circuit.problem for rung in self._rungs])

    async def aclose(self) -> None:
        """Nothing: the engines are closed by whom they belong to."""

    def _climb(self, causes: list[str]) -> Iterator[Rung[E]]:
        """The rungs to ask, one after the other; why one is left out goes to `causes`."""
        for rung in self._rungs:
            if rung.circuit.closed:
                yield rung
            else:
                causes.append(rung.circuit.problem)

    def _exhausted(self, causes: Sequence[str]) -> EngineError:
        for rung in self._rungs:
            rung.circuit.missed()
        return EngineError(self._kind, "; ".join(causes))


class SpeechToTextLadder(_Ladder[SpeechToText]):
    """Implements `SpeechToText`."""

    async def transcribe(self, utterance: Audio, phrases: Sequence[str] = ()) -> Transcript:
        causes: list[str] = []
        for rung in self._climb(causes):
            with _Attempt(rung.circuit, causes):
                return await self._ask(rung).transcribe(utterance, phrases)
        raise self._exhausted(causes)


class LanguageModelLadder(_Ladder[LanguageModel]):
    """Implements `LanguageModel`."""

    @property
    def phrases(self) -> Sequence[str]:
        """Of the rung that would be asked now; none where there is none."""
        return next((self._ask(rung).phrases for rung in self._rungs if rung.circuit.closed), ())

    async def reply(self, history: Sequence[Message]) -> AsyncGenerator[ReplyEvent, None]:
        causes: list[str] = []
        written = ""
        for rung in self._climb(causes):
            with _Attempt(rung.circuit, causes):
                model = self._ask(rung)
                words = _WholeWords(written)
                async with closing(model.reply(continued(history, written, model.phrases))) as events:
                    async for event in events:
                        text = words.push(event.text) if isinstance(event, TextDelta) else words.flush()
                        if text:
                            written += text
                            yield TextDelta(text)
                        if not isinstance(event, TextDelta):
                            yield event
                if text := words.flush():
                    yield TextDelta(text)
                return
        raise self._exhausted(causes)


class TextToSpeechLadder(_Ladder[TextToSpeech]):
    """Implements `TextToSpeech`. A rung may be of another rate than the one that it goes on for."""

    async def synthesize(self, text: str) -> AsyncGenerator[Audio, None]:
        causes: list[str] = []
        rest, begun = text, False
        for rung in self._climb(causes):
            spoken, silence = 0.0, LeadingSilence()
            with _Attempt(rung.circuit, causes):
                async with closing(self._ask(rung).synthesize(rest)) as chunks:
                    async for chunk in chunks:
                        spoken += chunk.seconds
                        yield silence.trim(chunk) if begun else chunk
                rung.meter.spoke(len(rest), spoken)
                return
            begun |= spoken > 0
            rest = remainder(rest, spoken * rung.meter.pace)
            if not rest:
                return
        raise self._exhausted(causes)


class _Attempt:
    """One rung's attempt: its circuit learns how it ends, and a failure goes to `causes` instead of up."""

    def __init__(self, circuit: Circuit, causes: list[str]) -> None:
        self._circuit = circuit
        self._causes = causes

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            self._circuit.served()
        elif isinstance(error, EngineError):
            self._circuit.failed(error)
            self._causes.append(str(error))
            return True
        return False


def remainder(text: str, spoken: float) -> str:
    """What of `text` is still to be said when a voice broke off after about `spoken` characters of it.

    It begins with the word in which that was, or the one before it. Punctuation alone ("Vraiment ?") is nothing to say.
    """
    reached = spoken - MARGIN
    if reached >= len(text):
        return ""
    begins = [word.start() for word in _WORD.finditer(text)]
    rest = text[max((begin for begin in begins if begin <= reached), default=0) :]
    return rest if any(map(str.isalnum, rest)) else ""


def continued(history: Sequence[Message], written: str, phrases: Sequence[str] = ()) -> Sequence[Message]:
    """`history` for a language model that is to go on where another one had `written` a part of the reply.

    One with `phrases` is scripted: it answers what the caller said, from the beginning.
    """
    if not written.strip() or phrases:
        return history
    return [*history, Message(Role.ASSISTANT, written.strip()), Message(Role.USER, GO_ON)]


class _WholeWords:
    """Passes the text of a stream on word by word, so that none is left half written where the stream breaks off.

    `before`: what was written before it.
    """

    def __init__(self, before: str) -> None:
        self._apart = bool(before) and not before[-1].isspace()
        self._held = ""

    def push(self, text: str) -> str:
        """Takes in the next stretch; returns what is to be passed on now."""
        text = self._held + text
        if text and self._apart:
            text = text if text[0].isspace() or text[0] in ".,;:!?" else f" {text}"
            self._apart = False
        begun = _BEGUN_WORD.search(text)
        length = begun.start() if begun else len(text)
        self._held = text[length:]
        return text[:length]

    def flush(self) -> str:
        """Nothing more belongs to what was held back: returns it."""
        held, self._held = self._held, ""
        return held
