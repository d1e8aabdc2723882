"""The log of `serve`: static messages with fields, for people or as JSON lines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class TextFormatter(logging.Formatter):
    """`09:38:12.417 INFO call answered call_id=… flavor=offline`."""

    def format(self, record: logging.LogRecord) -> str:
        instant = datetime.fromtimestamp(record.created, UTC).astimezone()
        time = f"{instant:%H:%M:%S}.{int(record.msecs):03}"
        values = [f"{name}={printable(str(value))}" for name, value in fields(record).items()]
        line = " ".join([time, record.levelname, printable(record.getMessage()), *values])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def printable(text: str) -> str:
    """`text` on one line, without control characters: callers decide what numbers and names hold."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time`, `level`, `logger`, `message`, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


@contextmanager
def logging_to_stderr(*, as_json: bool, verbose: bool) -> Iterator[None]:
    """Logs from INFO on, with `verbose` our own packages from DEBUG on.

    A thread of its own writes: whoever reads standard error and stops reading holds up no call.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    listener = QueueListener(queue, handler)
    logging.basicConfig(level=logging.INFO, handlers=[_Enqueue(queue)], force=True)
    for name in ("connector", "flavors"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.INFO)
    # Libraries that tell of every request at INFO; openai brings one of them, by its version.
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    listener.start()
    try:
        yield
    finally:
        listener.stop()


class _Enqueue(QueueHandler):
    """Hands records over as they are: fields and exception are formatted at the other end."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record
