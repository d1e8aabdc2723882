"""The boundary between one call and the process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def outcome(work: Coroutine[Any, Any, object]) -> BaseException | None:
    """Runs `work` to its end and returns what it raised, bugs included, or None.

    Cancelling the wait cancels `work` and waits until it has cleaned up.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    return None if task.cancelled() else task.exception()
