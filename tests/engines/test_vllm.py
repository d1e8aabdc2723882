"""A real vLLM server behind the engine `openai-chat`: what it streams, its tool calls, and that it stops when told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest

from connector.errors import EngineRefused
from connector.interfaces import HangUp, Message, ReplyEvent, Role, TextDelta, TokenUsage, Transfer
from flavors.engines.openai_chat import ChatOptions, OpenAIChat
from tests.engines.checkpoints.conversation import EXCHANGES, GREETING, PERSONA, TRANSFER_TARGETS, exchange
from tests.engines.servers import KEY, LLM_MODEL, Server

TOOLS = {"tools": ("hang_up", "transfer"), "transfer_targets": TRANSFER_TARGETS}

HITS, QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"
"""Tokens of prompts: those whose keys and values were there, and all."""

Start = Callable[..., Awaitable[OpenAIChat]]


@pytest.fixture
async def start(vllm: Server) -> AsyncIterator[Start]:
    """Starts an engine with the options given."""
    async with AsyncExitStack() as stack:

        async def engine(**options: Any) -> OpenAIChat:
            given = {"base_url": vllm.base_url, "api_key": KEY, "model": LLM_MODEL, "temperature": 0, **options}
            chat = OpenAIChat(ChatOptions.model_validate(given))
            await chat.start()
            stack.push_async_callback(chat.aclose)
            return chat

        yield engine
    # The client's connections end a moment after it.
    if ending := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(ending, timeout=10)


def history(*said: str) -> list[Message]:
    """A call in which the caller said this, and was answered to all but the last."""
    messages = [Message(Role.SYSTEM, PERSONA), Message(Role.ASSISTANT, GREETING)]
    for sentence in said:
        messages += [Message(Role.USER, sentence), Message(Role.ASSISTANT, exchange(sentence).reply)]
    return messages[:-1]


async def everything(engine: OpenAIChat, messages: Sequence[Message]) -> list[ReplyEvent]:
    async with aclosing(engine.reply(messages)) as events:
        return [event async for event in events]


def text(events: Sequence[ReplyEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_a_reply_is_streamed_as_it_is_generated(start: Start) -> None:
    events = await everything(await start(), history("what time do you open on saturday"))
    assert text(events) == "We open at nine on Saturday. We close at one."
    assert len([event for event in events if isinstance(event, TextDelta)]) > 5


async def test_the_conversation_so_far_is_heeded_and_its_cost_told(start: Start) -> None:
    engine = await start(extra_body={"stream_options": {"include_usage": True}})
    events = await everything(engine, history("where is my package", "how much does it cost"))
    assert text(events) == "It costs twenty dollars."
    usage = events[-1]
    assert isinstance(usage, TokenUsage)
    assert usage.prompt > 30
    assert usage.completion > 3


async def test_a_call_is_transferred_by_a_tool(start: Start) -> None:
    events = await everything(await start(**TOOLS), history("please transfer me to the billing department"))
    assert text(events) == "One moment, I will connect you."
    assert [event for event in events if not isinstance(event, TextDelta)] == [Transfer("2003")]


async def test_a_call_is_ended_by_a_tool(start: Start) -> None:
    events = await everything(await start(**TOOLS), history("yes please", "good bye"))
    assert text(events) == "Thank you for calling. Goodbye."
    assert [event for event in events if not isinstance(event, TextDelta)] == [HangUp()]


async def test_a_model_that_is_offered_no_tools_calls_none(start: Start) -> None:
    assert text(await everything(await start(), history("good bye"))) == "Goodbye."


async def test_many_calls_at_once_each_get_their_own_reply(start: Start) -> None:
    engine = await start(**TOOLS)
    replies = await asyncio.gather(*(everything(engine, history(known.said)) for known in EXCHANGES))
    assert [text(events) for events in replies] == [known.heard(tools=True) for known in EXCHANGES]


async def test_who_stops_listening_ends_the_generation_at_the_server(start: Start, vllm: Server) -> None:
    endless = {"ignore_eos": True}
    engine = await start(max_tokens=1800, extra_body=endless)
    before = await asyncio.to_thread(vllm.metrics)
    async with aclosing(engine.reply(history("hello how are you today"))) as events:
        async for _ in events:
            break
    # The server tells of it only where it is asked (ASYNC110).
    async with asyncio.timeout(30):
        while (metrics := await asyncio.to_thread(vllm.metrics))["vllm:num_requests_running"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert metrics["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"] < 1000


async def test_the_prompt_of_a_later_turn_begins_with_what_the_server_has_computed(start: Start, vllm: Server) -> None:
    engine = await start(**TOOLS)
    said = ["i would like to book an appointment", "the meeting is on monday at ten"]
    await everything(engine, history(said[0]))
    before = await asyncio.to_thread(vllm.metrics)
    await everything(engine, history(*said))
    after = await asyncio.to_thread(vllm.metrics)
    known, asked = (after[name] - before[name] for name in (HITS, QUERIES))
    assert known >= 32
    assert known > asked / 3


async def test_a_wrong_key_is_refused(start: Start) -> None:
    with pytest.raises(EngineRefused, match="refuses the API key"):
        await start(api_key="wrong")


async def test_a_model_that_is_not_served_is_named(start: Start) -> None:
    with pytest.raises(EngineRefused, match=f"it serves {LLM_MODEL}"):
        await start(model="llama-8b")
