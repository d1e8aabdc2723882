"""A `CdrStore` in memory."""

from __future__ import annotations

from connector.errors import RecordError
from connector.record import CallRecord


class FakeCdrStore:
    """Keeps records in `records`; `full` refuses them like a disk without space."""

    def __init__(self, *, full: bool = False) -> None:
        self.records: list[CallRecord] = []
        self.full = full

    async def write(self, record: CallRecord) -> None:
        if self.full:
            raise RecordError("no space left on device")
        self.records.append(record)
