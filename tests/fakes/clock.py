"""Virtual time: an event loop whose clock jumps to the next timer whenever nothing else is to do.

    @virtual_time
    async def test_an_hour() -> None:
        clock = LoopClock()
        await clock.sleep(3600)          # takes microseconds
        assert clock.now() == 3600

Every await that rests on the loop's time goes along: `asyncio.sleep`, `asyncio.timeout`,
`loop.call_later`. Code that waits for a real socket or a thread is not for virtual time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

EPOCH = 1_700_000_000.0
"""Wall time at virtual time 0."""


class NothingWillHappen(AssertionError):
    """Every task waits, and no timer is left that could wake one."""


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: it moves the time on by as long as it was to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise NothingWillHappen("every task waits for something that never comes")
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that starts at time 0 and spends no real time waiting."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.errors: list[BaseException] = []
        self.set_exception_handler(self._keep_error)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now

    def _keep_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(context.get("exception") or AssertionError(context["message"]))


def run_virtual(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs `coroutine` in virtual time and returns its result.

    Fails where a callback or a forgotten task raised, or where a task is left running.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)
        result = runner.run(_without_leftovers(coroutine))
    if loop.errors:
        raise loop.errors[0]
    return result


async def _without_leftovers(coroutine: Coroutine[Any, Any, T]) -> T:
    result = await coroutine
    left = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.done()]
    assert not left, f"tasks left running: {left}"
    return result


def virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Makes an async test (or any coroutine function) run in virtual time."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_virtual(test(*args, **kwargs))

    return run


class LoopClock:
    """The running loop's time as a `Clock`: virtual in virtual time."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return EPOCH + self.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def sleep_until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self.now()))
