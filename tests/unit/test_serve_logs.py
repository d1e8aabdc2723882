"""The log of `serve`: one line per event, fields apart from the message."""

from __future__ import annotations

import json
import logging
import re
import sys

from connector.cli.logs import JsonFormatter, TextFormatter


def entry(**fields: object) -> logging.LogRecord:
    return logging.getLogger("connector.call").makeRecord(
        "connector.call", logging.INFO, "call.py", 1, "call answered", (), None, extra=fields
    )


def failed() -> logging.LogRecord:
    try:
        raise ZeroDivisionError("a bug")
    except ZeroDivisionError:
        return logging.getLogger("x").makeRecord("x", logging.ERROR, "x.py", 1, "bug in a call", (), sys.exc_info())


def test_people_get_a_line_with_fields() -> None:
    line = TextFormatter().format(entry(call_id="a@b", flavor="desk"))
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} INFO call answered call_id=a@b flavor=desk", line)


def test_programs_get_an_object() -> None:
    logged = json.loads(JsonFormatter().format(entry(call_id="a@b", silence_ms=812)))
    assert set(logged) == {"time", "level", "logger", "message", "call_id", "silence_ms"}
    assert (logged["level"], logged["message"], logged["silence_ms"]) == ("info", "call answered", 812)


def test_a_bug_brings_its_traceback() -> None:
    assert "ZeroDivisionError: a bug" in TextFormatter().format(failed())
    assert "ZeroDivisionError: a bug" in json.loads(JsonFormatter().format(failed()))["exception"]


def test_what_a_caller_sent_cannot_forge_a_line() -> None:
    """A SIP header may hold a line break once it is unescaped."""
    assert "\n" not in TextFormatter().format(entry(called="1000\n09:00:00 INFO call answered"))
    assert "\n" not in JsonFormatter().format(entry(called="1000\n{}"))


def test_what_a_caller_sent_cannot_steer_a_terminal() -> None:
    """Neither by ESC nor by the one character that stands for ESC [."""
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(entry(calling="\x1b[2J \x9b2J"))
        assert line.isprintable()
        assert "2J" in line


def test_a_message_cannot_forge_a_line_either() -> None:
    """Libraries put into it what they were sent."""
    record = logging.getLogger("x").makeRecord("x", logging.WARNING, "x.py", 1, "bad header %s", ("a\n\x1b[2J",), None)
    assert TextFormatter().format(record).endswith("bad header a\\n\\x1b[2J")
