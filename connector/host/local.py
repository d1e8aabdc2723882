"""The engine host of one machine: each worker is a thread, or a thread that waits on a process."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pickle import PicklingError
from threading import Thread
from typing import Any

from connector.errors import EngineError
from connector.interfaces import Placement, Worker

CLOSING_SECONDS = 5.0
"""How long closing waits for a thread that computes and cannot be stopped."""

NICENESS = 5
"""Added to a worker process's nice value: on a core that both want, packets go before recognition.

A third of the weight, so that recognition still goes on where all cores are busy. Worker threads keep theirs: one that
waits for a core with the GIL in its hand would make the event loop wait, too.
"""

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
    """A model in a process of its own, seen from the worker's thread, which waits for it; see `NICENESS`.

    The process is spawned, not forked: a fork would take locks, sockets and threads' half-done work
    along. When it dies, the call that it served fails and the next one starts it anew. One pipe leads there
    and back, and only the process holds its other end: whenever it is killed, in the middle of a result
    even, reading here ends. (A `ProcessPoolExecutor` would wait for the rest of that result for ever.)
    """

    def __init__(self, factory: Callable[[], Function], name: str) -> None:
        self._factory = factory
        self._name = name
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._stopped = False

    def load(self) -> Function:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # A daemon, that is: killed where the connector ends without closing its engines.
        self._process = context.Process(target=_serve, args=(theirs, self._factory), name=self._name, daemon=True)
        try:
            with theirs:
                self._start(self._process)
            if self._stopped:
                self._process.kill()
            self._answer()
        except BaseException:
            self._forget()
            raise
        return self._run

    def _start(self, process: SpawnProcess) -> None:
        try:
            process.start()
        except (PicklingError, AttributeError, TypeError) as error:  # pickle raises all three
            wanted = "it should be a function of a module, or a partial one of values"
            raise EngineError(self._name, f"what it loads cannot be given to a process: {error} ({wanted})") from error

    def stop(self) -> None:
        """Kills the process, and with it the call that it may be serving. From any thread."""
        self._stopped = True
        process = self._process
        if process is not None:
            with suppress(ValueError, AttributeError):  # it has ended meanwhile, or was not started yet
                process.kill()

    def release(self) -> None:
        """Ends the process. Once the worker's thread has ended."""
        self.stop()
        self._forget()

    def _run(self, *args: Any) -> Any:
        if self._process is None:
            self.load()
        if self._pipe is not None:
            with self._dying():
                self._pipe.send(args)
        return self._answer()

    def _answer(self) -> Any:
        """What the process says next; raises what was raised there."""
        if self._pipe is None:
            raise EngineError(self._name, "the worker process was stopped")
        with self._dying():
            done, value = self._pipe.recv()
        if done:
            return value
        raise value

    @contextmanager
    def _dying(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            self._forget()
            how = "was stopped" if self._stopped else "died; the next call starts it anew"
            raise EngineError(self._name, f"the worker process {how}") from error

    def _forget(self) -> None:
        process, self._process = self._process, None
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()
        if process is not None and process.pid is not None:
            process.kill()
            process.join()
            process.close()


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


def _serve(pipe: Connection, factory: Callable[[], Function]) -> None:
    """Loads the process's one model, says so, and answers calls until the other end is closed."""
    # Ctrl-C reaches the whole process group; the calls in progress are drained, and need their engine.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, name="parent", daemon=True).start()
    os.nice(NICENESS)  # of this thread, and of those that the model starts
    loaded, function = _outcome(factory)
    pipe.send((True, None) if loaded else (False, function))
    while loaded:
        try:
            args = pipe.recv()
        except EOFError:
            return
        pipe.send(_outcome(function, *args))


def _outcome(function: Function, *args: Any) -> tuple[bool, Any]:
    """Whether it was done, and what came of it: a result, or what was raised."""
    try:
        return True, function(*args)
    except Exception as error:  # noqa: BLE001 - whatever it is, who asked must learn of it, and where it happened
        error.add_note(f"In the worker process:\n{traceback.format_exc()}")
        return False, error


def _end_with_parent() -> None:
    """Ends the process when the connector is gone, however it went: nobody else would."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
