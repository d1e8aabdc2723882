"""How soon is a client's slot at vLLM free for the next one when it disconnects?

    python -m bench.llm_slot [--times N] [--json]

vLLM runs as `make test-engines` runs it, with a single slot (`--max-num-seqs 1`). One reply fills it, another one
waits: from when the engine `openai-chat` closes the first, as it does where a caller interrupts or hangs up, until the
second has its first words. That includes what these take by themselves, which is measured too, on the idle server.
A time in which this process was not let run is taken again, as vLLM keeps two cores busy; how often is said.
Exit status 1 where it took more than 100 ms. `python -m bench.tts` says the same of Chatterbox.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from connector.cli.console import print_json, print_table
from connector.interfaces import Message, Role
from flavors.engines.openai_chat import ChatOptions, OpenAIChat
from tests.engines import servers

LIMIT = 0.1
"""Seconds."""
SETTLED = 0.3
"""Seconds after which whoever has heard nothing is waiting for the slot."""
TICK, LATE = 0.005, 0.02
"""Seconds: between two looks at the clock, and by how much each may be late."""
ATTEMPTS = 5
"""For each time that is taken."""
QUESTION = [Message(Role.USER, "hello how are you today")]
ENDLESS = {"max_tokens": 1800, "extra_body": {"ignore_eos": True}}
"""The micro Llama writes what it has learnt within a tenth of a second; this takes seconds."""


async def first(stream: AsyncGenerator[Any, None]) -> None:
    """Takes a reply's first words, and closes it."""
    async with aclosing(stream):
        await anext(stream)


async def alone(chat: OpenAIChat) -> float | None:
    """Seconds until the first words of a reply, on the idle server."""
    return await timed(first(chat.reply(QUESTION)))


async def taken_over(chat: OpenAIChat) -> float | None:
    """Seconds from when a reply is closed until the first words of the next one."""
    async with aclosing(chat.reply(QUESTION)) as holder:
        await anext(holder)
        waiting = asyncio.create_task(first(chat.reply(QUESTION)))
        await asyncio.sleep(SETTLED)
        if waiting.done():  # It had taken so long to get here that the first reply was at its end.
            return None

        async def hand_over() -> None:
            await holder.aclose()
            await waiting

        return await timed(hand_over())


async def timed(what: Awaitable[None]) -> float | None:
    """Seconds that it takes; `None` where this process was not let run in time meanwhile."""
    watch = asyncio.create_task(lateness())
    await asyncio.sleep(0)  # It has begun.
    began = time.perf_counter()
    await what
    seconds = time.perf_counter() - began
    watch.cancel()
    return seconds if await watch < LATE else None


async def lateness() -> float:
    """Seconds by which the event loop was late at most, until cancelled."""
    worst, due = 0.0, time.perf_counter()
    try:
        while True:
            worst, due = max(worst, time.perf_counter() - due), time.perf_counter() + TICK
            await asyncio.sleep(TICK)
    except asyncio.CancelledError:
        return max(worst, time.perf_counter() - due)


async def undisturbed(measure: Callable[[OpenAIChat], Awaitable[float | None]], chat: OpenAIChat) -> tuple[float, int]:
    """What is measured, and how often it was measured before and was of no use."""
    for again in range(ATTEMPTS):
        await asyncio.sleep(SETTLED)  # The server has done with what was closed before.
        if (seconds := await measure(chat)) is not None:
            return seconds, again
    raise SystemExit("this machine does not let this process run in time: nothing can be measured")


async def run(times: int) -> tuple[dict[str, list[float]], int]:
    """The seconds of each row, and how many were taken again."""
    with tempfile.TemporaryDirectory() as folder:
        server = servers.vllm(Path(folder) / "log", slots=1)
        address = {"base_url": server.base_url, "api_key": servers.KEY, "model": servers.LLM_MODEL}
        chat = OpenAIChat(ChatOptions.model_validate({**address, **ENDLESS}))
        seconds: dict[str, list[float]] = {"alone": [], "taken over": []}
        repeated = 0
        try:
            await asyncio.to_thread(server.start)
            await chat.start()
            await alone(chat)  # Warms up.
            for _ in range(times):
                for name, measure in (("alone", alone), ("taken over", taken_over)):
                    one, again = await undisturbed(measure, chat)
                    seconds[name].append(one)
                    repeated += again
        finally:
            await chat.aclose()
            await asyncio.to_thread(server.stop)
        return seconds, repeated


def row(name: str, seconds: Sequence[float]) -> tuple[str, str, str]:
    return name, f"{statistics.median(seconds) * 1e3:.0f} ms", f"{max(seconds) * 1e3:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.llm_slot", description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=30, help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON document, in seconds")
    options = parser.parse_args()
    seconds, repeated = asyncio.run(run(options.times))
    if options.json:
        print_json({**seconds, "taken again": repeated})
    else:
        print_table(["first words", "median", "worst"], [row(*one) for one in seconds.items()])
        print(f"taken again, as this process was not let run: {repeated}")
    sys.exit(max(seconds["taken over"]) > LIMIT)


if __name__ == "__main__":
    main()
