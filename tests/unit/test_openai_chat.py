"""The chat engine against a server that speaks the protocol: what a caller hears, and what an admin reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from connector.errors import EngineBusy, EngineError, EngineMistaken, EngineRefused, EngineUnreachable
from connector.interfaces import (
    EngineContext,
    EngineHost,
    HangUp,
    LanguageModel,
    Message,
    PauseRecording,
    ReplyEvent,
    ResumeRecording,
    Role,
    TextDelta,
    TokenUsage,
    Transfer,
)
from connector.pipeline.history import History
from flavors.engines.openai_chat import ChatOptions, OpenAIChat, descriptor
from tests.fakes.openai_server import Break, Delta, Failure, OpenAIServer, Pause, StreamError, tool_call

HISTORY = [
    Message(Role.SYSTEM, "You answer the phone."),
    Message(Role.ASSISTANT, "Hello!"),
    Message(Role.USER, "When do you open?"),
]
TARGETS = {"sales": "sip:200@pbx.example", "front desk": "tel:+15551234567"}


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        yield server


@asynccontextmanager
async def chat(server: OpenAIServer, **options: Any) -> AsyncIterator[OpenAIChat]:
    values = {"base_url": server.base_url, "model": "test-model", "retries": 0} | options
    context = EngineContext(host=cast(EngineHost, None), models=Path("models"))
    engine = await asyncio.to_thread(descriptor.load, ChatOptions.model_validate(values), context)
    assert isinstance(engine, OpenAIChat)
    with server.healthy():
        await engine.start()
    server.requests.clear()
    try:
        yield engine
    finally:
        await engine.aclose()


async def events(engine: OpenAIChat) -> list[ReplyEvent]:
    """What it says and asks for, without the signs that something comes."""
    return [event async for event in engine.reply(HISTORY) if event != TextDelta("")]


async def test_text_arrives_piece_by_piece(server: OpenAIServer) -> None:
    server.reply = ["We open", " at nine."]
    async with chat(server) as engine:
        assert isinstance(engine, LanguageModel)
        assert await events(engine) == [TextDelta("We open"), TextDelta(" at nine.")]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085"])
async def test_what_only_unicode_calls_the_end_of_a_line_is_text(server: OpenAIServer, separator: str) -> None:
    """JSON may carry it as it is, and vLLM does."""
    text = f"We open{separator}at nine."
    chunk = {"choices": [{"index": 0, "delta": {"content": text}}]}
    body = f"data: {json.dumps(chunk, ensure_ascii=False)}\r\n\r\ndata: [DONE]\r\n\r\n"
    async with chat(server) as engine:
        server.garbage = "text/event-stream", body.encode()
        assert await events(engine) == [TextDelta(text)]


async def test_the_first_piece_is_there_before_the_rest_exists(server: OpenAIServer) -> None:
    server.reply = ["We open", Pause()]
    async with chat(server) as engine:
        reply = engine.reply(HISTORY)
        assert await anext(reply) == TextDelta("We open")
        await reply.aclose()


async def test_the_request_carries_history_and_options(server: OpenAIServer) -> None:
    async with chat(server, temperature=0.1, max_tokens=50, extra_body={"top_k": 5, "max_tokens": 60}) as engine:
        await events(engine)
    body = server.requests[-1].json
    assert body["messages"] == [
        {"role": "system", "content": "You answer the phone."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "When do you open?"},
    ]
    assert body["stream"] is True
    assert (body["temperature"], body["top_k"]) == (0.1, 5)
    assert body["max_tokens"] == 60, "extra_body wins"
    assert "tools" not in body


async def test_roles_alternate(server: OpenAIServer) -> None:
    interrupted = [*HISTORY, Message(Role.USER, "On Saturday, I mean.")]
    async with chat(server, opening="Hello?") as engine:
        [event async for event in engine.reply(interrupted)]
    assert [(m["role"], m["content"]) for m in server.requests[-1].json["messages"]] == [
        ("system", "You answer the phone."),
        ("user", "Hello?"),
        ("assistant", "Hello!"),
        ("user", "When do you open?\nOn Saturday, I mean."),
    ]


async def test_options_that_a_model_does_not_take_are_left_out(server: OpenAIServer) -> None:
    async with chat(server, temperature=None, max_tokens=None) as engine:
        await events(engine)
    assert not {"temperature", "max_tokens"} & server.requests[-1].json.keys()


async def test_the_key_is_sent(server: OpenAIServer) -> None:
    server.key = "s3cret"
    async with chat(server, api_key="s3cret") as engine:
        await engine.check()
        assert await events(engine)


async def test_without_a_key_none_of_the_environment_is_sent(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-meant-for-another-service")
    async with chat(server) as engine:
        await events(engine)
    assert "sk-meant" not in str(server.requests[-1].headers)


# ------------------------------------------------------------------------------ aborting


async def test_closing_the_reply_ends_the_generation_at_the_server(server: OpenAIServer) -> None:
    server.reply = ["One", Pause(), "two"]
    async with chat(server) as engine:
        reply = engine.reply(HISTORY)
        await anext(reply)
        await reply.aclose()
        async with asyncio.timeout(5):
            await server.disconnected.wait()


async def test_cancelling_while_waiting_for_the_first_token_ends_it_too(server: OpenAIServer) -> None:
    server.reply = [Pause(), "late"]
    async with chat(server) as engine:
        task = asyncio.create_task(events(engine))
        async with asyncio.timeout(5):
            await server.pausing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await server.disconnected.wait()


async def test_a_reply_after_an_aborted_one_is_whole(server: OpenAIServer) -> None:
    async with chat(server) as engine:
        server.reply = ["One", Pause()]
        reply = engine.reply(HISTORY)
        await anext(reply)
        await reply.aclose()
        server.reply = ["Two", " three."]
        assert await events(engine) == [TextDelta("Two"), TextDelta(" three.")]


# ------------------------------------------------------------------------------ tools


async def test_tools_are_offered_with_strict_schemas(server: OpenAIServer) -> None:
    async with chat(server, tools=["hang_up", "transfer"], transfer_targets=TARGETS) as engine:
        await events(engine)
    functions = [tool["function"] for tool in server.requests[-1].json["tools"]]
    assert [function["name"] for function in functions] == ["hang_up", "transfer"]
    assert all(function["strict"] for function in functions)
    assert all(function["parameters"]["additionalProperties"] is False for function in functions)
    assert functions[1]["parameters"]["properties"]["target"]["enum"] == ["sales", "front desk"]
    assert "pbx.example" not in str(functions), "the model needs names, not addresses"


async def test_a_service_that_knows_no_strict_tools_is_not_bothered_with_it(server: OpenAIServer) -> None:
    async with chat(server, tools=["hang_up"], strict=False) as engine:
        await events(engine)
    assert "strict" not in server.requests[-1].json["tools"][0]["function"]


async def test_a_request_begins_as_the_one_before_it_byte_for_byte(server: OpenAIServer) -> None:
    """A server's prefix cache then holds all but what was said last: persona and tools first, then the conversation."""
    history = History("You answer the phone. Be short.")
    async with chat(server, tools=["hang_up", "transfer"], transfer_targets=TARGETS) as engine:
        server.requests.clear()
        history.add("", "Hello, this is the desk.")
        for heard in ("When do you open?", "And on Saturday?", "Thank you."):
            async for _ in engine.reply(history.asking(heard)):
                pass
            history.add(heard, "At nine.")
        # A caller who goes on before the answer was heard: the turn grows, what is before it stays.
        history.add("One more thing.", "")
        async for _ in engine.reply(history.asking("Are you closed at noon?")):
            pass
    asked = [request.json for request in server.requests]
    tools = {json.dumps(request["tools"]) for request in asked}
    assert len(tools) == 1
    texts = [json.dumps(request["messages"])[:-1] for request in asked]
    assert texts[0].startswith('[{"role": "system", "content": "You answer the phone. Be short."}, ')
    for before, after in pairwise(texts):
        assert after.startswith(before)


