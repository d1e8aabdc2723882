"""What a service manager hears of `voxtrunk serve`: sd_notify(3), without libsystemd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager


@asynccontextmanager
async def service(environ: Mapping[str, str] = os.environ) -> AsyncIterator[None]:
    """Tells the service manager that the service is up, while inside that its event loop turns, and at the end
    that it stops. Nobody is told where `$NOTIFY_SOCKET` names no socket.

    Where the unit has `WatchdogSec`, an event loop that stands still gets the process restarted.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        yield
        return
    # An @ stands for the zero byte of an abstract socket (unix(7)).
    address = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.setblocking(False)
        _tell(manager, address, "READY=1")
        watchdog = asyncio.create_task(_watch(manager, address, _watchdog_seconds(environ)))
        try:
            yield
        finally:
            watchdog.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watchdog
            _tell(manager, address, "STOPPING=1")


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """What sd_watchdog_enabled(3) says: within how many seconds to be heard; None for not at all."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None


async def _watch(manager: socket.socket, address: str, seconds: float | None) -> None:
    while seconds is not None:
        _tell(manager, address, "WATCHDOG=1")
        await asyncio.sleep(seconds / 2)


def _tell(manager: socket.socket, address: str, state: str) -> None:
    # A service manager that cannot be told is no reason to drop calls.
    with contextlib.suppress(OSError):
        manager.sendto(state.encode(), address)
