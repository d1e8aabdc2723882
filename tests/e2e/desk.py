"""Somebody who takes the calls of a pair in place of `voxtrunk serve`, so that a test can say what the agent does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from connector.app import SystemClock
from connector.leg.opensips import OpenSipsEndpoint
from connector.udp.ports import PortPool
from connector.udp.ticker import Ticker
from tests.e2e.answering import Answering
from tests.e2e.opensips import Stack


@asynccontextmanager
async def staffed(stack: Stack) -> AsyncIterator[Answering]:
    """The connector of the first pair is killed, and its calls come here until the end; then it starts again."""
    pair, clock = stack.pairs[0], SystemClock()
    connector = f"connector-{pair.name}"
    assert pair.ports is not None
    callee = Answering()
    ticker = Ticker(clock)
    tasks: list[asyncio.Task[None]] = [asyncio.create_task(ticker.run())]
    endpoint = OpenSipsEndpoint(
        pair,
        stack.settings.media,
        max_calls=10,
        retry_after=5,
        clock=clock,
        ticker=ticker,
        ports=PortPool.from_range(pair.ports),
        on_call=lambda leg: tasks.append(asyncio.create_task(callee.serve(leg))),
    )
    await stack.down(connector)
    # Within the 3 s that the UA waits for a heartbeat: the edge does not notice.
    await endpoint.start()
    callee.uri = f"sip:1000@{stack.edge[0]}:{stack.edge[1]}"
    try:
        yield callee
    finally:
        await endpoint.aclose()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await stack.up(connector)
