"""A network of its own for a test: the very addresses that a page of the documentation names, all on this machine.

What the test's thread opens and starts while it is in there belongs to that network, and nothing else does: no port is
taken, and no packet leaves. Linux only, for root.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000
"""A network namespace, for unshare(2) and setns(2)."""


def missing_reason() -> str | None:
    """Why there can be none here, for a visible skip; None where there can."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return "no network namespace: needs root and iproute2"
    return None


@contextmanager
def inside(*addresses: str, beyond: str = "", nftables: str = "") -> Iterator[None]:
    """This thread is in a network that has loopback, `addresses` and the rules `nftables`; afterwards it is back.

    `beyond`: an address that packets may have, and that only the rules know. All others are unreachable.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(libc.unshare(CLONE_NEWNET))
        try:
            _run("ip", "link", "set", "lo", "up")
            for address in addresses:
                _run("ip", "address", "add", f"{address}/32", "dev", "lo")
            if beyond:
                _run("ip", "route", "add", f"{beyond}/32", "dev", "lo")
            if nftables:
                _run("nft", "-f", "-", text=nftables)
            yield
        finally:
            _checked(libc.setns(outside, CLONE_NEWNET))
    finally:
        os.close(outside)


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _run(*command: str, text: str = "") -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
