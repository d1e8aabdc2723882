"""The engine host of one machine: each worker is a thread, or a thread that waits on a process."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from threading import Thread
from typing import Any

from connector.errors import EngineError
from connector.interfaces import Placement, Worker

CLOSING_SECONDS = 5.0
"""How long closing waits for a thread that computes and cannot be stopped."""

Function = Callable[..., Any]


class LocalEngineHost:
    """Implements `EngineHost`. It closes the workers that are still open when it is closed."""

    def __init__(self) -> None:
        self._workers: list[_Thread] = []

    async def start(self, factory: Callable[[], Function], placement: Placement, name: str) -> Worker:
        """Runs `factory` where the worker lives and serves the function it returns; raises what it raises."""
        model = _Remote(factory, name) if placement is Placement.PROCESS else _Loaded(factory)
        worker = _Thread(model, name)
        self._workers.append(worker)
        try:
            await worker.load()
        except BaseException:
            await worker.aclose()
            raise
        return worker

    async def aclose(self) -> None:
        """Closes every worker. Idempotent."""
        for worker in self._workers:
            await worker.aclose()
        self._workers.clear()


class _Loaded:
    """A model in the worker's own thread."""

    def __init__(self, factory: Callable[[], Function]) -> None:
        self.load = factory

    def stop(self) -> None:
        """Nothing stops a computing thread; it ends with its present call."""

    def release(self) -> None:
        """What was loaded goes with the thread."""


class _Remote:
    """A model in a process of its own, seen from the worker's thread, which waits for it.

    The process is spawned, not forked: a fork would take locks, sockets and threads' half-done work
    along. When it dies, the call that it served fails and the next one starts it anew.
    """

    def __init__(self, factory: Callable[[], Function], name: str) -> None:
        self._factory = factory
        self._name = name
        self._process: ProcessPoolExecutor | None = None
        self._pid: int | None = None
        self._stopped = False

    def load(self) -> Function:
        process = ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn"))
        try:
            self._pid = self._answer(process, _load, self._factory)
        except BaseException:
            process.shutdown()
            raise
        self._process = process
        return self._run

    def stop(self) -> None:
        """Kills the process, and with it the call that it may be serving. From any thread."""
        self._stopped = True
        for child in multiprocessing.active_children():
            if child.pid == self._pid:
                child.kill()

    def release(self) -> None:
        """Ends the process. Once the worker's thread has ended: an executor must not be shut down twice at once."""
        self.stop()
        if self._process is not None:
            self._process.shutdown()

    def _run(self, *args: Any) -> Any:
        process = self._process
        if process is None:
            self.load()
            return self._run(*args)
        return self._answer(process, _run, *args)

    def _answer(self, process: Executor, function: Function, *args: Any) -> Any:
        try:
            return process.submit(function, *args).result()
        except BrokenProcessPool as error:
            self._process = self._pid = None
            process.shutdown()
            how = "was stopped" if self._stopped else "died; the next call starts it anew"
            raise EngineError(self._name, f"the worker process {how}") from error


class _Thread:
    """Implements `Worker`: one thread, so calls are served one at a time and in order."""

    def __init__(self, model: _Loaded | _Remote, name: str) -> None:
        self._model = model
        self._name = name
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"engine-{name}")
        self._function: Function | None = None
        self._closed = False

    async def load(self) -> None:
        self._function = await asyncio.wrap_future(self._thread.submit(self._model.load))

    async def run(self, *args: Any) -> Any:
        if self._function is None or self._closed:
            raise EngineError(self._name, "the worker is closed")
        return await asyncio.wrap_future(self._thread.submit(self._function, *args))

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                await _in_thread(self._shut_down, f"close-{self._name}")

    def _shut_down(self) -> None:
        self._model.stop()
        self._thread.shutdown(cancel_futures=True)
        self._model.release()


async def _in_thread(function: Callable[[], None], name: str) -> None:
    """Runs `function`, which blocks, in a daemon thread that nothing waits for but the caller."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def work() -> None:
        function()
        with suppress(RuntimeError):  # the loop did not wait and is closed
            loop.call_soon_threadsafe(done.set)

    Thread(target=work, name=name, daemon=True).start()
    await done.wait()


# What follows runs in the worker process.

_loaded: list[Function] = []


def _load(factory: Callable[[], Function]) -> int:
    """Loads the process's one model; returns the process's id."""
    # Ctrl-C reaches the whole process group; the calls in progress are drained, and need their engine.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, name="parent", daemon=True).start()
    _loaded.append(factory())
    return os.getpid()


def _run(*args: Any) -> Any:
    return _loaded[0](*args)


def _end_with_parent() -> None:
    """Ends the process when the connector is gone, however it went: nobody else would."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
