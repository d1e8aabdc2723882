"""A YAML document as a tree in which every value knows its file, line and dotted key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from connector.config.report import Place


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value. `raw`: as written. `value`: what it means, references resolved; None where it has none."""

    place: Place
    raw: str
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A sequence of values."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping of keys to values. The line of a value is that of its key."""

    place: Place
    entries: Mapping[str, Node]

    def without(self, *keys: str) -> Table:
        """This table less some keys."""
        return replace(self, entries={key: node for key, node in self.entries.items() if key not in keys})

    def only(self, *keys: str) -> Table:
        """This table with no other keys."""
        return replace(self, entries={key: node for key, node in self.entries.items() if key in keys})


Node: TypeAlias = Scalar | Listing | Table


def plain(node: Node) -> Any:
    """`node` as dicts, lists and values."""
    match node:
        case Scalar():
            return node.value
        case Listing():
            return [plain(item) for item in node.items]
        case Table():
            return {key: plain(value) for key, value in node.entries.items()}


def leaves(node: Node) -> Iterator[Scalar]:
    """Every single value in `node`."""
    match node:
        case Scalar():
            yield node
        case Listing():
            for item in node.items:
                yield from leaves(item)
        case Table():
            for value in node.entries.values():
                yield from leaves(value)


def member(node: Node, part: str | int) -> Node | None:
    """The value at the key or index `part` of `node`, where it has one."""
    match node, part:
        case Table(), str():
            return node.entries.get(part)
        case Listing(), int():
            return node.items[part] if part < len(node.items) else None
        case _:
            return None


def is_absent(node: Node | None) -> bool:
    """True for a key that is not there, and for one without a value."""
    return node is None or (isinstance(node, Scalar) and node.value is None)


def text_of(node: Node | None) -> str | None:
    """The text that `node` is, where it is one."""
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else None


def meaning(scalar: Scalar) -> str:
    """What YAML makes of an unquoted value, for messages: `0x10 is read by YAML as a number`."""
    match scalar.value:
        case bool():
            return f"{scalar.raw} is read by YAML as {'true' if scalar.value else 'false'}"
        case int() | float():
            lost = ", and its + is dropped" if scalar.raw.startswith("+") else ""
            return f"{scalar.raw} is read by YAML as a number{lost}"
        case None:
            return f"{scalar.raw} is read by YAML as nothing" if scalar.raw else "has no value"
        case str():
            return f"{scalar.raw} is text"


def with_value(table: Table, parts: list[str], value: Scalar) -> Table:
    """`table` with `value` at the dotted key `parts`."""
    first, *rest = parts
    if not rest:
        return replace(table, entries={**table.entries, first: value})
    inner = table.entries.get(first)
    below = inner if isinstance(inner, Table) else Table(table.place.member(first), {})
    return replace(table, entries={**table.entries, first: with_value(below, rest, value)})