async def test_the_service_has_said_a_word_with_its_tools_before_the_first_caller(server: OpenAIServer) -> None:
    """A word is enough: the rest is not generated."""
    server.reply = ["Hi", Pause(), "there"]
    engine = OpenAIChat(ChatOptions(base_url=server.base_url, model="test-model", tools=("hang_up",)))
    await engine.start()
    assert [request.path for request in server.requests] == ["/v1/models", "/v1/chat/completions"]
    assert server.requests[-1].json["tools"][0]["function"]["name"] == "hang_up"
    async with asyncio.timeout(5):
        await server.disconnected.wait()
    await engine.aclose()


async def test_a_service_that_lists_the_model_and_cannot_speak_is_not_ready(server: OpenAIServer) -> None:
    server.reply = [StreamError("CUDA out of memory")]
    engine = OpenAIChat(ChatOptions(base_url=server.base_url, model="test-model"))
    with pytest.raises(EngineError, match="CUDA out of memory"):
        await engine.start()


async def test_a_call_in_fragments_is_put_together_and_comes_after_the_text(server: OpenAIServer) -> None:
    server.reply = [
        "Goodbye.",
        tool_call(0, "call_1", "hang_up", ""),
        tool_call(0, arguments='{"sa'),
        tool_call(0, arguments='y": "Bye now."}'),
    ]
    async with chat(server, tools=["hang_up"]) as engine:
        assert await events(engine) == [TextDelta("Goodbye."), HangUp()], "what was said is not said twice"


