"""One view of all logs: a line each, with who wrote it in front, and the same in a file for each program."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TextIO

from connector.record import Disk

COLOURS = (36, 33, 35, 32, 34, 31)
"""SGR colours of the names (ECMA-48)."""

CONTROL = {code: "?" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != 9}
"""What a log may not do to a terminal."""


class LogView:
    """Shows lines on `out` (None: nowhere), coloured where it is a terminal, and appends them to `folder`/NAME.log.

    A thread of its own writes: whoever reads `out` and stops reading holds up no call. Use as a
    context; on leaving it everything has been written.
    """

    def __init__(self, folder: Path, names: Sequence[str], out: TextIO | None) -> None:
        self._folder = folder
        self._out = out
        self._width = max(map(len, names), default=0)
        coloured = out is not None and out.isatty()
        self._colours = {name: COLOURS[n % len(COLOURS)] if coloured else None for n, name in enumerate(names)}
        self._disk = Disk()

    async def __aenter__(self) -> LogView:
        await self._disk.run(partial(self._folder.mkdir, parents=True, exist_ok=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._disk.aclose()

    def show(self, name: str, line: str, *, notice: bool = False) -> None:
        """Adds `line` of the program `name`; `notice`: bold, for what the supervisor says itself."""
        self._disk.post(partial(self._write, name, line, notice))

    def path(self, name: str) -> Path:
        """Its log file."""
        return self._folder / f"{name}.log"

    def _write(self, name: str, line: str, notice: bool) -> None:
        # A full disk or a closed terminal ends neither the stack nor this view.
        with contextlib.suppress(OSError, ValueError), self.path(name).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        with contextlib.suppress(OSError, ValueError):
            if self._out is not None:
                self._out.write(f"{self._prefix(name)} {self._shown(line, notice, name)}\n")
                self._out.flush()

    def _prefix(self, name: str) -> str:
        padded = f"{name:<{self._width}} │"
        colour = self._colours.get(name)
        return padded if colour is None else f"\x1b[{colour}m{padded}\x1b[0m"

    def _shown(self, line: str, notice: bool, name: str) -> str:
        printable = line.translate(CONTROL)
        return f"\x1b[1m{printable}\x1b[0m" if notice and self._colours.get(name) is not None else printable
