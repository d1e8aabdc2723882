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

Recognise = Callable[[Sequence[Frame]], Awaitable[str]]
"""The words of some frames; raises `EngineError`."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Words of the utterance up to media time `until`, known at clock time `at`."""

    text: str
    until: float
    at: float


class Hearing:
    """Asks the recogniser about one utterance again and again; only its latest question counts."""

    def __init__(self, recognise: Recognise, clock: Clock, on_heard: Callable[[Heard], None]) -> None:
        self._recognise = recognise
        self._clock = clock
        self._on_heard = on_heard
        self._task: asyncio.Task[None] | None = None
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
        return self._task is not None

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
        """Asks about `frames`, which end at media time `until`; a question that is not answered yet is dropped."""
        self.cancel()
        self._until = until
        self._task = tasks.create_task(self._ask(frames, until), name="recognition")

    def cancel(self) -> None:
        """Drops the question that is not answered yet. What it asked about counts as not asked."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self._until = self.heard.until if self.heard is not None else -inf

    async def _ask(self, frames: Sequence[Frame], until: float) -> None:
        began = self._clock.now()
        own = asyncio.current_task()
        try:
            text = await self._recognise(frames)
        except EngineError as error:
            # Who needs the words asks again, unless that would be a second long wait: here they were only wanted early.
            if self._task is own:
                self._task = None
                self._until = inf
                self.failure = error if self._clock.now() - began >= LONG_SECONDS else None
            return
        if self._task is not own:
            return
        self._task = None
        now = self._clock.now()
        self.seconds += (now - began - self.seconds) * (SMOOTHING if self.seconds else 1)
        self.heard = Heard(text, until, now)
        self._on_heard(self.heard)
