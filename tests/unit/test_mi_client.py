"""MI commands over UDP: which reply belongs to which command, and what happens to those that get none."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connector.errors import MiRefused, MiTimeout
from connector.mi.client import ATTEMPTS, IN_FLIGHT, REPLY_SECONDS, MiClient
from tests.fakes.clock import LoopClock, virtual_time

Serve = Callable[["Server", dict[str, Any], tuple[str, int]], None]


class Server(asyncio.DatagramProtocol):
    """Hands each request to `serve`, which answers it or not."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.requests: list[dict[str, Any]] = []
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        request = json.loads(data)
        self.requests.append(request)
        self._serve(self, request, addr)

    def answer(self, request: dict[str, Any], addr: tuple[str, int], **fields: Any) -> None:
        self.send({"jsonrpc": "2.0", "id": request["id"], **fields}, addr)

    def send(self, message: Any, addr: tuple[str, int]) -> None:
        self.transport.sendto(message if isinstance(message, bytes) else json.dumps(message).encode(), addr)


def echo(server: Server, request: dict[str, Any], addr: tuple[str, int]) -> None:
    server.answer(request, addr, result=request.get("params"))


@asynccontextmanager
async def facing(serve: Serve) -> AsyncIterator[tuple[MiClient, Server]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: Server(serve), local_addr=("127.0.0.1", 0))
    client = MiClient(transport.get_extra_info("sockname"), LoopClock())
    client.open()
    try:
        yield client, server
    finally:
        client.close()
        transport.close()
        await asyncio.sleep(0)
        assert client.waiting == 0


@virtual_time
async def test_commands_are_json_rpc_and_their_results_come_back_by_id() -> None:
    async with facing(echo) as (mi, server):
        results = await asyncio.gather(*(mi.call("shv_get", name=str(n)) for n in range(100)))
        assert results == [{"name": str(n)} for n in range(100)]
        assert await mi.call("uptime") is None
        request = server.requests[0]
        assert (request["jsonrpc"], request["method"], request["params"]) == ("2.0", "shv_get", {"name": "0"})
        assert "params" not in server.requests[-1]
        assert mi.heard == 0.0


@virtual_time
async def test_an_error_has_opensips_code_and_message() -> None:
    def refuse(server: Server, request: dict[str, Any], addr: tuple[str, int]) -> None:
        server.answer(request, addr, error={"code": 404, "message": "Entity not found"})

    async with facing(refuse) as (mi, _):
        with pytest.raises(MiRefused, match="404 Entity not found") as raised:
            await mi.call("ua_session_list", key="B2B.1")
        assert (raised.value.code, raised.value.sip_status) == (404, 503)


@virtual_time
async def test_a_repeatable_command_is_repeated_and_another_one_is_not() -> None:
    async with facing(lambda server, request, addr: None) as (mi, server):
        for command, attempts in (("uptime", ATTEMPTS), ("ua_session_update", 1)):
            server.requests.clear()
            with pytest.raises(MiTimeout, match=command):
                await mi.call(command)
            assert len(server.requests) == attempts
        assert LoopClock().now() == pytest.approx(2 * ATTEMPTS * REPLY_SECONDS)
        assert mi.counts.timeouts == 2


@virtual_time
async def test_the_late_reply_to_a_first_attempt_counts_and_one_after_the_end_is_dropped() -> None:
    def late(server: Server, request: dict[str, Any], addr: tuple[str, int]) -> None:
        delay = 0.7 if len(server.requests) == 1 else 5.0
        asyncio.get_running_loop().call_later(delay, echo, server, request, addr)

    async with facing(late) as (mi, _):
        assert await mi.call("uptime", a=1) == {"a": 1}
        assert LoopClock().now() == pytest.approx(0.7)
        await asyncio.sleep(10)
        assert mi.counts.late == 1


@virtual_time
async def test_never_more_than_so_many_are_under_way() -> None:
    most = 0

    def watch(server: Server, request: dict[str, Any], addr: tuple[str, int]) -> None:
        nonlocal most
        most = max(most, mi.waiting)
        asyncio.get_running_loop().call_later(0.01, echo, server, request, addr)

    async with facing(watch) as (mi, _):
        await asyncio.gather(*(mi.call("shv_get", n=n) for n in range(500)))
        assert most <= IN_FLIGHT


@pytest.mark.parametrize(
    "reply",
    [
        b"\xff\xfe",
        b"[" * 50_000,
        b"null",
        [],
        {},
        {"id": "7"},
        {"id": True, "result": 1},
        {"id": 1.5, "result": 1},
        {"id": 7},
        {"id": 7, "error": "no"},
        {"id": 7, "error": {"code": "x"}},
    ],
)
def test_what_is_no_reply_is_counted_and_dropped(reply: Any) -> None:
    def babble(server: Server, request: dict[str, Any], addr: tuple[str, int]) -> None:
        if isinstance(reply, dict) and reply.get("id") == 7:
            server.send({**reply, "id": request["id"]}, addr)
        else:
            server.send(reply, addr)
        echo(server, request, addr)

    @virtual_time
    async def run() -> None:
        async with facing(babble) as (mi, _):
            assert await mi.call("uptime", a=1) == {"a": 1}
            assert mi.counts.malformed == 1

    run()


@virtual_time
async def test_replies_with_unknown_ids_or_of_strangers_change_nothing() -> None:
    def babble(server: Server, request: dict[str, Any], addr: tuple[str, int]) -> None:
        server.send({"id": request["id"] + 1000, "result": "forged"}, addr)
        echo(server, request, addr)
        echo(server, request, addr)

    async with facing(babble) as (mi, _):
        stranger, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        answering = asyncio.create_task(mi.call("uptime", a=1))
        await asyncio.sleep(0)
        ours = mi._socket.local  # type: ignore[union-attr]
        stranger.sendto(json.dumps({"id": mi._first, "result": "forged"}).encode(), ours)
        assert await answering == {"a": 1}
        await asyncio.sleep(0.1)
        assert (mi.counts.unknown, mi.counts.late) == (1, 1)
        stranger.close()


@virtual_time
async def test_closing_fails_what_waits() -> None:
    async with facing(lambda server, request, addr: None) as (mi, _):
        waiting = asyncio.create_task(mi.call("ua_session_update"))
        await asyncio.sleep(0.1)
        mi.close()
        with pytest.raises(MiTimeout):
            await waiting
        with pytest.raises(MiTimeout):
            await mi.call("uptime")


@virtual_time
async def test_a_cancelled_command_leaves_nothing() -> None:
    async with facing(lambda server, request, addr: None) as (mi, _):
        waiting = asyncio.create_task(mi.call("uptime"))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert mi.waiting == 0


async def test_an_opensips_that_starts_later_is_reached_by_the_same_client() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    address = transport.get_extra_info("sockname")
    transport.close()
    await asyncio.sleep(0)
    mi = MiClient(address, LoopClock())
    mi.open()
    waiting = asyncio.create_task(mi.call("uptime", a=1))
    await asyncio.sleep(0.1)  # refused by ICMP
    transport, _ = await loop.create_datagram_endpoint(lambda: Server(echo), local_addr=address)
    assert await waiting == {"a": 1}
    mi.close()
    transport.close()
    await asyncio.sleep(0)
