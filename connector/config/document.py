"""YAML text to our tree: what YAML 1.1 makes of it, and what is wrong with it.

What a person writes and what YAML 1.1 makes of it differ: `no` is false, `0123` is 83, `12:30` is 750,
`+4930` is 4930. What can never be meant is refused here; the rest keeps both readings, and
`connector.config.validate` refuses it where a text is wanted.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import replace

import yaml

from connector.config.references import References
from connector.config.report import Place, Report, Unusable, shown
from connector.config.tree import Listing, Node, Scalar, Table, meaning

MAX_DEPTH = 30
"""Levels of nesting; deeper is a mistake, or an attack by aliases."""
MAX_NODES = 50_000
"""Values of one file, aliases expanded."""


def read(file: str, data: bytes, references: References, report: Report) -> Node | None:
    """The one YAML document in `data`; None where it cannot be read or is empty. What is wrong goes to `report`."""
    report.reading(file)
    text = _decode(file, data, report)
    root = _compose(file, text, report) if text is not None else None
    return _Converter(references, report).convert(root, Place(file, _line(root), ""), ()) if root is not None else None


def _decode(file: str, data: bytes, report: Report) -> str | None:
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if wide else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        wrong = data[error.start]
        report.problem(
            Place(file, line, ""), f"the file is not UTF-8: byte 0x{wrong:02x} is no character", "save it as UTF-8"
        )
        return None


def _compose(file: str, text: str, report: Report) -> yaml.Node | None:
    try:
        loader = yaml.SafeLoader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        lines = text.splitlines()
        message, hint = _explain(error, lines[line - 1] if line <= len(lines) else "")
        report.problem(Place(file, line, ""), message, hint)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        report.problem(Place(file, line, ""), f"control character {chr(error.character)!r} in the text", "remove it")
    except RecursionError:
        report.problem(Place(file, 1, ""), "values are nested too deeply", f"use at most {MAX_DEPTH} levels")
    except (ValueError, OverflowError):
        # PyYAML's scanner lets chr() and int() fail on their own: "\UFFFFFFFF", "%YAML 1.99999...".
        report.problem(
            Place(file, 1, ""), "an escape or a directive stands for a number that is too large", "correct it"
        )
    return None


def _explain(error: yaml.MarkedYAMLError, line: str) -> tuple[str, str]:
    """PyYAML's complaint about `line` in an admin's words, and what would be right."""
    said = str(error.problem or error.context or "cannot be read as YAML")
    indentation = line[: len(line) - len(line.lstrip())]
    if "\t" in indentation or "'\\t'" in said:
        return "a tab is used for indentation", "YAML wants spaces"
    if "${" in line and re.search("'[{}]'", said):
        return "a reference inside { } or [ ] is not quoted", 'put it in quotes: "${NAME}"'
    if error.context and "quoted scalar" in error.context and "end of stream" in said:
        return "a quote is opened and never closed", "close it"
    for part, message, hint in _EXPLANATIONS:
        if part in said:
            return message or said, hint
    return said, "see the line above it too"


_EXPLANATIONS = (
    (
        "mapping values are not allowed",
        "a second ': ' in one line",
        "put the value in quotes, or check the indentation",
    ),
    ("found undefined alias", "", "an anchor is written &name, before its aliases *name"),
    ("found duplicate anchor", "", "give each anchor a name of its own"),
    ("undefined tag handle", "", "quote a value that begins with !"),
    ("cannot start any token", "", "quote a value that begins with @, % or `"),
    ("another document", "a second document (---) begins here", "keep one document per file"),
    ("expected <block end>", "", "check the indentation, and quote a text that begins with { or ["),
    ("could not find expected ':'", "", "check the indentation and the ': ' after each key"),
)
"""What PyYAML says (a part of it), what we say instead ("": the same), and what would be right."""


# --------------------------------------------------------------------------------------- converting

_TAG = "tag:yaml.org,2002:"

_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_BASE_SIXTY = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
# What YAML 1.2, and with it most editors, reads as a number where YAML 1.1 reads a text.
_NUMBER_1_2 = re.compile(r"[-+]?(0o[0-7]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)")

_BOOLEANS = {"yes": True, "no": False, "true": True, "false": False, "on": True, "off": False}


class _Converter:
    """Turns PyYAML's node graph into our tree: aliases expanded, merges applied, references resolved."""

    def __init__(self, references: References, report: Report) -> None:
        self._references = references
        self._report = report
        self._count = 0

    def convert(self, node: yaml.Node, place: Place, above: tuple[yaml.Node, ...]) -> Node:
        """`node` at `place`; `above` are the nodes around it, to recognise an alias to one of them."""
        self._count += 1
        nothing = Scalar(place, "", None)
        if any(node is outer for outer in above):
            self._problem(place, "an alias stands inside the value that it repeats", "remove it")
            return nothing
        if len(above) >= MAX_DEPTH:
            self._problem(place, "values are nested too deeply", f"use at most {MAX_DEPTH} levels")
            return nothing
        if self._count > MAX_NODES:
            if self._count == MAX_NODES + 1:
                self._problem(place, f"more than {MAX_NODES} values, aliases included", "use fewer aliases")
            return nothing
        inside = (*above, node)
        match node:
            case yaml.MappingNode(tag="tag:yaml.org,2002:map"):
                return Table(place, self._entries(node, place, inside))
            case yaml.SequenceNode(tag="tag:yaml.org,2002:seq"):
                items = (
                    self.convert(item, replace(place.member(index), line=_line(item)), inside)
                    for index, item in enumerate(node.value)
                )
                return Listing(place, tuple(items))
            case yaml.ScalarNode():
                return self._scalar(node, place)
            case _:
                self._problem(place, f"the tag {_shown_tag(node)} is not supported", "remove it")
                return nothing

    def _entries(self, node: yaml.MappingNode, place: Place, inside: tuple[yaml.Node, ...]) -> dict[str, Node]:
        merged: dict[str, Node] = {}
        entries: dict[str, Node] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            if key_node.tag == f"{_TAG}merge":
                merged = {**self._merge(value_node, replace(place, line=line), inside), **merged}
                continue
            key = self._key(key_node, place)
            if key is None:
                continue
            if key in entries:
                first = entries[key].place.line
                self._problem(
                    replace(place.member(key), line=line), f"is given twice, first in line {first}", "keep one of them"
                )
                continue
            entries[key] = self.convert(value_node, replace(place.member(key), line=line), inside)
        return {**merged, **entries}

    def _merge(self, node: yaml.Node, place: Place, inside: tuple[yaml.Node, ...]) -> dict[str, Node]:
        """What `<<: *anchor` or `<<: [*one, *other]` brings in; of several, the first one counts."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        entries: dict[str, Node] = {}
        for source in sources:
            table = self.convert(source, place, inside)
            if isinstance(table, Table):
                entries = {**table.entries, **entries}
            else:
                self._problem(place.member("<<"), "merges what is no mapping", "name one")
        return entries

    def _key(self, node: yaml.Node, place: Place) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            hint = "keys are plain words; quote a text that begins with { or ["
            self._problem(replace(place, line=_line(node)), "a key is a list or a mapping", hint)
            return None
        key: str = node.value
        place = replace(place.member(key), line=_line(node))
        try:
            value = _value(node)
        except Unusable as error:
            self._problem(place, error.message, error.hint)
            return key
        if not isinstance(value, str):
            self._problem(place, f"the key {meaning(Scalar(place, key, value))}", f'put it in quotes: "{key}"')
        return key

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Scalar:
        try:
            value = _value(node)
            return Scalar(place, node.value, self._references.resolve(value) if isinstance(value, str) else value)
        except Unusable as error:
            self._problem(place, error.message, error.hint)
            return Scalar(place, node.value, None)

    def _problem(self, place: Place, message: str, hint: str) -> None:
        self._report.problem(place, message, hint)


def _value(node: yaml.ScalarNode) -> str | int | float | bool | None:
    """What YAML makes of `node`; a date stays the text that it is. Raises Unusable where that cannot be meant."""
    raw: str = node.value
    tag = node.tag.removeprefix(_TAG)
    if any("\ud800" <= character <= "\udfff" for character in raw):
        raise Unusable("an escape stands for half a character (a surrogate)", "write the character itself")
    if node.style is None and _LEADING_ZERO.fullmatch(raw):
        raise Unusable(
            f"YAML drops the leading zero of {raw}, or reads it as octal", f'put a number called in quotes: "{raw}"'
        )
    if node.style is None and _BASE_SIXTY.fullmatch(raw):
        raise Unusable(
            f"YAML reads {raw} as a number in base sixty", f'put it in quotes: "{raw}", or write plain seconds'
        )
    try:
        match tag:
            case "str" if node.style is None and _NUMBER_1_2.fullmatch(raw):
                return int(raw, 0) if "o" in raw else float(raw)
            case "str" | "timestamp" | "value":
                return raw
            case "null":
                return None
            case "bool":
                return _BOOLEANS[raw.lower()]
            case "int":
                return int(raw.replace("_", ""), 0)
            case "float":
                return float(raw.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    except (ValueError, KeyError) as error:
        raise Unusable(f"{shown(raw)} is no {_shown_tag(node)}", "correct it, or put it in quotes") from error
    raise Unusable(f"the tag {_shown_tag(node)} is not supported", "quote a value that begins with !")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _shown_tag(node: yaml.Node) -> str:
    return shown(f"!!{node.tag.removeprefix(_TAG)}" if node.tag.startswith(_TAG) else node.tag)
