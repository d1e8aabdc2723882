"""`{{calling_name|there}}` in the texts of a flavor: facts of the call, and what stands in for absent ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from connector.config.report import one_of, shown

FACTS: Mapping[str, str] = {
    "called": "The number or extension called, as the signalling gives it.",
    "called_number": "The number called in E.164.",
    "calling": "The caller's number or user name, as the signalling gives it.",
    "calling_number": "The caller's number in E.164.",
    "calling_name": "The caller's display name.",
    "asserted": "Who the network vouches that the caller is, even where the caller's identity is to be kept.",
    "diverted_from": "Who was called before, where the call was diverted: the last one.",
    "diversion_reason": "Why it was diverted, such as `user-busy` or `no-answer`.",
}
"""Every fact by the name that a placeholder has for it; `header:NAME` is one too."""

HEADER = "header:"

_PLACEHOLDER = re.compile(
    r"""\{\{ (?: \s* "(?P<literal>[^"]*)" \s* | (?P<name>[^{}|"]*) (?: \|(?P<fallback>.*?) )? ) \}\}""",
    re.DOTALL | re.VERBOSE,
)


class BadPlaceholder(ValueError):
    """A text has a placeholder that cannot be filled; the message says which, and what would be right."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A fact's place in a text. `name`: of `FACTS`, or `header:` and a header's name. `fallback`: said without it."""

    name: str
    fallback: str = ""


def parse(text: str) -> Iterator[str | Placeholder]:
    """The pieces of `text` in order. Raises BadPlaceholder."""
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        yield _plain(text[end : match.start()])
        yield match["literal"] if match["literal"] is not None else _placeholder(match["name"], match["fallback"])
        end = match.end()
    yield _plain(text[end:])


def headers(text: str) -> Iterator[str]:
    """Names of the headers that the placeholders of `text` are filled with. Raises BadPlaceholder."""
    for piece in parse(text):
        if isinstance(piece, Placeholder) and piece.name.startswith(HEADER):
            yield piece.name.removeprefix(HEADER)


def checked(text: str) -> str:
    """`text`, whose placeholders are all known. Raises BadPlaceholder."""
    for _ in parse(text):
        pass
    return text


def _plain(text: str) -> str:
    if "{{" in text:
        shape = 'write {{FACT}} or {{FACT|FALLBACK}}, and {{"{{"}} for the characters themselves'
        raise BadPlaceholder(f"has {{{{ without a fact and }}}} ({shape})")
    return text


def _placeholder(written: str, fallback: str | None) -> Placeholder:
    name = written.strip()
    if name.startswith(HEADER) and name != HEADER:
        name = HEADER + name.removeprefix(HEADER).strip()
    elif name not in FACTS:
        hint = one_of(name, [*FACTS, f"{HEADER}NAME"], "known facts")
        raise BadPlaceholder(f"has the unknown placeholder {{{{{shown(name)}}}}} ({hint})")
    return Placeholder(name, (fallback or "").strip())
