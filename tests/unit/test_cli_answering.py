"""Language models that are asked without a call, as `voxtrunk chat` does: real small servers, in a flavor's list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from connector import config
from connector.cli.answering import Account, Answering, NoLanguageModel, PassedOver, answering
from connector.errors import Overloaded
from connector.interfaces import Message, Role, TextDelta
from tests.fakes.openai_server import Break, Failure, OpenAIServer

ASKED = [Message(Role.USER, "how are you")]

BUSY = Failure(503, "busy", {"Retry-After": "30"})
BUSY_FOR_A_MOMENT = Failure(503, "busy", {"retry-after-ms": "1"})

FLAVORS = """\
flavors:
  desk:
    vad: {{engine: silero}}
    stt: {{engine: faster-whisper}}
    tts: {{engine: flite}}
    llm: {llm}
"""


@pytest_asyncio.fixture
async def first() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        server.reply = ["First."]
        yield server


@pytest_asyncio.fixture
async def second() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        server.reply = ["Second."]
        yield server


def engine(server: OpenAIServer, options: str = "") -> str:
    return f"{{engine: openai-chat, base_url: '{server.base_url}', model: test-model{options}}}"


@asynccontextmanager
async def talking(llm: str) -> AsyncIterator[Answering]:
    text = FLAVORS.format(llm=llm).encode()
    settings = await asyncio.to_thread(config.parse, text, Path("voxtrunk.yml"))
    async with answering(settings.flavors["desk"], settings) as model:
        yield model


async def reply(model: Answering) -> str:
    return "".join([event.text async for event in model.reply(ASKED) if isinstance(event, TextDelta)])


def asked(server: OpenAIServer) -> int:
    """How often it was asked for a reply, but for the word at its start."""
    return sum(request.path == "/v1/chat/completions" for request in server.requests) - 1


async def test_the_first_engine_answers_while_it_is_well(first: OpenAIServer, second: OpenAIServer) -> None:
    async with talking(f"[{engine(first)}, {engine(second)}]") as model:
        assert await reply(model) == "First."
        assert model.account() == Account("openai-chat", 1, [])
        assert asked(second) == 0


async def test_a_sole_engine_is_number_one(first: OpenAIServer) -> None:
    async with talking(engine(first)) as model:
        assert await reply(model) == "First."
        assert model.account() == Account("openai-chat", 1, [])


async def test_the_next_engine_goes_on_and_the_account_says_why(first: OpenAIServer, second: OpenAIServer) -> None:
    async with talking(f"[{engine(first)}, {engine(second)}]") as model:
        first.reply = ["First of all. ", Break()]
        assert await reply(model) == "First of all. Second."
        account = model.account()
        assert (account.engine, account.rung) == ("openai-chat", 2)
        [passed] = account.passed_over
        assert (passed.rung, passed.engine) == (1, "openai-chat")
        assert "no connection to" in passed.error


async def test_an_engine_that_is_down_from_the_start_is_passed_over(second: OpenAIServer) -> None:
    async with OpenAIServer() as gone:
        pass
    async with talking(f"[{engine(gone)}, {engine(second)}]") as model:
        assert await reply(model) == "Second."
        account = model.account()
        assert account.rung == 2
        cause = f"no connection to {gone.base_url}: Connection refused"
        assert account.passed_over == [PassedOver(1, "openai-chat", cause)]


async def test_where_none_is_well_all_causes_are_told() -> None:
    async with OpenAIServer() as gone:
        pass
    with pytest.raises(Overloaded, match=r"llm: openai-chat: no connection .*; openai-chat: no connection"):
        async with talking(f"[{engine(gone)}, {engine(gone, ', temperature: 0')}]"):
            pass


async def test_an_echo_has_no_language_model() -> None:
    settings = await asyncio.to_thread(config.builtin_settings)
    with pytest.raises(NoLanguageModel, match="echo has no language model"):
        async with answering(settings.flavors["echo"], settings):
            pass


# ------------------------------------------------------------------------------ repetitions


async def test_a_service_that_has_a_successor_is_asked_once(first: OpenAIServer, second: OpenAIServer) -> None:
    """Whatever time it asks for: the caller waits."""
    async with talking(f"[{engine(first)}, {engine(second)}]") as model:
        first.failures.append(BUSY)
        assert await reply(model) == "Second."
        [passed] = model.account().passed_over
        assert "answers 503" in passed.error, "and was not late, which would have cost its deadline"
        assert asked(first) == 1


async def test_the_last_one_and_the_only_one_are_asked_again(first: OpenAIServer, second: OpenAIServer) -> None:
    async with talking(engine(first)) as model:
        first.failures.append(BUSY_FOR_A_MOMENT)
        assert await reply(model) == "First."
        assert asked(first) == 2
    first.requests.clear()
    async with talking(f"[{engine(first)}, {engine(second)}]") as model:
        first.failures.append(Failure(500))
        second.failures.append(BUSY_FOR_A_MOMENT)
        assert await reply(model) == "Second."
        assert (asked(first), asked(second)) == (1, 2)


async def test_repetitions_that_somebody_asks_for_are_made(first: OpenAIServer, second: OpenAIServer) -> None:
    async with talking(f"[{engine(first, ', retries: 1')}, {engine(second)}]") as model:
        first.failures.append(BUSY_FOR_A_MOMENT)
        assert await reply(model) == "First."
        assert asked(first) == 2
