"""Language model behind an OpenAI-compatible `/v1/chat/completions`, streamed: vLLM, OpenAI, and others."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator

from connector.errors import EngineError, EngineMistaken
from connector.interfaces import (
    Action,
    EngineContext,
    EngineDescriptor,
    EngineKind,
    HangUp,
    Message,
    PauseRecording,
    ReplyEvent,
    ResumeRecording,
    Role,
    TextDelta,
    TokenUsage,
    Transfer,
)
from flavors.engines._openai import Service, ServiceOptions, require_package

if TYPE_CHECKING:
    from openai import AsyncAPIResponse, AsyncStream
    from openai._response import AsyncResponseContextManager
    from openai.types.chat import ChatCompletionChunk, ChatCompletionFunctionToolParam, ChatCompletionMessageParam

NAME = "openai-chat"

WARM_UP = (Message(Role.USER, "Hello."),)


class ChatOptions(ServiceOptions):
    """An OpenAI-compatible chat model.

    The flavor's persona is the system message; it should say that replies are spoken, and short.
    """

    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.3
    """None where the model allows no choice."""
    max_tokens: Annotated[int, Field(ge=1)] | None = 300
    """Upper bound of a reply. None where the service wants `max_completion_tokens` (in `extra_body`) instead."""
    opening: str = ""
    """A user message put before the greeting, for chat templates that want the user to speak first (Gemma, Mistral)."""
    tools: tuple[Literal["hang_up", "transfer", "pause_recording", "resume_recording"], ...] = ()
    """What the model may ask of the call."""
    transfer_targets: dict[str, str] = Field(default_factory=dict)
    """Who the model may transfer to: a name that tells the model who it is, and the SIP or tel URI or number."""
    strict: bool = True
    """Ask the service to keep calls of tools to their schema; `false` for one that refuses the field."""

    @model_validator(mode="after")
    def _transfer_has_targets(self) -> Self:
        if ("transfer" in self.tools) != bool(self.transfer_targets):
            raise ValueError("the tool transfer and transfer_targets need each other")
        return self


class OpenAIChat:
    """Implements `LanguageModel`."""

    phrases: Sequence[str] = ()
    """Callers may say anything."""

    def __init__(self, options: ChatOptions) -> None:
        self._options = options
        self._service = Service(NAME, options)
        self._warm = False

    async def start(self) -> None:
        """Connects to the service and has it say a word; raises what `check` raises."""
        await self._service.start(self.check)

    async def check(self) -> None:
        """Asks the service for its models; raises where it cannot be reached, refuses the key or lacks the model.

        One that failed the check before, or has not passed any, was started since, and has to say a word, too.
        """
        warm, self._warm = self._warm, False
        await self._service.check_model()
        if not warm:
            await self._warm_up()
        self._warm = True

    async def _warm_up(self) -> None:
        """Servers load the model, or compile the grammar of the tools, for whoever asks first: not for a caller.

        A word is enough, and which one does not matter.
        """
        with self._service.errors():
            async with AsyncExitStack() as stack, self._service.deadline():
                response = await stack.enter_async_context(self._request(WARM_UP))
                chunks = await stack.enter_async_context(aclosing(_chunks(response)))
                await anext(chunks, None)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._service.aclose()

    async def reply(self, history: Sequence[Message]) -> AsyncGenerator[ReplyEvent, None]:
        """Streams the reply: text as it comes, then what the model asks of the call, then what it cost.

        The cost comes where the service tells: OpenAI and vLLM do where `stream_options` ask for it.
        Closing the iterator closes the connection, and so ends the generation at the service.
        Raises `EngineError`: `EngineMistaken` where the model answers with nothing at all, or made up a call.
        """
        options = self._options
        calls = ToolCalls()
        spoke = False
        usage: Any = None
        with self._service.errors():
            async with AsyncExitStack() as stack:
                async with self._service.deadline():
                    response = await stack.enter_async_context(self._request(history))
                    chunks = await stack.enter_async_context(aclosing(_chunks(response)))
                    chunk = await anext(chunks, None)
                while chunk is not None:
                    for choice in chunk["choices"]:
                        delta = choice["delta"]
                        pieces = delta.get("tool_calls") or ()
                        if text := delta.get("content"):
                            spoke = True
                            yield TextDelta(text)
                        elif pieces:
                            yield TextDelta("")  # who waits for text knows that something comes
                        calls.add(pieces)
                    usage = chunk.get("usage") or usage
                    chunk = await anext(chunks, None)
        events = list(calls.events(options.transfer_targets, spoke=spoke))
        if not spoke and not events:
            raise EngineMistaken(NAME, f"{options.model} answered with nothing")
        for event in events:
            yield event
        if (cost := _cost(usage)) is not None:
            yield cost

    def _request(
        self, history: Sequence[Message]
    ) -> AsyncResponseContextManager[AsyncAPIResponse[AsyncStream[ChatCompletionChunk]]]:
        from openai import omit

        options = self._options
        return self._service.client.chat.completions.with_streaming_response.create(
            model=options.model,
            messages=chat_messages(history, options.opening),
            stream=True,
            temperature=omit if options.temperature is None else options.temperature,
            max_tokens=omit if options.max_tokens is None else options.max_tokens,
            tools=tool_definitions(options.tools, options.transfer_targets, strict=options.strict) or omit,
            extra_body=options.extra_body,
        )


async def _chunks(response: AsyncAPIResponse[Any]) -> AsyncGenerator[Any, None]:
    """The chunks of a stream of server-sent events, each a `chat.completion.chunk`.

    The client would make objects of them, which costs half a millisecond for each token of each call.
    Raises `EngineError` for one that tells of an error, and `ValueError` for what is no JSON.
    """
    async with aclosing(_lines(response)) as lines:
        async for line in lines:
            name, _, data = line.partition(b":")
            data = data.strip()
            if name != b"data" or not data:
                continue
            if data == b"[DONE]":
                return
            chunk = json.loads(data)
            if error := chunk.get("error"):
                message = error.get("message") if isinstance(error, dict) else error
                raise EngineError(NAME, f"the service broke off its answer: {message}")
            yield chunk


async def _lines(response: AsyncAPIResponse[Any]) -> AsyncGenerator[bytes, None]:
    """The lines of an answer as they come.

    The client's own end at whatever Unicode calls the end of a line, such as U+2028, which JSON may hold as it is.
    """
    rest = b""
    async with aclosing(cast("AsyncGenerator[bytes, None]", response.iter_bytes())) as blocks:
        async for block in blocks:
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                yield line
    yield rest


def _cost(usage: Any) -> TokenUsage | None:
    """What the service counted; None where that is not what the protocol says: a figure is no reason to fail."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return TokenUsage(prompt, completion) if isinstance(prompt, int) and isinstance(completion, int) else None


