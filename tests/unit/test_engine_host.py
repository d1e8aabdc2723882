"""The engine host: threads, processes, and what becomes of them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from connector.errors import EngineError, ModelMissing
from connector.host import LocalEngineHost
from connector.host.local import NICENESS
from connector.interfaces import Placement

BOTH = pytest.mark.parametrize("placement", list(Placement))


@pytest_asyncio.fixture
async def host() -> AsyncIterator[LocalEngineHost]:
    host = LocalEngineHost()
    yield host
    await host.aclose()


# Factories and functions live at module level: a process unpickles them by name.


def doubler() -> Callable[[np.ndarray], np.ndarray]:
    return _double


def _double(samples: np.ndarray) -> np.ndarray:
    return samples * 2


def without_model() -> Callable[[], None]:
    raise ModelMissing("recogniser", "model.bin: run `voxtrunk models fetch`")


def servant() -> Callable[[str], object]:
    """A worker that does what it is told."""
    calls: list[str] = []

    def serve(order: str) -> object:
        calls.append(order)
        match order:
            case "raise":
                raise EngineError("recogniser", "no words")
            case "bug":
                raise ZeroDivisionError("a defect")
            case "die":
                os._exit(3)
            case "wait":
                time.sleep(0.2)
            case "hang":
                time.sleep(60)
            case "nice":
                return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            case "where":
                return os.getpid(), threading.current_thread().name
        return list(calls)

    return serve


@BOTH
async def test_a_worker_computes(host: LocalEngineHost, placement: Placement) -> None:
    worker = await host.start(doubler, placement, "doubler")
    doubled = await worker.run(np.arange(100_000, dtype=np.int16) % 1000)
    assert doubled.shape == (100_000,)
    assert doubled[7] == 14


async def test_a_thread_is_elsewhere_than_the_event_loop(host: LocalEngineHost) -> None:
    worker = await host.start(servant, Placement.THREAD, "recogniser")
    pid, thread = await worker.run("where")
    assert pid == os.getpid()
    assert thread.startswith("engine-recogniser")


async def test_a_process_is_elsewhere_than_this_one(host: LocalEngineHost) -> None:
    worker = await host.start(servant, Placement.PROCESS, "recogniser")
    pid, _ = await worker.run("where")
    assert pid != os.getpid()
    await worker.aclose()
    assert all(child.pid != pid for child in multiprocessing.active_children())


async def test_packets_go_before_what_computes_in_a_process(host: LocalEngineHost) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    process = await host.start(servant, Placement.PROCESS, "recogniser")
    assert await process.run("nice") == min(ours + NICENESS, 19)
    thread = await host.start(servant, Placement.THREAD, "recogniser")
    assert await thread.run("nice") == ours, "it may hold the GIL, which the event loop waits for"


@BOTH
async def test_a_model_that_does_not_load_says_why(host: LocalEngineHost, placement: Placement) -> None:
    with pytest.raises(ModelMissing, match="voxtrunk models fetch") as caught:
        await host.start(without_model, placement, "recogniser")
    assert caught.value.engine == "recogniser"


@pytest.mark.parametrize("factory", [lambda: doubler(), partial(doubler, threading.Lock())], ids=["local", "lock"])
async def test_a_factory_that_no_process_can_be_given_is_named_and_nothing_remains(
    host: LocalEngineHost, factory: Callable[[], Callable[..., object]]
) -> None:
    """An engine's author has to learn of it, and the connector tries such an engine again and again."""
    with pytest.raises(EngineError, match=r"recogniser: what it loads cannot be given to a process: .*should be a"):
        await host.start(factory, Placement.PROCESS, "recogniser")
    before = open_files()
    for _ in range(3):
        with pytest.raises(EngineError):
            await host.start(factory, Placement.PROCESS, "recogniser")
    assert open_files() == before
    assert multiprocessing.active_children() == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("engine-recogniser")]


def open_files() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


@BOTH
async def test_what_the_function_raises_is_raised_and_the_worker_lives_on(
    host: LocalEngineHost, placement: Placement
) -> None:
    worker = await host.start(servant, placement, "recogniser")
    with pytest.raises(EngineError, match="no words"):
        await worker.run("raise")
    with pytest.raises(ZeroDivisionError):
        await worker.run("bug")
    assert await worker.run("go on") == ["raise", "bug", "go on"]


@BOTH
async def test_calls_are_served_in_order_one_at_a_time(host: LocalEngineHost, placement: Placement) -> None:
    worker = await host.start(servant, placement, "recogniser")
    results = await asyncio.gather(worker.run("wait"), *(worker.run(str(number)) for number in range(5)))
    assert results[-1] == ["wait", "0", "1", "2", "3", "4"]


@BOTH
async def test_cancelling_gives_up_the_result(host: LocalEngineHost, placement: Placement) -> None:
    worker = await host.start(servant, placement, "recogniser")
    running = asyncio.create_task(worker.run("wait"))
    queued = asyncio.create_task(worker.run("never"))
    await asyncio.sleep(0)
    queued.cancel()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await running
    assert await worker.run("go on") == ["wait", "go on"]


async def test_a_process_that_dies_is_named_and_the_next_call_starts_it_anew(host: LocalEngineHost) -> None:
    worker = await host.start(servant, Placement.PROCESS, "recogniser")
    first, _ = await worker.run("where")
    with pytest.raises(EngineError, match="recogniser: the worker process died"):
        await worker.run("die")
    second, _ = await worker.run("where")
    assert second != first


async def test_closing_stops_a_process_that_computes(host: LocalEngineHost) -> None:
    worker = await host.start(servant, Placement.PROCESS, "recogniser")
    running = asyncio.create_task(worker.run("hang"))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(4):
        await worker.aclose()
    with pytest.raises(EngineError, match="was stopped"):
        await running
    assert multiprocessing.active_children() == []


@BOTH
async def test_a_closed_worker_refuses(host: LocalEngineHost, placement: Placement) -> None:
    worker = await host.start(servant, placement, "recogniser")
    await worker.aclose()
    await worker.aclose()
    with pytest.raises(EngineError, match="closed"):
        await worker.run("anything")


async def test_closing_the_host_closes_its_workers() -> None:
    host = LocalEngineHost()
    workers = [await host.start(servant, Placement.THREAD, name) for name in ("one", "two")]
    await host.aclose()
    await host.aclose()
    for worker in workers:
        with pytest.raises(EngineError, match="closed"):
            await worker.run("anything")


OWNER = """
import asyncio, sys, tests.unit.test_engine_host as here

async def own() -> None:
    worker = await here.LocalEngineHost().start(here.servant, here.Placement.PROCESS, "recogniser")
    print((await worker.run("where"))[0], flush=True)
    await asyncio.Event().wait()

asyncio.run(own())
"""


def test_a_process_ends_with_its_owner_however_that_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    deadline = time.monotonic() + 5
    while is_running(pid):
        assert time.monotonic() < deadline, "the worker outlived its owner"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether process `pid` is there and no zombie (a container's init may not reap)."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
