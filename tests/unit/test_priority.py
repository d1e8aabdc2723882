"""The event loop's thread goes before others, and only that one."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

import pytest

from connector.host.priority import PACKETS_NICE, put_thread_first

T = TypeVar("T")


def nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def in_thread(function: Callable[[], T]) -> T:
    """Its nice value ends with the thread."""
    results: list[T] = []
    thread = Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_the_thread_goes_first_and_what_it_starts_does_not() -> None:
    def work() -> tuple[bool, int, int, int]:
        first = put_thread_first()
        process = subprocess.run(
            [sys.executable, "-c", "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"],
            capture_output=True,
            check=True,
            text=True,
        )
        return first, nice(), in_thread(nice), int(process.stdout)

    usual = nice()
    first, own, thread, process = in_thread(work)
    if not first:
        pytest.skip("raising priority is not permitted here (RLIMIT_NICE)")
    assert (own, thread, process) == (PACKETS_NICE, 0, 0)
    assert nice() == usual


def test_where_it_is_not_permitted_nothing_changes() -> None:
    script = (
        "import os\n"
        "from connector.host.priority import put_thread_first\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "before = os.getpriority(os.PRIO_PROCESS, 0)\n"
        "print(put_thread_first(), os.getpriority(os.PRIO_PROCESS, 0) == before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        check=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NICE, (0, 0)),
    )
    assert done.stdout.split() == ["False", "True"]
