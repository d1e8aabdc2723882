"""SIPp, which makes the calls: its scenario, and what its log and statistics say."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

SCENARIO = Path(__file__).parent / "call.xml"


@dataclass(slots=True)
class Call:
    """What the caller saw of one call, seconds since 1970; None for what never came. `port`: where its media goes."""

    sent: float
    ringing: float | None = None
    answered: float | None = None
    over: float | None = None
    port: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a run: `calls` in the order in which they began, `retransmissions` that SIPp sent, what it said of errors."""

    calls: list[Call]
    retransmissions: int
    errors: str


class Log:
    """Reads the log as it grows: lines of WHAT CALL [PORT] and a time stamp."""

    def __init__(self, file: Path) -> None:
        self.calls: dict[int, Call] = {}
        self._file = file
        self._read = 0

    def more(self) -> list[tuple[int, Call]]:
        """What has been answered since the last time."""
        if not self._file.exists():
            return []
        with self._file.open() as file:
            file.seek(self._read)
            text = file.read()
        text = text[: text.rfind("\n") + 1]
        self._read += len(text)
        return list(self._take(text.splitlines()))

    def _take(self, lines: Iterable[str]) -> Iterable[tuple[int, Call]]:
        for line in lines:
            what, number, *rest = line.split()
            at = float(rest[-1])
            if what == "sent":
                self.calls[int(number)] = Call(at)
                continue
            call = self.calls[int(number)]
            match what:
                case "ringing":
                    call.ringing = call.ringing or at
                case "answered":
                    call.answered, call.port = at, int(rest[0])
                    yield int(number), call
                case "over":
                    call.over = at


def lateness(calls: Iterable[Call], rate: float) -> list[float]:
    """Seconds that each call began after it was due; the one that was the earliest for its number was in time."""
    after = [call.sent - index / rate for index, call in enumerate(calls)]
    return [at - min(after) for at in after] if after else []


def statistics(file: Path) -> Mapping[str, str]:
    """The last line of SIPp's statistics, by column; `(C)` columns count from the beginning."""
    rows = list(csv.DictReader(file.read_text().splitlines(), delimiter=";")) if file.exists() else []
    return rows[-1] if rows else {}


@dataclass(slots=True)
class Run:
    """SIPp at work. `log` grows meanwhile; `outcome` is there when it has ended."""

    process: int
    log: Log
    _program: asyncio.subprocess.Process = field(repr=False)
    _folder: Path

    @property
    def over(self) -> bool:
        """Has it ended?"""
        return self._program.returncode is not None

    def outcome(self) -> Outcome:
        """What came of it, once it is over."""
        self.log.more()
        errors = self._folder / "errors"
        return Outcome(
            calls=list(self.log.calls.values()),
            retransmissions=int(statistics(self._folder / "statistics.csv").get("Retransmissions(C)", "0")),
            errors=errors.read_text(errors="replace")[:2000] if errors.exists() else "",
        )


@asynccontextmanager
async def calling(
    folder: Path, target: tuple[str, int], local: str, *, calls: int, rate: int, hold: float, media: int
) -> AsyncIterator[Run]:
    """Calls 1000 at `target` from the address `local`, `rate` times a second and `calls` times in all.

    Each call is held for `hold` seconds and offers its media at UDP port `media`. `folder` is made, for SIPp's
    files. At the end SIPp has ended, by itself or by us.
    """
    await asyncio.to_thread(_prepare, folder, hold, media)
    program = await asyncio.create_subprocess_exec(
        "sipp",
        *("-sf", "call.xml", f"{target[0]}:{target[1]}", "-s", "1000", "-i", local),
        *("-m", str(calls), "-r", str(rate), "-l", str(calls), "-nostdin"),
        *("-trace_logs", "-log_file", "log", "-trace_err", "-error_file", "errors"),
        *("-trace_stat", "-stf", "statistics.csv", "-fd", "1"),
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield Run(program.pid, Log(folder / "log"), program, folder)
    finally:
        if program.returncode is None:
            program.kill()
        await program.wait()


def _prepare(folder: Path, hold: float, media: int) -> None:
    folder.mkdir()
    text = SCENARIO.read_text().replace("@HOLD@", str(round(hold * 1000))).replace("@MEDIA@", str(media))
    (folder / "call.xml").write_text(text)
