"""Reading what calls left behind: the newest first, and no more of it than is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from connector.record.cdr import CallRecord
from connector.record.files import file_name, name_prefix, time_stamp

CDR = ".cdr.json"
STAMP = len("093812.417-")
"""Characters of a file's name before the Call-ID."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot be read. `path`: relative to the records folder; `reason`: in words."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """Records, newest first, and the files that were left out because they cannot be read."""

    records: Sequence[CallRecord]
    broken: Sequence[Broken]


class Archive:
    """The records below `directory`. Blocking: use it off the event loop. A folder that is not there is empty."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def newest(self, limit: int, since: datetime | None = None) -> Found:
        """At most `limit` records, of calls that came in at `since` or later."""
        return self._read(self._since(since), limit)

    def named(self, call_id: str) -> CallRecord | None:
        """The newest record with this Call-ID as records have it, None where there is none that can be read."""
        name = file_name(call_id)
        paths = (path for path in self._paths() if path.name[STAMP : -len(CDR)] == name)
        return next(iter(self._read(paths, 1).records), None)

    def beginning(self, prefix: str, limit: int) -> Found:
        """At most `limit` records whose Call-ID begins with `prefix`."""
        start = name_prefix(prefix)
        paths = (path for path in self._paths() if path.name[STAMP:].startswith(start))
        found = self._read(paths, limit)
        return Found([record for record in found.records if record.call_id.startswith(prefix)], found.broken)

    def _since(self, since: datetime | None) -> Iterator[Path]:
        start = since and since.astimezone(UTC)
        oldest = f"{start:%Y-%m-%d}/{time_stamp(start)}" if start else ""
        for path in self._paths():
            if f"{path.parent.name}/{path.name}" < oldest:
                return
            yield path

    def _paths(self) -> Iterator[Path]:
        """The files, newest first."""
        days = [folder for folder in self._directory.glob("*-*-*") if re.fullmatch("[0-9-]{10}", folder.name)]
        for day in sorted(days, reverse=True):
            yield from sorted(day.glob(f"*{CDR}"), reverse=True)

    def _read(self, paths: Iterator[Path], limit: int) -> Found:
        records: list[CallRecord] = []
        broken: list[Broken] = []
        for path in paths:
            if path.name.startswith("."):
                continue  # being written
            if len(records) >= limit:
                break
            try:
                records.append(CallRecord.model_validate_json(path.read_bytes()))
            except (OSError, ValidationError) as error:
                broken.append(Broken(str(path.relative_to(self._directory)), _reason(error)))
        return Found(records, broken)


def _reason(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
