"""What the engines of OpenAI-compatible services share: options, the client, and errors in our words.

"OpenAI-compatible" is what the official client speaks: OpenAI itself, vLLM, and many more.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import Field, SecretStr

from connector.errors import EngineBusy, EngineError, EngineRefused, EngineUnreachable, PackageMissing
from connector.interfaces import EngineOptions

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

_CAUSE_LENGTH = 200
"""Characters of a service's own message that an error repeats."""
_CONNECTIONS = 1000
_IDLE_SECONDS = 120.0
"""Connections are kept for so long between two uses, so that not every turn pays for TCP and TLS anew."""


class ServiceOptions(EngineOptions):
    """Where the service is and how long it may take."""

    base_url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    """Up to and including the version, such as http://127.0.0.1:8000/v1."""
    api_key: SecretStr | None = None
    """Sent as bearer token; a service of one's own may need none."""
    model: Annotated[str, Field(min_length=1)]
    """As the service names it."""
    connect_timeout: Annotated[float, Field(gt=0)] = 2.0
    """Seconds to reach the service."""
    first_timeout: Annotated[float, Field(gt=0)] = 10.0
    """Seconds until the answer begins, with all retries, and without anything new once it has begun."""
    retries: Annotated[int, Field(ge=0, le=5)] = 1
    """Repetitions of a request that failed before its answer began: no connection, 408, 409, 429 and 5xx. By default
    none where another engine can be asked instead: the first repetition comes after half a second or more."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """More fields of the request's JSON, for what only this service knows; they win over ours."""

    def with_successor(self) -> Self:
        return self if "retries" in self.model_fields_set else self.model_copy(update={"retries": 0})


class Service:
    """One service: a client with its connections, and the translation of its errors."""

    def __init__(self, engine: str, options: ServiceOptions) -> None:
        self._engine = engine
        self._options = options
        self._client: AsyncOpenAI | None = None

    async def start(self, prove: Callable[[], Awaitable[None]]) -> None:
        """Makes the client and has `prove` use it: the first caller finds the service connected and warm."""
        # Off the event loop: it reads the certificate store.
        self._client = await asyncio.to_thread(self._make_client)
        try:
            await prove()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Closes the connections. Idempotent."""
        if self._client:
            await self._client.close()
            self._client = None

    @property
    def client(self) -> AsyncOpenAI:
        """The client; raises `EngineError` before `start`."""
        if self._client is None:
            raise EngineError(self._engine, "not started")
        return self._client

    def deadline(self) -> AbstractAsyncContextManager[Any]:
        """Bounds the time until an answer begins. Use it within `errors`."""
        return asyncio.timeout(self._options.first_timeout)

    async def check_model(self) -> None:
        """Proves that the service answers, accepts the key and serves the model; raises `EngineError` where not."""
        with self.errors():
            async with self.deadline():
                served = [model.id async for model in self.client.models.list()]
        if self._options.model not in served:
            names = ", ".join(served) or "none"
            raise EngineRefused(
                self._engine, f"{self._place} does not serve the model {self._options.model}; it serves {names}"
            )

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns the client's errors into documented ones."""
        import httpx2
        from openai import APIConnectionError, APIStatusError, OpenAIError

        try:
            yield
        except APIStatusError as error:
            raise self._refusal(error) from error
        except TimeoutError as error:
            raise EngineUnreachable(
                self._engine, f"{self._place} did not begin to answer within {self._options.first_timeout:g} s"
            ) from error
        except httpx2.TimeoutException as error:
            raise EngineUnreachable(
                self._engine, f"{self._place} fell silent for {self._options.first_timeout:g} s in mid-answer"
            ) from error
        except (APIConnectionError, httpx2.HTTPError) as error:
            raise EngineUnreachable(self._engine, f"no connection to {self._place}: {_cause(error)}") from error
        except OpenAIError as error:
            raise EngineError(self._engine, f"{self._place} failed: {_short(str(error))}") from error
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            # The client takes answers as they come: what has another shape fails where it is first used.
            raise EngineError(
                self._engine,
                f"{self._place} does not answer as OpenAI's protocol says (is base_url complete?): {error}",
            ) from error

    def _make_client(self) -> AsyncOpenAI:
        import httpx2
        from openai import AsyncOpenAI, DefaultAioHttpClient, Timeout

        options = self._options
        limits = httpx2.Limits(
            max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=_IDLE_SECONDS
        )
        url = urlsplit(options.base_url)
        headers = {}
        if url.username is not None:  # instead of the key; aiohttp refuses a request that carries both
            login = b64encode(f"{unquote(url.username)}:{unquote(url.password or '')}".encode()).decode()
            headers["Authorization"] = f"Basic {login}"
        client = AsyncOpenAI(
            base_url=_without_login(url),
            default_headers=headers,
            # Never the client's default, a key from the environment that was meant for another service.
            api_key=options.api_key.get_secret_value() if options.api_key else "none",
            max_retries=options.retries,
            timeout=Timeout(options.first_timeout, connect=options.connect_timeout),
            # On aiohttp a request costs two thirds of what it does on the client's own transport.
            http_client=DefaultAioHttpClient(limits=limits),
        )
        # The client imports its resources when they are first used: now, not in a call.
        _ = client.models, client.chat.completions, client.audio.speech, client.audio.transcriptions
        return client

    def _refusal(self, error: APIStatusError) -> EngineError:
        status = error.status_code
        if status in (401, 403):
            # Not the service's own words: some repeat a part of the key.
            key = "the API key" if self._options.api_key else "a request without API key"
            return EngineRefused(self._engine, f"{self._place} refuses {key} ({status})")
        message = f"{self._place} answers {status}: {_short(error.message)}"
        if status == 404:
            return EngineRefused(
                self._engine, f"{message} (is {self._options.model} a model of it, and base_url complete?)"
            )
        if status in (429, 503) and "Retry-After" in error.response.headers:  # RFC 9110 section 10.2.3
            return EngineBusy(self._engine, message)
        if status in (408, 409, 429) or status >= 500:
            return EngineError(self._engine, message)
        return EngineRefused(self._engine, message)

    @property
    def _place(self) -> str:
        """The base URL without credentials."""
        return _without_login(urlsplit(self._options.base_url))


def _cause(error: BaseException) -> str:
    """What broke the connection: in the system's words where one of the causes is the system's."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno:
            return os.strerror(found.errno) if found.errno > 0 else str(found.strerror)  # below 0: getaddrinfo's
        found = found.__cause__ or found.__context__
    cause = error.__cause__ or error
    return str(cause) or type(cause).__name__


def _without_login(url: SplitResult) -> str:
    return url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()


def require_package(engine: str) -> None:
    """Raises `PackageMissing` where the official client is not installed."""
    try:
        import openai  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise PackageMissing(engine, "openai is not installed: run `pip install 'voxtrunk[openai]'`") from error


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _CAUSE_LENGTH else text[: _CAUSE_LENGTH - 1] + "…"
