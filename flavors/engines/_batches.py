"""Questions of all calls to one model, answered in batches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from connector.errors import EngineError

Q = TypeVar("Q")
A = TypeVar("A")

SMOOTHING = 0.3
"""Weight of the latest batch in how long one takes."""

MOST_PASSED = 3
"""So many batches in a row pass over the questions that were overtaken; the next begins with the oldest of them."""

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Waiting(Generic[Q, A]):
    question: Q
    kind: Hashable
    answer: asyncio.Future[A] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batches(Generic[Q, A]):
    """Gathers questions while the model works; those of one kind go to it together, the oldest first.

    `answer(questions)` returns an answer, or the error, for each of them. It is never called twice at once, and with
    `most` questions at most. `kind(question)`: only what is equal may share a batch. `overtakes(newer, older)`: the
    newer question makes the answer to the older one stale, unless that comes first.

    A question that is given up leaves the queue; one that is being answered leaves its result behind. One that was
    overtaken leaves its place to the newer one: it takes a place that a batch has left, or begins one now and then, so
    that it is answered however many others come.
    """

    def __init__(
        self,
        engine: str,
        answer: Callable[[Sequence[Q]], Awaitable[Sequence[A | EngineError]]],
        *,
        most: int,
        kind: Callable[[Q], Hashable],
        overtakes: Callable[[Q, Q], bool] = lambda newer, older: False,
    ) -> None:
        self._engine = engine
        self._answer = answer
        self.most = most
        """Questions of a batch."""
        self._kind = kind
        self._overtakes = overtakes
        self._waiting: list[_Waiting[Q, A]] = []
        self._overtaken: list[_Waiting[Q, A]] = []
        self._passed = 0
        """Batches since those that were overtaken had their last turn."""
        self._work: asyncio.Task[None] | None = None
        self.batches = 0
        """Since the beginning."""
        self.questions = 0
        """In all these batches."""
        self.seconds = 0.0
        """How long a batch takes, smoothed."""

    @property
    def waiting(self) -> int:
        """Questions that no batch holds yet."""
        return len(self._waiting) + len(self._overtaken)

    async def ask(self, question: Q) -> A:
        """The model's answer; raises the `EngineError` that came in its place."""
        own = _Waiting[Q, A](question, self._kind(question))
        self._enqueue(own)
        if self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._answer_all(), name=f"batches of {self._engine}")
        try:
            return await own.answer
        finally:
            for queue in (self._waiting, self._overtaken):
                if own in queue:
                    queue.remove(own)

    async def aclose(self) -> None:
        """Stops the work and refuses what waits. Idempotent."""
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
            await asyncio.wait([work])
        self._refuse_all([])

    def _enqueue(self, own: _Waiting[Q, A]) -> None:
        for place, other in enumerate(self._waiting):
            if other.kind == own.kind and self._overtakes(own.question, other.question):
                self._waiting[place] = own
                self._overtaken.append(other)
                return
        self._waiting.append(own)

    async def _answer_all(self) -> None:
        """Answers batch after batch until nobody waits."""
        batch: list[_Waiting[Q, A]] = []
        try:
            while batch := self._next_batch():
                await self._answer_batch(batch)
        finally:  # where it was cancelled, or what it asks was closed, somebody still waits
            self._work = None
            self._refuse_all(batch)

    def _next_batch(self) -> list[_Waiting[Q, A]]:
        """Takes out of the queue what is answered next; nothing where nobody waits."""
        turns = 1 if self._passed >= MOST_PASSED else 0
        queue = [*self._overtaken[:turns], *self._waiting, *self._overtaken[turns:]]
        batch = [waiting for waiting in queue if waiting.kind == queue[0].kind][: self.most]
        self._passed = self._passed + 1 if self._overtaken and not turns else 0
        self._waiting = [waiting for waiting in self._waiting if waiting not in batch]
        self._overtaken = [waiting for waiting in self._overtaken if waiting not in batch]
        return batch

    async def _answer_batch(self, batch: Sequence[_Waiting[Q, A]]) -> None:
        now = asyncio.get_running_loop().time
        began = now()
        try:
            answers = await self._answer([waiting.question for waiting in batch])
        except EngineError as error:
            self._refuse(batch, error)
            return
        except Exception as error:
            # The boundary between calls: what nobody foresaw fails this batch and not those that wait.
            log.exception("a batch failed in an unforeseen way")
            self._refuse(batch, EngineError(self._engine, f"failed: {error}"))
            return
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, EngineError):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)
        self.batches += 1
        self.questions += len(batch)
        self.seconds += (now() - began - self.seconds) * (SMOOTHING if self.seconds else 1)

    def _refuse_all(self, batch: Sequence[_Waiting[Q, A]]) -> None:
        self._refuse([*batch, *self._waiting, *self._overtaken], EngineError(self._engine, "closed"))
        self._waiting.clear()
        self._overtaken.clear()

    def _refuse(self, batch: Sequence[_Waiting[Q, A]], error: EngineError) -> None:
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
