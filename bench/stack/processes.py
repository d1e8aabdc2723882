"""What the kernel tells about processes and sockets: CPU and memory, open files, queues and drops (proc(5))."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Task:
    """A thread of a component, by what it has used so far.

    `ran`: seconds on a CPU; `waited`: seconds ready to run while others ran (proc(5), /proc/PID/schedstat).
    """

    component: str
    process: int
    thread: int
    name: str
    ran: float
    waited: float


@dataclass(frozen=True, slots=True)
class Share:
    """What a thread used of one core between two looks; `waited` likewise."""

    component: str
    name: str
    ran: float
    waited: float


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of one component: `files` open, `memory` in megabytes, what its processes share counted once (Pss)."""

    files: int
    memory: float


@dataclass(frozen=True, slots=True)
class Queue:
    """The receive queue of the UDP socket at `local`: bytes that wait, datagrams dropped so far as it was full."""

    local: tuple[str, int]
    waiting: int
    dropped: int


def tasks(components: Mapping[str, Sequence[int]], roles: Mapping[int, str]) -> list[Task]:
    """Every thread of the components' processes. `roles`: what a thread is for, where its name does not tell."""
    found: list[Task] = []
    for component, processes in components.items():
        for process in processes:
            with suppress(OSError):
                for thread in (PROC / str(process) / "task").iterdir():
                    ran, waited, _ = map(int, (thread / "schedstat").read_text().split())
                    name = roles.get(int(thread.name)) or (thread / "comm").read_text().strip()
                    found.append(Task(component, process, int(thread.name), name, ran / 1e9, waited / 1e9))
    return found


def shares(before: Iterable[Task], after: Iterable[Task], seconds: float) -> list[Share]:
    """What each thread that is there at the end used of a core meanwhile, the busiest one first."""
    then = {task.thread: task for task in before}
    found: list[Share] = []
    for task in after:
        began = then.get(task.thread)
        ran, waited = (began.ran, began.waited) if began is not None else (0.0, 0.0)
        found.append(Share(task.component, task.name, (task.ran - ran) / seconds, (task.waited - waited) / seconds))
    return sorted(found, key=lambda share: -share.ran)


def totals(found: Iterable[Share]) -> dict[str, Share]:
    """The sum of each component's threads, by component."""
    sums: dict[str, Share] = {}
    for share in found:
        so_far = sums.get(share.component, Share(share.component, "", 0.0, 0.0))
        sums[share.component] = Share(share.component, "", so_far.ran + share.ran, so_far.waited + share.waited)
    return sums


def footprint(processes: Sequence[int]) -> Footprint:
    """Of processes that live."""
    files, memory = 0, 0.0
    for process in processes:
        folder = PROC / str(process)
        files += sum(1 for _ in (folder / "fd").iterdir())
        memory += int((folder / "smaps_rollup").read_text().partition("\nPss:")[2].split()[0]) / 1024
    return Footprint(files, memory)


def idle_share(before: str, after: str) -> float:
    """Share of all CPUs' time that was idle between two readings of /proc/stat."""
    first, then = ([int(word) for word in text.splitlines()[0].split()[1:9]] for text in (before, after))
    spent = [end - begin for begin, end in zip(first, then, strict=True)]
    return (spent[3] + spent[4]) / max(1, sum(spent))


def queues(text: str) -> Iterator[Queue]:
    """The sockets of a /proc/net/udp (Linux Documentation/networking/proc_net_tcp), IPv4."""
    for line in text.splitlines()[1:]:
        columns = line.split()
        address, _, port = columns[1].partition(":")
        ip = socket.inet_ntoa(struct.pack("=I", int(address, 16)))
        yield Queue((ip, int(port, 16)), int(columns[4].partition(":")[2], 16), int(columns[12]))
