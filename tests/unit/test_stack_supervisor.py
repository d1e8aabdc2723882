"""The supervisor with small real processes: order, readiness, restarts, a clean end, one log view."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from connector.errors import StackError
from connector.stack.logview import LogView
from connector.stack.supervisor import BackOff, Component, Supervisor, supervised

QUICK = BackOff(first=0.01, longest=0.05, calm=5.0)

SLEEPER = (
    "import os, time; open('{name}.pid', 'a').write(f'{{os.getpid()}}\\n'); print('up', flush=True); time.sleep(60)"
)


def component(folder: Path, name: str, program: str = SLEEPER, *, grace: float = 5.0) -> Component:
    """Runs `program`; it is ready when it has written a process id (or `{name}.ready`)."""
    pid = folder / f"{name}.pid"

    async def ready() -> str | None:
        return None if await asyncio.to_thread(pid.exists) else f"no {pid.name}"

    return Component(name, [sys.executable, "-c", program.format(name=name)], folder, ready, grace)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 - processes have no event
            await asyncio.sleep(0.02)


def pids(folder: Path, name: str) -> list[int]:
    file = folder / f"{name}.pid"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def alive(pid: int) -> bool:
    """Does it run, other than as a zombie?"""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_components_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    program = (
        "import signal, sys, os, time\n"
        "def end(*_):\n    open('order', 'a').write('-{name} '); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "open('order', 'a').write('+{name} ')\n"
    ) + SLEEPER
    names = ["one", "two", "three"]
    async with (
        LogView(tmp_path / "log", names, None) as view,
        supervised([component(tmp_path, name, program) for name in names], view),
    ):
        assert (tmp_path / "order").read_text() == "+one +two +three "
    assert (tmp_path / "order").read_text() == "+one +two +three -three -two -one "


async def test_what_dies_is_started_again_and_the_log_says_how_it_died(tmp_path: Path) -> None:
    out = io.StringIO()
    async with (
        LogView(tmp_path / "log", ["one"], out) as view,
        supervised([component(tmp_path, "one")], view, QUICK) as supervisor,
    ):
        (first,) = pids(tmp_path, "one")
        supervisor.services["one"].kill()

        async def again() -> bool:
            return len(pids(tmp_path, "one")) == 2

        await until(again)
        assert not alive(first)
        assert alive(pids(tmp_path, "one")[1])
    assert re.search(r"one │ stack: killed by SIGKILL; starts again in 0\.01 s", out.getvalue())


async def test_children_of_a_killed_main_process_do_not_outlive_it(tmp_path: Path) -> None:
    forks = "import os\nif os.fork():\n    pass\n" + SLEEPER
    async with (
        LogView(tmp_path / "log", ["one"], None) as view,
        supervised([component(tmp_path, "one", forks)], view, BackOff(first=60)) as supervisor,
    ):

        async def both() -> bool:
            return len(pids(tmp_path, "one")) == 2

        await until(both)
        main = supervisor.services["one"].pid
        assert main is not None
        os.kill(main, signal.SIGKILL)

        async def gone() -> bool:
            return not any(alive(pid) for pid in pids(tmp_path, "one"))

        await until(gone)


async def test_one_that_cannot_start_says_why_with_its_last_lines_and_nothing_is_left(tmp_path: Path) -> None:
    fails = "import sys; print('port 5060 is taken', file=sys.stderr); sys.exit(3)"
    async with LogView(tmp_path / "log", ["one", "two"], None) as view:
        supervisor = Supervisor([component(tmp_path, "one"), component(tmp_path, "two", fails)], view, QUICK)
        with pytest.raises(StackError, match=r"(?s)two did not start: ended with status 3.*port 5060 is taken"):
            await supervisor.start()
    assert not any(alive(pid) for pid in pids(tmp_path, "one"))


async def test_one_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    idle = component(tmp_path, "one", "import time; print('loading', flush=True); time.sleep(60)")
    async with LogView(tmp_path / "log", ["one"], None) as view:
        service = Supervisor([idle], view, QUICK).services["one"]
        with pytest.raises(StackError, match=r"(?s)not ready after 0\.5 s: no one\.pid.*loading"):
            await service.start(within=0.5)
        assert service.pid is None


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def ready() -> str | None:
        return "never"

    absent = Component("one", [str(tmp_path / "absent")], tmp_path, ready)
    async with LogView(tmp_path / "log", ["one"], None) as view:
        with pytest.raises(StackError, match="absent does not run"):
            await Supervisor([absent], view).start()


async def test_one_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPER
    async with (
        LogView(tmp_path / "log", ["one"], None) as view,
        supervised([component(tmp_path, "one", stubborn, grace=0.2)], view),
    ):
        pass
    assert not any(alive(pid) for pid in pids(tmp_path, "one"))


async def test_stopping_does_not_wait_for_a_restart(tmp_path: Path) -> None:
    async with LogView(tmp_path / "log", ["one"], None) as view:
        supervisor = Supervisor([component(tmp_path, "one")], view, BackOff(first=600))
        await supervisor.start()
        service = supervisor.services["one"]
        service.kill()

        async def dead() -> bool:
            return service.pid is None

        await until(dead)
        async with asyncio.timeout(5):
            await supervisor.stop()
    assert len(pids(tmp_path, "one")) == 1


async def test_programs_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_stack_supervisor import LogView, component, supervised

async def main():
    async with LogView(Path("log"), ["one"], None) as view, supervised([component(Path.cwd(), "one")], view):
        print("up", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        await process.stdout.readline()
    process.kill()
    await process.wait()
    (pid,) = pids(tmp_path, "one")

    async def gone() -> bool:
        return not alive(pid)

    await until(gone)


@pytest.mark.parametrize(
    ("previous", "ran", "pause"), [(None, 0, 0.5), (0.5, 0, 1.0), (8.0, 0, 10.0), (10.0, 29.0, 10.0), (10.0, 30.0, 0.5)]
)
def test_pauses_double_up_to_ten_seconds_until_it_ran_calmly(previous: float | None, ran: float, pause: float) -> None:
    assert BackOff().after(previous, ran) == pause


async def test_a_line_is_shown_with_its_program_and_kept_in_its_file(tmp_path: Path) -> None:
    out = io.StringIO()
    async with LogView(tmp_path / "log", ["edge", "rtpengine"], out) as view:
        view.show("edge", "a call\x1b[2J")
        view.show("rtpengine", "media")
        path = view.path("edge")
    assert out.getvalue() == "edge      │ a call?[2J\nrtpengine │ media\n"
    assert path.read_text() == "a call\x1b[2J\n"


async def test_names_are_coloured_on_a_terminal_only(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    async with LogView(tmp_path / "log", ["edge"], out) as view:
        view.show("edge", "a call")
    assert out.getvalue() == "\x1b[36medge │\x1b[0m a call\n"