async def test_a_call_in_the_making_shows_that_something_comes(server: OpenAIServer) -> None:
    """Whoever waits for the first text must not take the model for dead."""
    server.reply = [tool_call(0, "call_1", "hang_up", ""), Pause()]
    async with chat(server, tools=["hang_up"]) as engine:
        reply = engine.reply(HISTORY)
        assert await anext(reply) == TextDelta("")
        await reply.aclose()


async def test_a_call_without_text_brings_its_parting_words(server: OpenAIServer) -> None:
    server.reply = [tool_call(0, "call_1", "transfer", '{"say": "One moment.", "target": "sales"}')]
    async with chat(server, tools=["transfer"], transfer_targets=TARGETS) as engine:
        assert await events(engine) == [TextDelta("One moment."), Transfer("sip:200@pbx.example")]


async def test_the_recording_is_paused_before_the_words_and_resumed_after_them(server: OpenAIServer) -> None:
    server.reply = [tool_call(0, "call_1", "pause_recording", '{"say": "Your card number, please."}')]
    async with chat(server, tools=["pause_recording", "resume_recording"]) as engine:
        assert await events(engine) == [PauseRecording(), TextDelta("Your card number, please.")]
        server.reply = [tool_call(0, "call_2", "resume_recording", '{"say": "Thank you."}')]
        assert await events(engine) == [TextDelta("Thank you."), ResumeRecording()]


async def test_two_calls_under_one_index_are_told_apart_by_their_ids(server: OpenAIServer) -> None:
    server.reply = [
        tool_call(0, "call_1", "transfer", '{"say": "One moment.", "target": "sales"}'),
        tool_call(0, "call_2", "hang_up", '{"say": ""}'),
    ]
    async with chat(server, tools=["transfer", "hang_up"], transfer_targets=TARGETS) as engine:
        assert await events(engine) == [TextDelta("One moment."), Transfer("sip:200@pbx.example"), HangUp()]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("transfer", '{"say": "", "target": "sip:evil@example.net"}'),
        ("transfer", '{"say": "One moment."}'),
        ("transfer", '{"say": '),
        ("transfer", '["sales"]'),
        ("transfer", '{"target": ["sales"]}'),
        ("format_disk", "{}"),
    ],
)
async def test_an_invented_call_does_nothing_but_fail(server: OpenAIServer, name: str, arguments: str) -> None:
    server.reply = [tool_call(0, "call_1", name, arguments)]
    async with chat(server, tools=["transfer"], transfer_targets=TARGETS) as engine:
        with pytest.raises(EngineMistaken, match=r"made up a call of the tool"):
            await events(engine)


