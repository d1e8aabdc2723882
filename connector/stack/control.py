"""What the programs of the stack say about themselves: MI of OpenSIPS, NG of rtpengine, HTTP of a connector."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from connector.config.model import split_address
from connector.errors import StackError
from connector.interfaces import Clock
from connector.mi.client import MiClient

ANSWER_SECONDS = 1.0
"""How long a question may wait for its answer."""

Bencode = int | str | list["Bencode"] | dict[str, "Bencode"]
"""A value of the NG protocol."""


@asynccontextmanager
async def mi_of(listen: str, clock: Clock) -> AsyncIterator[MiClient]:
    """An MI client of the OpenSIPS whose management interface is at `listen` (ADDRESS:PORT)."""
    client = MiClient(split_address(listen), clock)
    client.open()
    try:
        yield client
    finally:
        client.close()


async def ng(listen: str, command: str, **parameters: Bencode) -> dict[str, Bencode]:
    """The answer of the rtpengine whose NG control protocol is at `listen` to `command`, such as `ping` or `list`.

    Raises StackError where there is none, or none that says yes.
    """
    cookie = secrets.token_hex(8).encode()
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _OneAnswer(cookie, answer), remote_addr=split_address(listen)
    )
    try:
        transport.sendto(cookie + b" " + bencode({"command": command, **parameters}))
        async with asyncio.timeout(ANSWER_SECONDS):
            data = await answer
    except (TimeoutError, OSError) as error:
        raise StackError(f"rtpengine does not answer at {listen}") from error
    finally:
        transport.close()
    reply = bdecode(data)
    if not isinstance(reply, dict) or reply.get("result") not in ("ok", "pong"):
        raise StackError(f"rtpengine refuses {command}")
    return reply


async def http_ok(listen: str, path: str) -> bool:
    """Does the connector at `listen` answer GET `path` with 200? False where it does not answer at all."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"http://{listen}{path}") as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


class _OneAnswer(asyncio.DatagramProtocol):
    """Takes the datagram that begins with `cookie`."""

    def __init__(self, cookie: bytes, answer: asyncio.Future[bytes]) -> None:
        self._cookie = cookie
        self._answer = answer

    def datagram_received(self, data: bytes, addr: Any) -> None:
        cookie, _, body = data.partition(b" ")
        if cookie == self._cookie and not self._answer.done():
            self._answer.set_result(body)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)


# --------------------------------------------------------------------------------------- bencode (BEP 3)


def bencode(value: Bencode) -> bytes:
    """`value` as the NG protocol writes it."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        data = value.encode()
        return b"%d:%b" % (len(data), data)
    if isinstance(value, Mapping):
        return b"d" + b"".join(bencode(key) + bencode(member) for key, member in sorted(value.items())) + b"e"
    return b"l" + b"".join(map(bencode, value)) + b"e"


def bdecode(data: bytes) -> Bencode:
    """The value that `data` holds; strings that are no UTF-8 have replacement characters. Raises StackError."""
    try:
        value, end = _decode(data, 0)
    except (ValueError, IndexError, RecursionError) as error:
        raise StackError("rtpengine's answer cannot be read") from error
    if end != len(data):
        raise StackError("rtpengine's answer has something behind its end")
    return value


def _decode(data: bytes, at: int) -> tuple[Bencode, int]:
    kind = data[at : at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        members: list[Bencode] = []
        at += 1
        while data[at] != ord("e"):
            member, at = _decode(data, at)
            members.append(member)
        if kind == b"l":
            return members, at + 1
        return {str(key): value for key, value in zip(members[::2], members[1::2], strict=True)}, at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    if not colon < end <= len(data):
        raise ValueError("length")
    return data[colon + 1 : end].decode("utf-8", "replace"), end