def chat_messages(history: Sequence[Message], opening: str = "") -> list[ChatCompletionMessageParam]:
    """`history` as OpenAI writes it.

    Neighbours of one role are joined (a caller who interrupts speaks twice in a row), since many
    chat templates want the roles to alternate; for the same reason `opening`, where it is given,
    goes before an assistant who speaks first.
    """
    if opening:
        start = next((n for n, message in enumerate(history) if message.role is not Role.SYSTEM), len(history))
        if history[start:] and history[start].role is Role.ASSISTANT:
            history = [*history[:start], Message(Role.USER, opening), *history[start:]]
    messages = [
        {"role": role.value, "content": "\n".join(message.content for message in neighbours)}
        for role, neighbours in groupby(history, key=lambda message: message.role)
    ]
    return cast("list[ChatCompletionMessageParam]", messages)


@dataclass(slots=True)
class _Call:
    id: str | None
    name: str = ""
    arguments: str = ""


class ToolCalls:
    """Tool calls put together from the pieces of a stream."""

    def __init__(self) -> None:
        self._calls: list[tuple[int, _Call]] = []

    def add(self, deltas: Iterable[Mapping[str, Any]]) -> None:
        """Adds the pieces of one chunk: the name comes first, the arguments in fragments of JSON."""
        for delta in deltas:
            call = self._call(delta["index"], delta.get("id"))
            function = delta.get("function") or {}
            call.name += function.get("name") or ""
            call.arguments += function.get("arguments") or ""

    def _call(self, index: int, call_id: str | None) -> _Call:
        for known, call in self._calls:
            # Some services give every call the index 0: a new id is a new call.
            if known == index and call_id in (None, "", call.id):
                return call
        self._calls.append((index, _Call(call_id)))
        return self._calls[-1][1]

    def events(self, targets: Mapping[str, str], *, spoke: bool) -> Iterator[ReplyEvent]:
        """What the calls ask for. Their parting words are spoken unless the model `spoke` already.

        Raises `EngineMistaken` where the model made up a tool, a target, or JSON.
        """
        for _, call in self._calls:
            try:
                arguments = json.loads(call.arguments or "{}")
                said = str(arguments.get("say") or "").strip()
                action = _action(call.name, arguments, targets)
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise EngineMistaken(NAME, f"the model made up a call of the tool {call.name!r}") from error
            if isinstance(action, PauseRecording):
                yield action  # before the words, which are its first to be left out
            if said and not spoke:
                yield TextDelta(said)
            if not isinstance(action, PauseRecording):
                yield action


