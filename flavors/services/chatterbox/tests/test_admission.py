"""Who gets a place, who waits, who is sent away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from chatterbox_service.admission import Admission, Overloaded


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Requests:
    """Requests of clients, in the order in which they came, and whether they were let in."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.entered: list[str] = []
        self.refused: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def arrive(self, *names: str) -> None:
        """Requests called by their client and a number, such as `a1`."""
        for name in names:
            self.ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._run(name))
            await settle()

    async def end(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
            await settle()

    async def _run(self, name: str) -> None:
        try:
            async with self._admission.place(name[0]):
                self.entered.append(name)
                await self.ends[name].wait()
        except Overloaded:
            self.refused.append(name)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def requests(admission: Admission) -> AsyncGenerator[Requests, None]:
    made = Requests(admission)
    yield made
    for task in made.tasks.values():
        task.cancel()
    await asyncio.gather(*made.tasks.values(), return_exceptions=True)
    assert (admission.active, admission.waiting) == (0, 0), "nothing stays behind"


def admission(capacity: int = 1, queue: int = 4, patience: float = 60.0, clock: Clock | None = None) -> Admission:
    return Admission(capacity, queue, patience, clock or Clock())


async def test_places_are_given_in_order_of_arrival() -> None:
    async with requests(admission(capacity=2)) as made:
        await made.arrive("a1", "b1", "c1", "d1")
        assert made.entered == ["a1", "b1"]
        await made.end("b1")
        assert made.entered == ["a1", "b1", "c1"]
        await made.end("a1", "c1")
        assert made.entered == ["a1", "b1", "c1", "d1"]


async def test_beyond_the_queue_a_request_is_refused_at_once() -> None:
    async with requests(admission(queue=2)) as made:
        await made.arrive("a1", "b1", "c1", "d1")
        assert made.refused == ["d1"]
        await made.end("a1")
        await made.arrive("d2")
        assert made.refused == ["d1"]


async def test_without_a_queue_nobody_waits() -> None:
    async with requests(admission(queue=0)) as made:
        await made.arrive("a1", "b1")
        assert made.refused == ["b1"]


async def test_patience_has_an_end() -> None:
    async with requests(admission(patience=0.01)) as made:
        await made.arrive("a1", "b1")
        await made.tasks["b1"]
        assert made.refused == ["b1"]
        await made.end("a1")
        await made.arrive("c1")
        assert made.entered == ["a1", "c1"]


async def test_a_free_place_goes_to_the_client_that_has_the_fewest() -> None:
    async with requests(admission(capacity=2)) as made:
        await made.arrive("a1", "a2", "a3", "b1")
        await made.end("a1")
        assert made.entered == ["a1", "a2", "b1"], "b has nothing yet, although a3 came first"


async def test_a_client_that_fills_the_queue_makes_room_for_others() -> None:
    async with requests(admission(queue=3)) as made:
        await made.arrive("a1", "a2", "a3", "a4", "b1")
        assert made.refused == ["a4"]
        await made.arrive("b2")
        assert made.refused == ["a4", "b2"], "b has as much of the queue as it can have beside a"
        await made.arrive("c1", "d1")
        assert made.refused == ["a4", "b2", "a3", "d1"], "each has one, and there is no more"


async def test_who_gives_up_waiting_leaves_no_trace() -> None:
    async with requests(admission()) as made:
        await made.arrive("a1", "b1", "c1")
        made.tasks["b1"].cancel()
        await made.end("a1")
        assert made.entered == ["a1", "c1"]


async def test_who_just_gave_up_takes_no_room_in_the_queue() -> None:
    async with requests(admission(queue=1)) as made:
        await made.arrive("a1", "b1")
        made.tasks["b1"].cancel()
        await made.arrive("c1")
        await made.end("a1")
        assert made.entered == ["a1", "c1"]


@pytest.mark.parametrize("rounds", range(4))
async def test_who_gives_up_around_the_moment_of_being_let_in_passes_the_place_on(rounds: int) -> None:
    async with requests(admission()) as made:
        await made.arrive("a1", "b1", "c1")
        made.ends["a1"].set()
        for _ in range(rounds):  # of the event loop, in which the place goes from a1 to b1
            await asyncio.sleep(0)
        made.tasks["b1"].cancel()
        await settle()
        await settle()
        assert made.entered[-1] == "c1"


async def test_retry_after_follows_the_length_of_streams_and_of_the_queue() -> None:
    clock = Clock()
    door = admission(capacity=2, queue=0, clock=clock)

    async def told() -> int:
        with pytest.raises(Overloaded) as refused:
            async with door.place("z"):
                pass
        return refused.value.retry_after

    for length in (0.0, 20.0):
        for _ in range(60):
            async with door.place("a"):
                clock.seconds += length
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(door.place("a"))
            await stack.enter_async_context(door.place("b"))
            assert await told() == (1 if length == 0 else 10)
