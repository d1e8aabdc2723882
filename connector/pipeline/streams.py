"""An engine's stream, read so that it ends: closed in every case, and never waited for endlessly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from connector.errors import EngineError

PATIENCE = 20.0
"""Seconds without anything from an engine after which it counts as failed."""

T = TypeVar("T")


async def patiently(awaitable: Awaitable[T], engine: str) -> T:
    """Awaits what `engine` owes; raises `EngineError` where it takes longer than `PATIENCE`."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await awaitable
    except TimeoutError as error:
        raise EngineError(engine, f"nothing came for {PATIENCE:.0f} s") from error


async def read(stream: AsyncIterator[T], engine: str) -> AsyncGenerator[T, None]:
    """Passes `stream` on, and closes it (which aborts the engine's work) however the reading ends.

    Raises `EngineError` where the engine falls silent for longer than `PATIENCE`. Close this
    generator itself with `contextlib.aclosing`.
    """
    async with closing(stream):
        while True:
            try:
                item = await patiently(anext(stream), engine)
            except StopAsyncIteration:
                return
            yield item


@asynccontextmanager
async def closing(stream: AsyncIterator[T]) -> AsyncGenerator[AsyncIterator[T], None]:
    """Closes `stream` in the end, where it can be closed."""
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