def test_transfer_and_its_targets_need_each_other() -> None:
    for options in ({"tools": ["transfer"]}, {"transfer_targets": TARGETS}):
        with pytest.raises(ValidationError, match="need each other"):
            ChatOptions.model_validate({"base_url": "http://127.0.0.1:8000/v1", "model": "m"} | options)


# ------------------------------------------------------------------------------ errors


async def test_nobody_at_the_address() -> None:
    async with OpenAIServer() as server:
        pass
    refused = rf"openai-chat: no connection to {server.base_url}: Connection refused$"
    with pytest.raises(EngineUnreachable, match=refused):
        async with chat(server):
            pass


async def test_a_service_that_goes_away_between_calls() -> None:
    async with OpenAIServer() as server, chat(server) as engine:
        await server.__aexit__()
        for attempt in (events(engine), engine.check()):
            with pytest.raises(EngineUnreachable, match=f"no connection to {server.base_url}"):
                await attempt


async def test_a_wrong_key_is_refused_without_repeating_it(server: OpenAIServer) -> None:
    async with chat(server, api_key="wrong-key-0815") as engine:
        server.key = "right"
        for attempt in (events(engine), engine.check()):
            with pytest.raises(EngineRefused, match=r"refuses the API key \(401\)") as caught:
                await attempt
            assert "0815" not in str(caught.value)


async def test_credentials_in_the_address_are_not_repeated(server: OpenAIServer) -> None:
    server.failures.append(Failure(403))
    async with chat(server, base_url=server.base_url.replace("//", "//user:0815@")) as engine:
        with pytest.raises(EngineRefused) as caught:
            await events(engine)
        await events(engine)
    assert "0815" not in str(caught.value)
    assert server.requests[-1].headers["Authorization"] == "Basic dXNlcjowODE1"


async def test_a_model_that_is_not_served(server: OpenAIServer) -> None:
    server.models = ["llama-80b"]
    async with chat(server, model="llama-80b") as engine:
        server.models = ["llama-8b", "qwen-7b"]
        with pytest.raises(EngineRefused, match="does not serve the model llama-80b; it serves llama-8b, qwen-7b"):
            await engine.check()
        with pytest.raises(EngineRefused, match=r"404: .*is llama-80b a model of it"):
            await events(engine)


async def test_a_server_that_was_down_says_a_word_before_a_caller_asks_it(server: OpenAIServer) -> None:
    async with chat(server) as engine:

        async def checked() -> list[str]:
            server.requests.clear()
            await engine.check()
            return [request.path for request in server.requests]

        assert await checked() == ["/v1/models"]
        server.failures.append(Failure(503, "loading"))
        with pytest.raises(EngineError):
            await engine.check()
        assert await checked() == ["/v1/models", "/v1/chat/completions"]
        assert await checked() == ["/v1/models"]


@pytest.mark.parametrize(("status", "error"), [(400, EngineRefused), (429, EngineError), (503, EngineError)])
async def test_other_refusals_repeat_the_cause(server: OpenAIServer, status: int, error: type[EngineError]) -> None:
    server.failures.append(Failure(status, "maximum context length is 4096 tokens"))
    async with chat(server) as engine:
        with pytest.raises(error, match=rf"{status}: .*maximum context length") as caught:
            await events(engine)
    assert type(caught.value) is error


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_that_says_when_to_come_again_is_well_and_busy(server: OpenAIServer, status: int) -> None:
    server.failures.append(Failure(status, "all streams are taken", {"Retry-After": "3"}))
    async with chat(server) as engine:
        with pytest.raises(EngineBusy, match=f"{status}: .*all streams are taken"):
            await events(engine)


