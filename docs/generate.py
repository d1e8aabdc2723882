"""Writes those parts of the pages that follow from the code: `python docs/generate.py`.

A page holds such a part between `<!-- generated: NAME -->` and `<!-- end -->`; a test compares.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from connector import errors
from connector.api import ANSWERS
from connector.api.openapi import document
from connector.call.state import mermaid
from connector.cli import COMMANDS
from connector.config import engine_descriptors, model
from connector.config.loader import General
from connector.config.placeholders import FACTS
from connector.config.routes import RouteEntry
from connector.interfaces import EngineDescriptor
from connector.pipeline import circuit
from connector.record import (
    CallRecord,
    Files,
    Latency,
    MediaStatistics,
    Parts,
    Pause,
    Redirection,
    Service,
    Step,
    Summary,
    Turn,
)
from connector.turn.state import diagram

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "bench").rglob("*.md")))

PART = re.compile(r"(<!-- generated: ([^\n]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """`page` with every generated part as the code has it now; raises KeyError for a part that there is not."""
    return PART.sub(lambda match: f"{match[1]}\n{parts()[match[2]]()}\n{match[3]}", page)


def parts() -> Mapping[str, Callable[[], str]]:
    """What makes each part, by name."""
    fixed: dict[str, Callable[[], str]] = {
        "commands": commands,
        "engines": engines,
        "errors": statuses,
        "facts": facts,
        "http": endpoints,
        "call states": lambda: fenced("mermaid", mermaid()),
        "circuit states": lambda: fenced("mermaid", circuit.diagram()),
        "turn states": lambda: fenced("mermaid", diagram()),
    }
    keys = {f"keys {name}": partial(settings, found) for name, found in SETTINGS.items()}
    options = {f"options {one.name}": partial(options_of, one) for one in own_engines()}
    fields = {f"fields {one.__name__}": partial(record, one) for one in RECORDS}
    return {**fixed, **keys, **options, **fields}


# --------------------------------------------------------------------------------------- the parts

SETTINGS: Mapping[str, type[BaseModel]] = {
    "general": General,
    "sip": model.SipSettings,
    "sip.users": model.DigestUser,
    "media": model.MediaSettings,
    "records": model.RecordSettings,
    "http": model.HttpSettings,
    "identity": model.IdentitySettings,
    "opensips": model.OpenSipsSettings,
    "opensips.edge": model.EdgeSettings,
    "opensips.rtpengine": model.RtpengineSettings,
    "opensips.pairs": model.PairSettings,
    "routes": RouteEntry,
    "flavor": model.FlavorEntry,
    "rung": model.RungSettings,
    "last_resort": model.LastResortSettings,
    "turn": model.TurnSettings,
}
RECORDS: Sequence[type[BaseModel]] = (
    CallRecord,
    Redirection,
    Turn,
    Latency,
    Parts,
    Service,
    Summary,
    Pause,
    Step,
    Files,
    MediaStatistics,
)


def settings(of: type[BaseModel]) -> str:
    """The keys of a part of the configuration."""
    rows = (
        (f"`{field.alias or name}`", type_of(field), default_of(field), meaning(field))
        for name, field in of.model_fields.items()
    )
    return table(("key", "type", "default", "meaning"), rows)


def record(of: type[BaseModel]) -> str:
    """The fields of a part of the call detail record."""
    rows = ((f"`{name}`", type_of(field), meaning(field)) for name, field in of.model_fields.items())
    return table(("field", "type", "meaning"), rows)


def own_engines() -> list[EngineDescriptor]:
    """The engines that voxtrunk brings, whatever else is installed."""
    found = engine_descriptors().values()
    return [one for one in found if one.options.__module__.startswith("flavors.engines.")]


def engines() -> str:
    """The engines, in the order of a conversation."""
    order = list(type(own_engines()[0].kind))
    rows = (
        (f"[`{one.name}`](#{one.name})", f"`{one.kind.value}`", f"`{one.extra}`" if one.extra else "", about(one))
        for one in sorted(own_engines(), key=lambda one: order.index(one.kind))
    )
    return table(("engine", "plays", "extra", "what it is"), rows)


def about(engine: EngineDescriptor) -> str:
    """What the engine's module says about itself first."""
    text = inspect.getdoc(inspect.getmodule(engine.options)) or ""
    return cell(text.partition("\n\n")[0])


def options_of(engine: EngineDescriptor) -> str:
    """The options of an engine, and those of what they are made of."""
    if not engine.options.model_fields:
        return "It has no options.\n"
    text = settings(engine.options)
    for name, field in engine.options.model_fields.items():
        for nested in models_in(field.annotation):
            text += f"\nEach of `{name}`:\n\n{settings(nested)}"
    return text


