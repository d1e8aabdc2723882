"""Keeps the programs of the stack running: starts them in order, restarts what dies, stops them in reverse.

Each program has a session and so a process group of its own: a signal of the terminal reaches the
supervisor alone, and what a dead program leaves behind (the workers of an OpenSIPS whose main
process was killed) is killed before it starts again. Where the supervisor itself is killed, even
with SIGKILL, the kernel sends SIGTERM to every program (PR_SET_PDEATHSIG of prctl(2)): OpenSIPS and
rtpengine end at once, a connector after its calls.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from connector.errors import StackError
from connector.stack.logview import LogView

READY_SECONDS = 60.0
"""How long a program may take until it is ready: a connector loads its models first."""

PROBE_SECONDS = 0.1
"""Between two questions whether a program is ready."""

LAST_LINES = 15
"""Lines of a program's log that an error shows."""

LINE_OCTETS = 1 << 16
"""Longest line of a program's log; a longer one is cut into several."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Component:
    """A program of the stack.

    `folder`: its working directory. `ready`: None when it works, else what it lacks. `grace`: seconds
    that it has to end after SIGTERM. `environment`: variables besides our own.
    """

    name: str
    command: Sequence[str]
    folder: Path
    ready: Callable[[], Awaitable[str | None]]
    grace: float = 5.0
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BackOff:
    """Seconds before a restart: `first`, then twice as long each time up to `longest`, until one ran for `calm`."""

    first: float = 0.5
    longest: float = 10.0
    calm: float = 30.0

    def after(self, previous: float | None, ran: float) -> float:
        """Seconds to wait now, where it was `previous` the last time and the program ran for `ran`."""
        if previous is None or ran >= self.calm:
            return self.first
        return min(2 * previous, self.longest)


class Service:
    """One component, kept running between `start` and `stop`."""

    def __init__(self, component: Component, view: LogView, back_off: BackOff) -> None:
        self.component = component
        self._view = view
        self._back_off = back_off
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    @property
    def pid(self) -> int | None:
        """Of its main process, which leads its process group; None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self, within: float = READY_SECONDS) -> None:
        """Starts it and waits until it is ready.

        Raises StackError with the end of its log where it dies before, or takes longer than `within` seconds.
        """
        self._stopping.clear()
        process, lines = await self._spawn()
        self._keeper = asyncio.create_task(self._keep(process, lines), name=f"keep {self.component.name}")
        problem = await self._problem(process, within)
        if problem is not None:
            await self.stop(0)
            log = "\n".join(f"    {line}" for line in self._last) or "    (its log is empty)"
            raise StackError(f"{self.component.name} did not start: {problem}. The end of its log:\n{log}")

    async def ready(self, within: float = READY_SECONDS) -> None:
        """Waits until it is ready, started again meanwhile or not. Raises StackError after `within` seconds."""
        lacks = await self.component.ready()
        try:
            async with asyncio.timeout(within):
                while lacks is not None:
                    await asyncio.sleep(PROBE_SECONDS)
                    lacks = await self.component.ready()
        except TimeoutError:
            raise StackError(f"{self.component.name} is not ready after {within:g} s: {lacks}") from None

    async def stop(self, grace: float | None = None) -> None:
        """Ends it with SIGTERM, and with SIGKILL after `grace` seconds (its own by default; 0: at once). Idempotent."""
        keeper = self._keeper
        if keeper is None:
            return
        self._stopping.set()
        if grace != 0:
            self.signal(signal.SIGTERM)
            await asyncio.wait([keeper], timeout=self.component.grace if grace is None else grace)
        self.kill()
        await keeper
        self._keeper = None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to its main process."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """Kills all its processes with SIGKILL; unless it is being stopped it starts again."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _spawn(self) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader]:
        """Starts it; the process and its log."""
        component = self.component
        # A pipe of asyncio's own would have `wait` wait for the workers that a dead main process leaves behind.
        reading, writing = os.pipe()
        lines = asyncio.StreamReader(limit=LINE_OCTETS)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *component.command,
                cwd=component.folder,
                env={**os.environ, **component.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        except OSError as error:
            os.close(reading)
            raise StackError(f"{component.command[0]} does not run: {error.strerror}") from error
        finally:
            os.close(writing)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(reading, "rb", buffering=0)
        )
        return self._process, lines

    async def _problem(self, process: asyncio.subprocess.Process, within: float) -> str | None:
        """Waits until `process` is ready: None; or says why it will not be."""
        lacks: str | None = None
        try:
            async with asyncio.timeout(within):
                while process.returncode is None:
                    lacks = await self.component.ready()
                    if lacks is None:
                        return None
                    await asyncio.sleep(PROBE_SECONDS)
        except TimeoutError:
            return f"not ready after {within:g} s: {lacks}"
        return _how_it_ended(process.returncode)

    async def _keep(self, process: asyncio.subprocess.Process, lines: asyncio.StreamReader) -> None:
        """Follows `process` and those that take its place, until it is being stopped."""
        loop = asyncio.get_running_loop()
        pause: float | None = None
        while True:
            began = loop.time()
            code = await self._follow(process, lines)
            pause = self._back_off.after(pause, loop.time() - began)
            if self._stopping.is_set():
                return
            self._say(f"{_how_it_ended(code)}; starts again in {pause:g} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            if self._stopping.is_set():
                return
            process, lines = await self._spawn()

    async def _follow(self, process: asyncio.subprocess.Process, lines: asyncio.StreamReader) -> int:
        """Shows what `process` writes until it ends; its exit status."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(lines))
            code = await process.wait()
            # What it leaves behind holds its sockets, and its end of the pipe.
            self.kill()
        return code

    async def _read(self, lines: asyncio.StreamReader) -> None:
        while True:
            try:
                data = await lines.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                data = error.partial
            except asyncio.LimitOverrunError as error:
                data = await lines.readexactly(error.consumed)
            if not data:
                return
            line = data.decode("utf-8", "replace").rstrip("\r\n")
            if line:
                self._last.append(line)
                self._view.show(self.component.name, line)

    def _say(self, line: str) -> None:
        self._view.show(self.component.name, f"stack: {line}", notice=True)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


class Supervisor:
    """The services of a stack, in the order in which they start."""

    def __init__(self, components: Sequence[Component], view: LogView, back_off: BackOff | None = None) -> None:
        self._view = view
        self.services = {component.name: Service(component, view, back_off or BackOff()) for component in components}

    async def start(self) -> None:
        """Starts one after the other, each when the one before is ready. Raises StackError; then none is left."""
        try:
            for name, service in self.services.items():
                await service.start()
                self._view.show(name, "stack: ready", notice=True)
        except BaseException:
            await self.stop(0)
            raise

    async def stop(self, grace: float | None = None) -> None:
        """Stops them in reverse order, each with its own grace or with `grace` seconds. Idempotent."""
        for service in reversed(self.services.values()):
            await service.stop(grace)


@asynccontextmanager
async def supervised(
    components: Sequence[Component], view: LogView, back_off: BackOff | None = None
) -> AsyncIterator[Supervisor]:
    """Runs `components` meanwhile; none of their processes is left at the end. Raises StackError."""
    supervisor = Supervisor(components, view, back_off)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()