async def test_a_failure_before_the_first_token_is_repeated_within_bounds(server: OpenAIServer) -> None:
    busy = Failure(503, "busy", {"retry-after-ms": "1"})
    async with chat(server, retries=2) as engine:
        server.failures.extend([busy, busy])
        assert await events(engine) == [TextDelta("Hello.")]
        server.failures.extend([busy, busy, busy])
        with pytest.raises(EngineError, match="503"):
            await events(engine)


async def test_a_long_retry_after_does_not_outlast_the_first_timeout(server: OpenAIServer) -> None:
    server.failures.append(Failure(429, "slow down", {"retry-after": "30"}))
    async with chat(server, retries=1, first_timeout=0.2) as engine:
        with pytest.raises(EngineUnreachable, match=r"did not begin to answer within 0\.2 s"):
            await events(engine)


async def test_a_failure_in_mid_reply_is_not_repeated(server: OpenAIServer) -> None:
    async with chat(server, retries=2) as engine:
        for breakage in (StreamError("out of memory"), Break()):
            server.requests.clear()
            server.reply = ["We open", breakage]
            reply = engine.reply(HISTORY)
            assert await anext(reply) == TextDelta("We open")
            with pytest.raises(EngineError):
                await anext(reply)
            assert len(server.requests) == 1


async def test_a_server_that_never_begins(server: OpenAIServer) -> None:
    server.reply = [Pause()]
    async with chat(server, first_timeout=0.1) as engine:
        with pytest.raises(EngineUnreachable, match=r"did not begin to answer within 0\.1 s"):
            await events(engine)


async def test_a_server_that_stalls_in_mid_reply(server: OpenAIServer) -> None:
    server.reply = ["We open", Pause()]
    async with chat(server, first_timeout=0.2) as engine:
        with pytest.raises(EngineUnreachable):
            await events(engine)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<html>It works!</html>"),
        ("application/json", b"[]"),
        ("application/json", b'{"data": 3}'),
        ("application/json", b"{"),
        ("text/event-stream", b"data: nope\n\n"),
        ("text/event-stream", b"data: []\n\n"),
        ("text/event-stream", b'data: {"choices": null}\n\n'),
        ("text/event-stream", b'data: {"choices": [{"delta": null}]}\n\n'),
        ("text/event-stream", b"data: \xff\n\n"),
        ("text/event-stream", b""),
    ],
)
async def test_a_service_of_another_kind(server: OpenAIServer, content_type: str, body: bytes) -> None:
    async with chat(server) as engine:
        server.garbage = content_type, body
        for attempt in (events(engine), engine.check()):
            with pytest.raises(EngineError):
                await attempt


async def test_the_cost_is_told_where_the_service_tells_it(server: OpenAIServer) -> None:
    async with chat(server, extra_body={"stream_options": {"include_usage": True}}) as engine:
        assert await events(engine) == [TextDelta("Hello."), TokenUsage(prompt=7, completion=2)]


@pytest.mark.parametrize("usage", [b"{}", b'{"prompt_tokens": 1}', b'{"prompt_tokens": null}', b"3", b"null"])
async def test_a_cost_that_cannot_be_read_costs_no_reply(server: OpenAIServer, usage: bytes) -> None:
    chunk = b'data: {"choices": [{"index": 0, "delta": {"content": "Hello."}}], "usage": %s}\n\ndata: [DONE]\n\n'
    async with chat(server) as engine:
        server.garbage = "text/event-stream", chunk % usage
        assert await events(engine) == [TextDelta("Hello.")]


async def test_an_empty_reply_is_an_error_and_not_dead_air(server: OpenAIServer) -> None:
    server.reply = [Delta({"role": "assistant", "content": ""})]
    async with chat(server) as engine:
        with pytest.raises(EngineMistaken, match="answered with nothing"):
            await events(engine)


async def test_use_after_closing_is_an_error(server: OpenAIServer) -> None:
    async with chat(server) as engine:
        pass
    with pytest.raises(EngineError, match="not started"):
        await engine.check()
