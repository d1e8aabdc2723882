"""Where what calls leave behind is written: one thread, so that a slow disk never delays a packet."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

log = logging.getLogger(__name__)

GOLDEN = (math.sqrt(5) - 1) / 2
"""Its multiples modulo 1 are spread evenly, however many they are."""


def make_folder(folder: Path) -> None:
    """Makes `folder`, and what is missing above it, for the process's user and group alone. Raises `OSError`."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o750, exist_ok=True)


class Disk:
    """Runs jobs one after the other, in order, on a thread of its own; used on the event loop.

    One thread serves all calls: the order of a call's jobs is kept, and a disk that hangs holds up
    files alone. Whoever posts without waiting bounds what it has under way.
    """

    def __init__(self) -> None:
        self._phases = 0
        self._posted: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None
        self._executor = ThreadPoolExecutor(1, "voxtrunk-disk", initializer=self._started)

    def _started(self) -> None:
        self._thread = threading.current_thread()

    def phase(self) -> float:
        """A share of a period, 0 to 1, as far from those given before as can be: work that recurs is spread by it."""
        self._phases += 1
        return self._phases * GOLDEN % 1

    def post(self, job: Callable[[], None]) -> None:
        """Queues `job` and returns at once; the job deals with its own errors."""
        # The thread is woken once for all that a tick posts, and after it: in its midst, both would contend for the
        # interpreter's lock at every packet.
        if not self._posted:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._posted.append(job)

    def _hand_over(self) -> None:
        if self._posted:
            self._executor.submit(_run_all, self._posted)
            self._posted = []

    async def run(self, job: Callable[[], Result]) -> Result:
        """Runs `job` after all that were posted; returns or raises what it did."""
        self._hand_over()
        return await asyncio.get_running_loop().run_in_executor(self._executor, job)

    async def aclose(self) -> None:
        """Waits until everything posted was done, and ends the thread."""
        await self.run(lambda: None)
        self._executor.shutdown(wait=False)
        while self._thread is not None and self._thread.is_alive():  # noqa: ASYNC110 - a thread's end has no event
            await asyncio.sleep(0)


def _run_all(jobs: list[Callable[[], None]]) -> None:
    for job in jobs:
        try:
            job()
        except Exception:
            # The boundary between calls: a job that fails beyond what it deals with takes no other call's along.
            log.exception("a job of the disk failed")