def statuses() -> str:
    """Which documented error answers a call with which SIP status."""
    by_status: dict[tuple[int, str], list[str]] = {}
    for name, error in vars(errors).items():
        if inspect.isclass(error) and issubclass(error, errors.VoxtrunkError) and error.sip_status != 500:
            same = by_status.setdefault((error.sip_status, error.sip_reason), [])
            if "sip_status" in vars(error):
                same.append(f"`{name}`")
    rows = ((f"{status} {phrase}", ", ".join(names)) for (status, phrase), names in sorted(by_status.items()))
    return table(("SIP status", "errors"), rows)


def facts() -> str:
    """The facts of a call that a flavor's texts may name."""
    header = (
        "`{{header:NAME}}`",
        "A SIP header of the INVITE, in any case: one that begins with `X-`, a usual one, one of `identity.headers`.",
    )
    return table(
        ("placeholder", "fact"), [*((f"`{{{{{name}}}}}`", cell(what)) for name, what in FACTS.items()), header]
    )


def commands() -> str:
    """The commands, in the order of `--help`."""
    return table(("command", "what it does"), ((f"`voxtrunk {name}`", line) for name, line in COMMANDS.items()))


def endpoints() -> str:
    """What HTTP answers."""
    rows = (
        (
            f"`{method.upper()} {path}`",
            "no" if operation.get("security") == [] else "yes",
            ", ".join(operation["responses"]),
            operation["summary"],
        )
        for path, operations in document(ANSWERS)["paths"].items()
        for method, operation in operations.items()
        if method != "parameters"
    )
    return table(("request", "token", "status", "answer"), rows)


# --------------------------------------------------------------------------------------- words


def meaning(field: FieldInfo) -> str:
    """What the string below the field says."""
    return cell(field.description or "")


def default_of(field: FieldInfo) -> str:
    """What holds where the key is not given."""
    value = field.get_default(call_default_factory=True, validated_data={})
    match value:
        case _ if value is PydanticUndefined:
            return "needed"
        case None:
            return "`null`"
        case BaseModel():
            return "its defaults"
        case (BaseModel(), *_):
            return "one, with its defaults"
        case tuple() if len(value) > 3:
            return f"`{json.dumps(value[:3])[:-1]}, ...]`"
        case bool() | int() | float() | tuple() | dict():
            return f"`{json.dumps(value)}`"
        case _:
            text = str(value)
            return f"`{text}`" if text and " " not in text else f'`"{text}"`'


def type_of(field: FieldInfo) -> str:
    """The type of a field in words."""
    return cell(words(field.annotation, tuple(field.metadata)))


NAMES: Mapping[Any, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    datetime: "time, UTC",
    SecretStr: "secret",
    Path: "path",
    model.Network: "network",
    model.EngineChoice: "engine",
    Any: "anything",
}


def words(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """A type in words; `metadata`: what bounds it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in NAMES:
        return NAMES[annotation] + bounds(metadata)
    if origin is Annotated:
        inner = [part.metadata if isinstance(part, FieldInfo) else [part] for part in arguments[1:]]
        return words(arguments[0], tuple(one for part in inner for one in part))
    if origin in (Union, UnionType):
        return " or ".join(words(part, metadata) for part in arguments if part is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (tuple, list):
        return "list" if any(True for _ in models_in(annotation)) else f"list of {words(arguments[0])}"
    if origin is dict:
        return "mapping"
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return ", ".join(f"`{one.value}`" for one in annotation)
    return "mapping"


def bounds(metadata: Iterable[Any]) -> str:
    """The range of a number: `, 0.1 to 5`."""
    found = {type(one): one for one in metadata}
    if Ge in found and Le in found:
        return f", {found[Ge].ge:g} to {found[Le].le:g}"
    low = f"{found[Ge].ge:g} or more" if Ge in found else f"above {found[Gt].gt:g}" if Gt in found else ""
    high = f"at most {found[Le].le:g}" if Le in found else f"below {found[Lt].lt:g}" if Lt in found else ""
    return "".join(f", {part}" for part in (low, high) if part)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation is made of."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def cell(text: str) -> str:
    """`text` as a cell of a table; what is None in Python is null in YAML and JSON."""
    return re.sub(r"\bNone\b", "`null`", " ".join(text.split())).replace("|", "\\|")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def fenced(language: str, text: str) -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```\n"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))
