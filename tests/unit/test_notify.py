"""sd_notify(3): what systemd hears of `voxtrunk serve`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector.cli.notify import service
from tests.fakes.clock import virtual_time


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def heard(manager: socket.socket) -> list[str]:
    """The messages so far."""
    messages = []
    while True:
        try:
            messages.append(manager.recv(100).decode())
        except BlockingIOError:
            return messages


@virtual_time
async def test_ready_alive_stopping(manager: socket.socket) -> None:
    """The order in which systemd hears of a service; it is heard twice within each watchdog period."""
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}
    async with service(environ):
        await asyncio.sleep(0)
        assert heard(manager) == ["READY=1", "WATCHDOG=1"]
        await asyncio.sleep(21)
        assert heard(manager) == ["WATCHDOG=1"] * 4
    assert heard(manager) == ["STOPPING=1"]


@virtual_time
@pytest.mark.parametrize(
    "watchdog",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}],
    ids=["none", "off", "no number", "for another process"],
)
async def test_nothing_is_watched_unless_asked_for(manager: socket.socket, watchdog: dict[str, str]) -> None:
    async with service({"NOTIFY_SOCKET": manager.getsockname(), **watchdog}):
        await asyncio.sleep(60)
    assert heard(manager) == ["READY=1", "STOPPING=1"]


@virtual_time
async def test_an_abstract_socket() -> None:
    """Containers that systemd starts may have one."""
    name = f"voxtrunk-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.setblocking(False)
        async with service({"NOTIFY_SOCKET": f"@{name}"}):
            assert heard(manager) == ["READY=1"]


@virtual_time
async def test_calls_go_on_where_nobody_listens(tmp_path: Path) -> None:
    """Neither a service manager that is gone nor none at all keeps the service from its work."""
    served = []
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1000000"}):
        async with service(environ):
            await asyncio.sleep(5)
            served.append(environ)
    assert len(served) == 2
