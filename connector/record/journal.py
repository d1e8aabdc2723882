"""Journals: what is known of the calls in progress, so that a connector that is killed loses no record.

Each connector has a folder `.running/ID` below the records, with one file for each of its calls and
the file `lock`, on which it holds a lock (flock) while it lives. The system frees that lock however
the process ends, and it counts between containers that share the folder: whoever gets it knows that
the calls in there are over.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from connector.interfaces import Clock
from connector.record.cdr import CallRecord, Files
from connector.record.disk import Disk, make_folder
from connector.record.files import write_atomically
from connector.record.formats import repair

log = logging.getLogger(__name__)

FOLDER = ".running"
LOCK = "lock"

SIGN_OF_LIFE = 1.0
"""Seconds between two signs of life: by so much the end of a call that was cut may be off."""


class Journals:
    """The journals of one connector, below the records folder `directory`. All writing is done by `disk`."""

    def __init__(self, directory: Path, disk: Disk, clock: Clock) -> None:
        self._directory = directory
        self._disk = disk
        self._clock = clock
        self._name = uuid.uuid4().hex
        self._lock: int | None = None
        self._failing = False
        self._open: set[CallJournal] = set()

    @property
    def folder(self) -> Path:
        """Of this connector; it is there from the first call on."""
        return self._directory / FOLDER / self._name

    def journal(self, cdr: str) -> CallJournal:
        """The journal of the call whose record will be `cdr`."""
        journal = CallJournal(self, cdr)
        self._open.add(journal)
        return journal

    async def run(self) -> None:
        """Gives a sign of life each `SIGN_OF_LIFE` seconds until cancelled."""
        while True:
            await self._clock.sleep(SIGN_OF_LIFE)
            await self.sign_of_life()

    async def sign_of_life(self) -> None:
        """Notes that the calls in progress go on: a file's time is when its call was last alive."""
        if self._open:
            await self._disk.run(partial(_touch, list(self._open)))

    def recover(self) -> None:
        """Has the records written of calls that a connector was killed in, whichever connector it was."""

        def job() -> None:
            recover(self._directory)

        self._disk.post(job)

    async def aclose(self) -> None:
        """Gives the folder up; journals whose records could not be written stay for the next start."""
        await self._disk.run(self._give_up)

    def post(self, job: Callable[[], None]) -> None:
        """Queues `job`."""
        self._disk.post(job)

    def closed(self, journal: CallJournal) -> None:
        """`journal` is of a call that is over."""
        self._open.discard(journal)

    # ---------------------------------------------------------------- on the disk's thread

    def write(self, journal: CallJournal, record: CallRecord) -> None:
        """Writes `journal`; that it cannot be written is logged, once until it can."""
        try:
            if not (self.folder / LOCK).exists():
                self._take_folder()  # the first call, or somebody has cleared the records away
            # All requests of a long call, after each of its turns, would keep Python's lock for milliseconds.
            known = record.model_dump_json(exclude={"turns": {"__all__": {"services"}}})
            write_atomically(journal.path, known, durable=False)
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.error("journals cannot be written", extra={"path": str(journal.path), "error": error.strerror})
            self._failing = True

    def remove(self, journal: CallJournal) -> None:
        """Removes the file of `journal`, where there is one."""
        with contextlib.suppress(OSError):
            journal.path.unlink()

    def _take_folder(self) -> None:
        self._unlock()
        make_folder(self.folder.parent)
        made = self.folder.with_name(f".{self._name}")  # nobody else looks at it before it is locked
        made.mkdir(mode=0o750, exist_ok=True)
        lock = os.open(made / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            made.rename(self.folder)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock

    def _give_up(self) -> None:
        if self._lock is not None:
            with contextlib.suppress(OSError):
                _remove_if_empty(self.folder)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class CallJournal:
    """One call's record as it would be if the connector were killed now."""

    def __init__(self, journals: Journals, cdr: str) -> None:
        self._journals = journals
        self._name = Path(cdr).name.removesuffix(".cdr.json") + ".journal"
        self._latest: CallRecord | None = None
        self._queued = False

    @property
    def path(self) -> Path:
        """Its file."""
        return self._journals.folder / self._name

    def update(self, record: CallRecord) -> None:
        """Keeps `record` in place of the one before; of several that wait for the disk the last one is written."""
        self._latest = record
        if not self._queued:
            self._queued = True
            self._journals.post(self._write)

    def close(self, *, recorded: bool) -> None:
        """The call is over. Where its record could not be written (`recorded` false) the journal stays."""
        self._journals.closed(self)
        if recorded:
            self._journals.post(lambda: self._journals.remove(self))

    def _write(self) -> None:
        self._queued = False
        if self._latest is not None:
            self._journals.write(self, self._latest)


def recover(directory: Path) -> list[CallRecord]:
    """Writes the records of calls whose connector is gone, and returns them; blocking.

    A journal that cannot be used is logged and kept.
    """
    records = []
    for folder in sorted((directory / FOLDER).glob("[!.]*")):
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # somebody else was quicker
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            records += _take_over(directory, folder)
        except BlockingIOError:
            pass  # it lives
        except OSError as error:
            log.error("journals cannot be read", extra={"folder": str(folder), "error": str(error)})
        finally:
            os.close(lock)
    return records


def _take_over(directory: Path, folder: Path) -> list[CallRecord]:
    """The records of the journals in `folder`, which is removed where nothing is left in it."""
    records = []
    for path in sorted(folder.iterdir()):
        if path.name == LOCK:
            continue
        if path.name.startswith("."):
            path.unlink()  # half written
            continue
        try:
            record = _recovered(directory, path)
        except (OSError, ValidationError) as error:
            log.error("unusable journal", extra={"path": str(path), "error": str(error)})
            continue
        if record is not None:
            records.append(record)
            log.warning("call was cut off", extra={"call_id": record.call_id, "cdr": record.files.cdr})
        path.unlink()
    _remove_if_empty(folder)
    return records


def _remove_if_empty(folder: Path) -> None:
    """Removes the folder of a connector that has no journals left."""
    if [path.name for path in folder.iterdir()] == [LOCK]:
        shutil.rmtree(folder)


def _recovered(directory: Path, journal: Path) -> CallRecord | None:
    """The record of `journal`, written; None where the call had its record. Raises `OSError`, `ValidationError`."""
    record = CallRecord.model_validate_json(journal.read_bytes())
    cdr = directory / record.files.cdr
    if cdr.exists():
        return None
    recording, transcript = (
        name if name is not None and (directory / name).exists() else None
        for name in (record.files.recording, record.files.transcript)
    )
    signs = [journal, *(directory / name for name in (recording, transcript) if name is not None)]
    alive = max(path.stat().st_mtime for path in signs)
    ended = max(record.answered or record.setup, datetime.fromtimestamp(round(alive, 3), UTC))
    if recording is not None:
        repair(directory / recording)
    before = ended if record.answered is None else record.answered
    record = record.model_copy(
        update={
            "ended": ended,
            "setup_seconds": round((before - record.setup).total_seconds(), 3),
            "duration_seconds": round((ended - before).total_seconds(), 3),
            "files": Files(recording=recording, transcript=transcript, cdr=record.files.cdr),
        }
    )
    write_atomically(cdr, record.model_dump_json(indent=2) + "\n")
    return record


def _touch(journals: list[CallJournal]) -> None:
    for journal in journals:
        with contextlib.suppress(OSError):  # over meanwhile, or not written yet
            os.utime(journal.path)
