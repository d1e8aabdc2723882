"""A page of the documentation that sets up a site, followed by a test with real programs.

A comment before a fenced block says what is done with it:

`<!-- site: NAME -->`      it is a file of the folder that voxtrunk runs in
`<!-- site run -->`        its commands are run there; of a `console` block the output is compared, too
`<!-- site up -->`         the same, and it goes on running
`<!-- KIND: NAME -->`      a file of somebody else's, such as the PBX; the test says what to do with it
`<!-- KIND run -->`        and commands to run there
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from connector.record import CallRecord
from tests.e2e.opensips import Installed
from tests.e2e.test_docs import Block, Scratch, blocks, follow


@dataclass(frozen=True)
class Page:
    """The blocks of a page, by what is done with them."""

    path: Path

    def files(self, kind: str) -> Mapping[str, str]:
        """Text of the files of `kind`, by name."""
        prefix = f"{kind}: "
        return {block.mark.removeprefix(prefix): block.text for block in self.blocks if block.mark.startswith(prefix)}

    def commands(self, kind: str) -> Sequence[Block]:
        """Blocks of commands of `kind`, in order."""
        return [block for block in self.blocks if block.mark in (f"{kind} run", f"{kind} up")]

    @property
    def blocks(self) -> Sequence[Block]:
        """All of them but pictures."""
        return [block for block in blocks(self.path) if block.mark]


class Site:
    """voxtrunk's folder of a page, with its stack running."""

    def __init__(self, page: Page, scratch: Scratch) -> None:
        self.page = page
        self.scratch = scratch

    @property
    def records(self) -> Sequence[CallRecord]:
        """Of the calls that are over, oldest first."""
        files = sorted(self.scratch.folder.glob("records/*/*.cdr.json"))
        return [CallRecord.model_validate_json(file.read_bytes()) for file in files]

    @property
    def log(self) -> str:
        """What the stack has written."""
        return log_of(self.scratch).read_text()

    def recording(self, record: CallRecord) -> Path:
        """The WAV of a call."""
        assert record.files.recording is not None
        return self.scratch.folder / "records" / record.files.recording

    def look(self) -> None:
        """Runs the commands that come after the start, and compares what they print."""
        commands = self.page.commands("site")
        started = next(index for index, block in enumerate(commands) if block.mark == "site up")
        for block in commands[started + 1 :]:
            follow(block, self.scratch)

    def freeze(self, program: str) -> None:
        """Stops the processes of `program` (a word of their command line) as if they hung; `thaw` undoes it."""
        for process in self._processes(program):
            os.kill(process, signal.SIGSTOP)

    def thaw(self, program: str) -> None:
        for process in self._processes(program):
            os.kill(process, signal.SIGCONT)

    def _processes(self, program: str) -> Sequence[int]:
        """Those whose folder is ours, or below."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                folder = (entry / "cwd").readlink()
            except OSError:
                continue
            if program in words and folder.is_relative_to(self.scratch.folder):
                found.append(int(entry.name))
        assert found, f"no process of {program}"
        return found


@contextmanager
def running(page: Page, folder: Path, installed: Installed, more: Mapping[str, str] | None = None) -> Iterator[Site]:
    """Follows `page` in `folder` until its stack is up; skips the test where there are no programs for it.

    `more`: files that the test adds before the start, or text that it adds to those of the page.
    """
    if installed.opensips is None:
        pytest.skip(installed.missing)
    scratch = Scratch(folder, OPENSIPS_BIN=str(installed.opensips.path))
    files = page.files("site")
    for name, text in files.items():
        scratch.write(name, text)
    for block in page.commands("site"):
        if block.mark == "site up":
            break
        follow(block, scratch)
    for name, text in (more or {}).items():
        scratch.write(name, files.get(name, "") + text)
    with _started(block, scratch):
        yield Site(page, scratch)


def log_of(scratch: Scratch) -> Path:
    """Where the stack writes what it would show."""
    return scratch.folder / "stack.log"


@contextmanager
def _started(block: Block, scratch: Scratch) -> Iterator[None]:
    """Runs what a block says until the end, and sees that it then stops by itself."""
    log = log_of(scratch)
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {block.text.strip()}"],
            cwd=scratch.folder,
            env=scratch.environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, log)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert process.returncode == 0, log.read_text()


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path, seconds: float = 60.0) -> None:
    """Waits until the log says that the connector, the last to start, is ready."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if re.search(r"^connector-a +│ (stack: )?ready$", log.read_text(), re.MULTILINE):
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())
