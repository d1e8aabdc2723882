"""The queue that gathers the questions of all calls to one model, with a model that answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.errors import EngineError
from flavors.engines._batches import MOST_PASSED, Batches


class Model:
    """Answers a question (a kind and a number) with its number, once it is let to."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.failure: Exception | None = None
        self._lets = asyncio.Semaphore(0)

    def let(self, batches: int = 1) -> None:
        for _ in range(batches):
            self._lets.release()

    async def __call__(self, questions: Sequence[str]) -> list[str | EngineError]:
        self.asked.append([*questions])
        await self._lets.acquire()
        if self.failure is not None:
            raise self.failure
        return [EngineError("model", "bad") if "bad" in question else question[1:] for question in questions]


def batches(model: Model, most: int = 8) -> Batches[str, str]:
    """Questions of one letter are of one kind; a longer one that begins alike is newer."""
    return Batches(
        "model",
        model,
        most=most,
        kind=lambda question: question[0],
        overtakes=lambda newer, older: newer.startswith(older),
    )


async def asking(queue: Batches[str, str], *questions: str) -> list[asyncio.Task[str]]:
    """Asks, and lets the queue take notice."""
    tasks = [asyncio.create_task(queue.ask(question)) for question in questions]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_questions_gather_while_the_model_works() -> None:
    model = Model()
    queue = batches(model)
    first = await asking(queue, "a1")
    others = await asking(queue, "a2", "a3", "a4")
    assert (model.asked, queue.waiting) == ([["a1"]], 3)
    model.let(2)
    assert await asyncio.gather(*first, *others) == ["1", "2", "3", "4"]
    assert model.asked == [["a1"], ["a2", "a3", "a4"]]
    assert (queue.batches, queue.questions, queue.waiting) == (2, 4, 0)


async def test_a_batch_is_bounded_of_one_kind_and_begins_with_the_oldest() -> None:
    model = Model()
    queue = batches(model, most=2)
    tasks = await asking(queue, "a1", "b1", "a2", "b2", "a3", "b3", "a4")
    model.let(4)
    await asyncio.gather(*tasks)
    assert model.asked == [["a1", "a2"], ["b1", "b2"], ["a3", "a4"], ["b3"]]


async def test_a_question_that_is_given_up_never_reaches_the_model() -> None:
    model = Model()
    queue = batches(model)
    first, stale, last = [*await asking(queue, "a1"), *await asking(queue, "a2", "a3")]
    stale.cancel()
    with suppress(asyncio.CancelledError):
        await stale
    assert queue.waiting == 1
    model.let(2)
    assert await asyncio.gather(first, last) == ["1", "3"]
    assert model.asked == [["a1"], ["a3"]]


async def test_a_question_that_is_given_up_while_it_is_answered_takes_no_other_along() -> None:
    model = Model()
    queue = batches(model)
    stale, other = await asking(queue, "a1", "a2")
    stale.cancel()
    model.let()
    assert await other == "2"
    assert stale.cancelled()


async def test_an_overtaken_question_leaves_its_place_and_goes_after_the_others() -> None:
    model = Model()
    queue = batches(model, most=1)
    tasks = await asking(queue, "aa", "b", "aaa", "c")
    model.let(4)
    await asyncio.gather(*tasks)
    assert model.asked == [["aaa"], ["b"], ["c"], ["aa"]]


async def test_an_overtaken_question_takes_a_place_that_a_batch_has_left() -> None:
    model = Model()
    queue = batches(model, most=3)
    tasks = await asking(queue, "a1", "b", "a11", "a2")
    model.let(2)
    await asyncio.gather(*tasks)
    assert model.asked == [["a11", "a2", "a1"], ["b"]]


async def test_overtaken_questions_are_answered_one_after_the_other_however_many_come() -> None:
    """And hold up those that come by one batch in a few."""
    model = Model()
    queue = batches(model, most=1)
    tasks = await asking(queue, "a", "b", "aa", "bb", *(f"c{number:02}" for number in range(20)))
    model.let(24)
    await asyncio.gather(*tasks)
    assert [model.asked.index([question]) for question in ("a", "b")] == [MOST_PASSED, 2 * MOST_PASSED + 1]


async def test_an_error_belongs_to_its_question_alone() -> None:
    model = Model()
    tasks = await asking(batches(model), "a1", "abad", "a3")
    model.let()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["1", "model: bad", "3"]


@pytest.mark.parametrize("failure", [EngineError("model", "died"), KeyError("unforeseen")])
async def test_a_batch_that_fails_is_not_the_end(failure: Exception) -> None:
    model = Model()
    queue = batches(model)
    model.failure = failure
    failing = await asking(queue, "a1", "a2")
    waiting = await asking(queue, "a3")
    model.let()
    answers = await asyncio.gather(*failing, return_exceptions=True)
    assert all(isinstance(answer, EngineError) for answer in answers)
    model.failure = None
    model.let()
    assert await waiting[0] == "3"


async def test_closing_refuses_what_is_answered_and_what_waits() -> None:
    model = Model()
    queue = batches(model)
    tasks = [*await asking(queue, "a1"), *await asking(queue, "a2", "aa", "aaa")]
    await queue.aclose()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert {str(answer) for answer in answers} == {"model: closed"}
    assert queue.waiting == 0
    await queue.aclose()


async def test_a_model_that_is_closed_first_leaves_nobody_waiting() -> None:
    async def closed(questions: Sequence[str]) -> Sequence[str]:
        raise asyncio.CancelledError

    queue: Batches[str, str] = Batches("model", closed, most=1, kind=len)
    for _ in range(2):
        answers = await asyncio.gather(*await asking(queue, "a", "b"), return_exceptions=True)
        assert {str(answer) for answer in answers} == {"model: closed"}


@given(
    questions=st.lists(st.sampled_from(["a", "ab", "abc", "b", "bb", "c"]), max_size=12),
    given_up=st.sets(st.integers(0, 11)),
    most=st.integers(1, 4),
)
def test_whoever_stays_gets_the_own_answer_and_nothing_is_left(
    questions: list[str], given_up: set[int], most: int
) -> None:
    async def scenario() -> None:
        model = Model()
        queue = batches(model, most)
        tasks = await asking(queue, *questions)
        for number in given_up & set(range(len(tasks))):
            tasks[number].cancel()
        model.let(len(questions))
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            assert isinstance(answer, asyncio.CancelledError) if number in given_up else answer == question[1:]
        assert queue.waiting == 0
        assert all(len(batch) <= most for batch in model.asked)

    asyncio.run(scenario())
