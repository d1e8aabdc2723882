"""One exchange: what the caller put in, what comes of it, and when."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from connector.audio import Audio, Frame
from connector.errors import EngineError
from connector.interfaces import Action, TurnRecord, TurnTiming
from connector.pipeline.generation import Generation
from connector.pipeline.hearing import Question
from connector.pipeline.leading_silence import LeadingSilence
from connector.pipeline.passages import Passage
from connector.pipeline.script import Script


@dataclass(slots=True)
class Input:
    """What the caller said and nobody has answered: words already known, then speech yet to be transcribed."""

    words: list[str] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The words known so far."""
        return " ".join(self.words)


@dataclass(slots=True)
class Exchange:
    """A turn in the making."""

    generation: Generation
    input: Input = field(default_factory=Input)
    """What the model answers."""
    recognition: Question | None = None
    """It asks for the words in `input.frames`, and began before the exchange did."""
    prompt: bool = False
    """The agent speaks unasked: `pieces` is all there is to say."""
    reply: str = ""
    """What the model produced so far, or the text of the prompt."""
    pieces: list[Passage] = field(default_factory=list)
    """The reply as split for speaking."""
    complete: bool = False
    """Nothing is to be added to `pieces`."""
    rest: list[Passage] = field(default_factory=list)
    """The pieces that the caller did not hear to their end, once the exchange is over."""
    silence: LeadingSilence = field(default_factory=LeadingSilence)
    """Of the voice's beginning."""
    script: Script = field(default_factory=Script)
    fillers: int = 0
    """How many of the pieces begun, the first ones, are fillers."""
    speaking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the voice of one piece comes: a filler and the reply come one after the other."""
    intent: str | None = None
    actions: list[Action] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the caller has finished: nobody hears of an exchange before, which may have begun on a guess."""
    held: list[Audio] = field(default_factory=list)
    """The voice that waits for that."""
    early: list[Action] = field(default_factory=list)
    """Actions that are due at once, and wait for that, too."""
    timing: TurnTiming = field(default_factory=TurnTiming)
    error: str | None = None
    task: asyncio.Task[None] | None = None

    @property
    def answered(self) -> bool:
        """Whether the voice has come to what is to be said, fillers apart."""
        return len(self.script) > self.fillers

    def mark(self, step: str, at: float) -> None:
        """Notes that `step` (a field of `TurnTiming`) happened at clock time `at`; the first time counts."""
        if getattr(self.timing, step) is None:
            self.timing = replace(self.timing, **{step: at})

    def fail(self, error: EngineError) -> None:
        """Notes an engine's failure; the first counts. What the engines had wished for is off."""
        self.error = self.error or str(error)
        self.actions.clear()

    def cancel(self) -> None:
        """Stops the work; whatever still comes of it is stale."""
        self.generation.cancel()
        for task in (self.task, self.recognition):
            if task is not None:
                task.cancel()

    def record(self, spoken: str, *, interrupted: bool) -> TurnRecord:
        """The exchange as the observer is told of it."""
        return TurnRecord(
            generation=self.generation.number,
            heard=self.input.text,
            reply=self.reply,
            spoken=spoken,
            interrupted=interrupted,
            intent=self.intent,
            timing=self.timing,
            error=self.error,
        )
