"""Detectors on every test: leaked tasks and threads, and calls that would block the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from blockbuster import BlockBuster, blockbuster_ctx


@pytest.fixture(autouse=True)
def blocking_detector() -> Iterator[BlockBuster]:
    """A blocking call of our own packages inside the running event loop raises `BlockingError`."""
    with blockbuster_ctx(scanned_modules=["connector", "flavors"]) as detector:
        yield detector


@pytest.fixture(autouse=True)
def thread_leak_detector() -> Iterator[None]:
    """A test leaves no non-daemon thread behind; those of the event loop's own pool end with the loop."""
    before = set(threading.enumerate())
    yield
    running = [t for t in threading.enumerate() if t not in before and t.is_alive() and not t.daemon]
    ours = [t for t in running if not t.name.startswith("asyncio_")]
    for thread in ours:
        thread.join(1)  # It may be about to end.
    left = [t.name for t in ours if t.is_alive()]
    assert not left, f"threads left running: {left}"


@pytest_asyncio.fixture(autouse=True)
async def task_leak_detector() -> AsyncIterator[None]:
    """A test leaves no task running on its event loop."""
    yield
    current = asyncio.current_task()
    left = [task.get_name() for task in asyncio.all_tasks() if task is not current and not task.done()]
    assert not left, f"tasks left running: {left}"
