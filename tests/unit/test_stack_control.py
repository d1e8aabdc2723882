"""What the programs of the stack say: NG of rtpengine, MI of OpenSIPS, and what is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.errors import StackError
from connector.stack.components import uptime
from connector.stack.control import Bencode, bdecode, bencode, http_ok, ng

VALUES = st.recursive(
    st.integers(-(2**63), 2**63) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


class Rtpengine(asyncio.DatagramProtocol):
    """Answers each NG command with what `answer` makes of it, behind its cookie; None for silence."""

    def __init__(self, answer: Callable[[bytes, bytes], bytes | None]) -> None:
        self._answer = answer
        self.commands: list[Bencode] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        cookie, _, body = data.partition(b" ")
        self.commands.append(bdecode(body))
        reply = self._answer(cookie, body)
        if reply is not None:
            self.transport.sendto(reply, addr)


@asynccontextmanager
async def rtpengine(answer: Callable[[bytes, bytes], bytes | None]) -> AsyncIterator[tuple[Rtpengine, str]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: Rtpengine(answer), local_addr=("127.0.0.1", 0))
    try:
        yield server, f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()


@given(VALUES)
def test_what_is_encoded_is_decoded_again(value: Bencode) -> None:
    assert bdecode(bencode(value)) == value


def test_the_example_of_bep_3() -> None:
    assert bencode({"spam": ["a", "b"], "cow": "moo"}) == b"d3:cow3:moo4:spaml1:a1:bee"
    assert bdecode(b"i-3e") == -3


@given(st.binary(max_size=64) | st.text("ilde0123456789:-").map(str.encode))
def test_any_octets_are_decoded_or_refused(data: bytes) -> None:
    with suppress(StackError):
        bdecode(data)


@pytest.mark.parametrize("data", [b"", b"i1", b"5:abc", b"l", b"di1e", b"i1ei2e", b"d" * 5000, b"-1:x", b"d1:ae"])
def test_what_is_no_bencode_is_refused(data: bytes) -> None:
    with pytest.raises(StackError):
        bdecode(data)


async def test_a_command_gets_the_answer_with_its_cookie() -> None:
    async with rtpengine(lambda cookie, _: cookie + b" " + bencode({"result": "ok", "calls": ["one"]})) as (server, at):
        assert (await ng(at, "list", limit=5))["calls"] == ["one"]
        assert server.commands == [{"command": "list", "limit": 5}]


@pytest.mark.parametrize(
    "answer",
    [
        lambda cookie, body: None,
        lambda cookie, body: b"other " + bencode({"result": "ok"}),
        lambda cookie, body: cookie + b" " + bencode({"result": "error"}),
        lambda cookie, body: cookie + b" " + bencode("pong"),
        lambda cookie, body: cookie + b" nonsense",
    ],
    ids=["silence", "another's answer", "an error", "no dictionary", "nonsense"],
)
async def test_silence_and_refusal_are_errors(answer: Callable[[bytes, bytes], bytes | None]) -> None:
    async with rtpengine(answer) as (_, at):
        with pytest.raises(StackError, match="rtpengine"):
            await ng(at, "ping")


async def test_nobody_there_is_an_error_at_once() -> None:
    async with rtpengine(lambda cookie, body: None) as (_, at):
        pass
    with pytest.raises(StackError, match="does not answer"):
        await ng(at, "ping")


async def test_http_without_a_server_is_no_yes() -> None:
    async with rtpengine(lambda cookie, body: None) as (_, at):
        assert await http_ok(at, "/readyz") is False


def test_the_uptime_of_an_opensips_is_in_seconds() -> None:
    assert uptime({"Now": "Fri Nov 20 2026", "Up since": "Fri Nov 20 2026", "Up time": "12 [sec]"}) == 12
