"""What processes use, as the kernel tells it (proc(5)), and where they run."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK = 1 / os.sysconf("SC_CLK_TCK")

CONNECTOR_NICE, GENERATOR_NICE = -15, -10
"""What keeps the machine's other work out of the figures, where the user may set it."""


@dataclass(frozen=True, slots=True)
class Thread:
    """What a thread has used so far: seconds it `ran`, and `waited` for a core while others ran (schedstat)."""

    name: str
    cores: frozenset[int]
    ran: float
    waited: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its descendants have used so far, at the time `at` (monotonic seconds).

    `threads`: by number. `user`, `system`: seconds of CPU, in steps of the kernel's tick.
    """

    at: float
    threads: Mapping[int, Thread]
    user: float
    system: float

    @property
    def ran(self) -> float:
        """Seconds of CPU, exactly."""
        return sum(thread.ran for thread in self.threads.values())


def family(root: int) -> list[int]:
    """`root` and its living descendants."""
    found: list[int] = []
    pending = [root]
    while pending:
        process = pending.pop()
        found.append(process)
        with suppress(OSError):  # it has just ended
            for thread in (PROC / str(process) / "task").iterdir():
                pending += map(int, (thread / "children").read_text().split())
    return found


def usage(root: int) -> Usage:
    """Of `root` and its living descendants, as of now."""
    at = time.monotonic()
    threads: dict[int, Thread] = {}
    user = system = 0.0
    for process in family(root):
        with suppress(OSError):
            for thread in (PROC / str(process) / "task").iterdir():
                threads[int(thread.name)] = _thread(thread)
            fields = (PROC / str(process) / "stat").read_text().rsplit(")", 1)[1].split()
            user += int(fields[11]) * TICK
            system += int(fields[12]) * TICK
    return Usage(at, threads, user, system)


def _thread(folder: Path) -> Thread:
    ran, waited, _ = map(int, (folder / "schedstat").read_text().split())
    cores = frozenset(os.sched_getaffinity(int(folder.name)))
    return Thread((folder / "comm").read_text().strip(), cores, ran / 1e9, waited / 1e9)


def resident_kib(root: int) -> int:
    """Resident memory of `root` and its living descendants, KiB."""
    total = 0
    for process in family(root):
        status = (PROC / str(process) / "status").read_text()
        total += int(status.partition("VmRSS:")[2].split()[0])
    return total


def open_files(process: int) -> int:
    """Open file descriptors of `process`."""
    return sum(1 for _ in (PROC / str(process) / "fd").iterdir())


def machine_busy() -> float:
    """Seconds of CPU that the whole machine has used so far, other than idling."""
    fields = [int(word) for word in (PROC / "stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) * TICK


def place(process: int, core: int, nice: int | None) -> str:
    """Has `process` (0: this one) run on `core` at `nice` (None: as it is); why that was not permitted, else "".

    To be done before it starts threads, which inherit both.
    """
    refused = []
    try:
        os.sched_setaffinity(process, {core})
    except OSError as error:
        refused.append(f"not pinned: {error.strerror}")
    if nice is not None:
        try:
            os.setpriority(os.PRIO_PROCESS, process, nice)
        except OSError as error:
            refused.append(f"nice {nice} not set: {error.strerror}")
    return "; ".join(refused)
