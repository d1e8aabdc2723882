"""Names and writing of what a call leaves behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from connector.errors import RecordError
from connector.record.cdr import CallRecord, encodable
from connector.record.disk import Disk, make_folder
from connector.record.formats import Suffix

LONGEST = 64
"""Characters of a Call-ID that a file name keeps."""


def file_name(call_id: str) -> str:
    """`call_id` as file names have it: what they cannot hold is replaced, and told apart by a hash."""
    name = name_prefix(call_id).rstrip(".")
    if name != call_id:
        name += "-" + hashlib.sha256(encodable(call_id).encode()).hexdigest()[:8]
    return name


def name_prefix(call_id: str) -> str:
    """What the file names of all Call-IDs begin with that begin with `call_id`."""
    return re.sub(r"[^A-Za-z0-9@._-]", "_", encodable(call_id)).lstrip(".")[:LONGEST]


def time_stamp(instant: datetime) -> str:
    """The time of day as file names have it: `093812.417`."""
    return f"{instant:%H%M%S}.{instant.microsecond // 1000:03}"


@dataclass(frozen=True, slots=True)
class CallFiles:
    """Paths of one call's files, relative to the records folder: `2026-11-20/093812.417-CALLID.wav` (UTC)."""

    stem: str
    suffix: Suffix = "wav"
    """Of the recording."""

    @classmethod
    def of(cls, began: float, call_id: str, suffix: Suffix = "wav") -> CallFiles:
        """`began`: seconds since the epoch."""
        instant = datetime.fromtimestamp(began, UTC)
        return cls(f"{instant:%Y-%m-%d}/{time_stamp(instant)}-{file_name(call_id)}", suffix)

    @property
    def recording(self) -> str:
        return f"{self.stem}.{self.suffix}"

    @property
    def transcript(self) -> str:
        return f"{self.stem}.transcript.jsonl"

    @property
    def cdr(self) -> str:
        return f"{self.stem}.cdr.json"


class TranscriptFile:
    """A JSON Lines file that grows by whole lines, turn by turn, on the disk's thread.

    `on_error` is told on the event loop, once, when it cannot be written.
    """

    def __init__(self, path: Path, disk: Disk, on_error: Callable[[RecordError], None]) -> None:
        self._path = path
        self._disk = disk
        self._on_error = on_error
        self._error: OSError | None = None
        self._reported = False
        self.exists = False
        """Whether there is a file; certain once it is closed."""

    def add(self, *lines: dict[str, Any]) -> None:
        """Appends one line for each of `lines`."""
        self._report()
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self._disk.post(lambda: self._append(text))

    async def close(self) -> None:
        """Waits until everything was written."""
        await self._disk.run(lambda: None)
        self._report()

    def _append(self, text: str) -> None:
        if self._error is None:
            try:
                make_folder(self._path.parent)
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                with os.fdopen(os.open(self._path, flags, 0o640), "a", encoding="utf-8", errors="replace") as file:
                    file.write(text)
                self.exists = True
            except OSError as error:
                self._error = error

    def _report(self) -> None:
        if self._error is not None and not self._reported:
            self._reported = True
            self._on_error(RecordError(f"{self._path}: {self._error.strerror}"))


class FileCdrStore:
    """A `CdrStore` of one JSON file for each call, whole or not at all."""

    def __init__(self, directory: Path, disk: Disk) -> None:
        self._directory = directory
        self._disk = disk

    async def write(self, record: CallRecord) -> None:
        path = self._directory / record.files.cdr
        text = record.model_dump_json(indent=2) + "\n"
        try:
            await self._disk.run(lambda: write_atomically(path, text))
        except OSError as error:
            raise RecordError(f"{path}: {error.strerror}") from error


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Writes `text` so that `path` never holds a part of it, where `durable` not even after a power cut.

    Raises `OSError`.
    """
    make_folder(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(temporary).chmod(0o640)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