def _action(tool: str, arguments: Mapping[str, Any], targets: Mapping[str, str]) -> Action:
    """What a call of `tool` asks for; raises `KeyError` where there is no such tool or target."""
    match tool:
        case "hang_up":
            return HangUp()
        case "transfer":
            return Transfer(targets[arguments["target"]])
        case "pause_recording":
            return PauseRecording()
        case "resume_recording":
            return ResumeRecording()
    raise KeyError(tool)


def tool_definitions(
    tools: Iterable[str], targets: Mapping[str, str], *, strict: bool = True
) -> list[ChatCompletionFunctionToolParam]:
    """The tools as OpenAI describes functions.

    `strict`: the service keeps the model to the schema; without it, a call can run away. `say`:
    many models either speak or call a tool, and a call must not end without a word.
    """
    say = {"type": "string", "description": "The last sentence that the caller hears from you."}
    ask = {"type": "string", "description": "What you say to the caller now."}
    parameters: dict[str, dict[str, Any]] = {
        "hang_up": {"say": say},
        "transfer": {"say": say, "target": {"type": "string", "enum": list(targets)}},
        "pause_recording": {"say": ask},
        "resume_recording": {"say": ask},
    }
    descriptions = {
        "hang_up": "End the phone call, once the caller has said goodbye or needs nothing more.",
        "transfer": "Transfer the caller to a person or a department, when the caller asks for it.",
        "pause_recording": "Stop recording the call. Always do so before you ask for the number of a payment card.",
        "resume_recording": "Record the call again, once no number of a payment card will be said any more.",
    }
    definitions = [
        {
            "type": "function",
            "function": {
                "name": tool,
                "description": descriptions[tool],
                "parameters": {
                    "type": "object",
                    "properties": parameters[tool],
                    "required": list(parameters[tool]),
                    "additionalProperties": False,
                },
                **({"strict": True} if strict else {}),
            },
        }
        for tool in tools
    ]
    return cast("list[ChatCompletionFunctionToolParam]", definitions)


def _make(options: ChatOptions, context: EngineContext) -> OpenAIChat:
    require_package(NAME)
    return OpenAIChat(options)


descriptor = EngineDescriptor(name=NAME, kind=EngineKind.LLM, options=ChatOptions, extra="openai", load=_make)
