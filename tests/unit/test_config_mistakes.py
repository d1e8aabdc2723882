"""Every mistake in a configuration is named with its line, its key, what is wrong and what would be right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from connector.errors import ConfigError
from tests.fakes.catalog import settings_of

TABLE = Path(__file__).parents[1] / "data" / "config_mistakes.txt"


def mistakes() -> list[tuple[str, str, list[str]]]:
    """Name, text and expected problems of every mistake in the table, which explains itself."""
    _, *blocks = re.split(r"^=== (.*)\n", TABLE.read_text(), flags=re.MULTILINE)
    found = []
    for name, block in zip(blocks[::2], blocks[1::2], strict=True):
        text = re.split(r"^> ", block, maxsplit=1, flags=re.MULTILINE)[0]
        found.append((name, text, re.findall(r"^> (.*)$", block, flags=re.MULTILINE)))
    return found


def assert_named(text: str | bytes, expected: list[str]) -> None:
    """Exactly the expected problems, each `line: key: message | hint`."""
    with pytest.raises(ConfigError) as raised:
        settings_of(text)
    found = raised.value.problems
    assert len(found) == len(expected), str(raised.value)
    for problem, wanted in zip(found, expected, strict=True):
        message, _, hint = wanted.partition(" |")
        assert f"{problem.line}: {problem.key}: {problem.message}".startswith(message), str(problem)
        assert hint.strip() in problem.hint, str(problem)
        assert problem.file == "/nowhere/voxtrunk.yml"


@pytest.mark.parametrize(("name", "text", "expected"), mistakes(), ids=[name for name, _, _ in mistakes()])
def test_a_mistake_is_named(name: str, text: str, expected: list[str]) -> None:
    """Each mistake of the table."""
    assert expected, name
    assert_named(text, expected)


def test_bytes_that_are_no_text() -> None:
    """The byte and its line are named."""
    problem = "2: : the file is not UTF-8: byte 0xfc | save it as UTF-8"
    assert_named(b"sip:\n  realm: M\xfcnchen\n", [problem])


def test_a_control_character() -> None:
    """It is shown escaped."""
    assert_named("sip:\n  realm: a\x07b\n", ["2: : control character '\\x07' | remove it"])


def test_nesting_that_exhausts_the_parser() -> None:
    """It is refused, not followed."""
    assert_named("[" * 5000, ["1: : values are nested too deeply | levels"])


def test_aliases_that_multiply() -> None:
    """A billion values in ten lines (the "billion laughs") are refused early."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(ConfigError, match="more than 50000 values, aliases included"):
        settings_of("\n".join(lines))


def test_what_a_file_holds_cannot_forge_a_message() -> None:
    """Escapes for terminals and line ends of a value are shown, not printed."""
    with pytest.raises(ConfigError) as raised:
        settings_of('sip: {max_calls: "\\e[2Jall\\nis well", "re\\nalm": x}\ndefault: "\\e[2J"\n')
    assert all(str(problem).isprintable() for problem in raised.value.problems)
