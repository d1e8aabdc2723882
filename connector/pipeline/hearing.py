"""What the recogniser makes of an utterance while it grows, so that its words are known soon after its last one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf

from connector.audio import Frame
from connector.errors import EngineError
from connector.interfaces import Clock

QUICK_SECONDS = 0.2
"""A recogniser that takes longer is asked when the caller pauses, not at each dip in between: it would not keep up."""
SLOW_SECONDS = 0.4
"""One that takes longer still is asked at long pauses only, and not again before it has answered."""
SMOOTHING = 0.5
"""Weight of the latest answer in how long one takes."""

LONG_SECONDS = 2.0
"""A recogniser that fails after so long is not asked again about the same words."""

AT_ONCE = 2
"""Questions that may wait for answers: the one at the last dip, and the one that knows for certain."""

Recognise = Callable[[Sequence[Frame]], Awaitable[str]]
"""The words of some frames; raises `EngineError`."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Words of the utterance up to media time `until`, known at clock time `at`."""

    text: str
    until: float
    at: float


Question = asyncio.Task[Heard | EngineError]
"""The recogniser is at work; its result is the answer, or why there is none."""


class Hearing:
    """Asks the recogniser about one utterance again and again: of its answers that counts which heard most."""

    def __init__(self, recognise: Recognise, clock: Clock, on_heard: Callable[[Heard], None]) -> None:
        self._recognise = recognise
        self._clock = clock
        self._on_heard = on_heard
        self._questions: list[Question] = []
        self._until = -inf
        self.heard: Heard | None = None
        """The latest answer."""
        self.seconds = 0.0
        """How long an answer takes, smoothed."""
        self.failure: EngineError | None = None
        """Why the recogniser owes an answer for good: it was waited for, and asking again would take as long."""

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._questions)

    @property
    def quick(self) -> bool:
        """Whether the recogniser keeps up with questions in mid-speech."""
        return self.seconds <= QUICK_SECONDS

    @property
    def slow(self) -> bool:
        """Whether a question costs so much that only those are asked whose answers are likely to count."""
        return self.seconds > SLOW_SECONDS

    @property
    def until(self) -> float:
        """Media time up to which was asked: -inf before the first question, inf after one that failed."""
        return self._until

    def begin(self) -> None:
        """Another utterance."""
        self.cancel()
        self._until = -inf
        self.heard = None
        self.failure = None

    def covering(self, end: float) -> Heard | None:
        """The answer about everything up to media time `end`, where it is there."""
        return self.heard if self.heard is not None and self.heard.until >= end else None

    def ask(self, tasks: asyncio.TaskGroup, frames: Sequence[Frame], until: float) -> None:
        """Asks about `frames`, which end at media time `until`; of more than `AT_ONCE` questions one is dropped."""
        if len(self._questions) == AT_ONCE:
            self._questions.pop(0).cancel()
        self._until = until
        self._questions.append(tasks.create_task(self._ask(frames, until), name="recognition"))

    def hand_over(self, end: float) -> Question | None:
        """The question about everything up to media time `end`, where its answer is awaited: from now on not by us."""
        return self._questions.pop() if self._questions and self._until >= end else None

    def cancel(self) -> None:
        """Drops the questions that are not answered yet. What they asked about counts as not asked."""
        for question in self._questions:
            question.cancel()
        self._questions.clear()
        self._until = self.heard.until if self.heard is not None else -inf

    async def _ask(self, frames: Sequence[Frame], until: float) -> Heard | EngineError:
        began = self._clock.now()
        answer: Heard | EngineError
        try:
            answer = Heard(await self._recognise(frames), until, self._clock.now())
        except EngineError as error:
            answer = error
        seconds = self._clock.now() - began
        if isinstance(answer, Heard):
            self.seconds += (seconds - self.seconds) * (SMOOTHING if self.seconds else 1)
        question = asyncio.current_task()
        if question not in self._questions:
            return answer
        self._questions.remove(question)
        if isinstance(answer, EngineError):
            # Who needs the words asks again, unless that would be a second long wait: here they were only wanted early.
            self._until = inf
            self.failure = answer if seconds >= LONG_SECONDS else None
        elif self.heard is None or until > self.heard.until:
            self.heard = answer
            self._on_heard(answer)
        return answer
