"""The JSON Schema (draft 2020-12) of voxtrunk.yml and of flavor files, for editors and other programs.

It is made from the very types that `load` checks against, so the two cannot disagree on keys and
types; what needs the whole configuration at hand (does a flavor exist?) is left to `load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from connector.config.engines import engine_descriptors
from connector.config.loader import SECTIONS, General
from connector.config.model import SUCCEEDED, FlavorEntry, RungSettings
from connector.config.routes import MATCHERS, RouteEntry
from connector.interfaces import EngineDescriptor, EngineKind

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

REFERENCE: Schema = {
    "type": "string",
    "pattern": r"\$\{[^}]+\}",
    "description": "A reference to the environment, ${NAME} or ${NAME:-default}, or to a file, ${file:/path}.",
}
SECRET: Schema = {
    "type": "string",
    "pattern": r"^\$\{(file:[^}]+|[A-Za-z_][A-Za-z0-9_]*(:-)?)\}$",
    "description": "A secret, by reference only: ${NAME} or ${file:/path}.",
}


def json_schema(engines: Mapping[str, EngineDescriptor] | None = None) -> Schema:
    """The schema of voxtrunk.yml, with the options of `engines` (default: those installed)."""
    parts = _Parts(engine_descriptors() if engines is None else engines)
    return {
        "$schema": DIALECT,
        "title": "voxtrunk.yml",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **{name: _optional({"$ref": parts.ref(model)}) for name, model in SECTIONS.items()},
            **parts.of(General)["properties"],
            "flavors": _optional({"type": "object", "additionalProperties": {"$ref": "#/$defs/Flavor"}}),
            "routes": _optional({"type": "array", "items": {"$ref": "#/$defs/Route"}}),
        },
        "$defs": {
            **parts.definitions(),
            "Flavor": parts.flavor(),
            "Overrides": parts.overrides(),
            "Route": parts.route(),
        },
    }


def flavor_schema(engines: Mapping[str, EngineDescriptor] | None = None) -> Schema:
    """The schema of a flavor file."""
    parts = _Parts(engine_descriptors() if engines is None else engines)
    return {"$schema": DIALECT, "title": "A voxtrunk flavor", **parts.flavor(), "$defs": parts.definitions()}


class _Parts:
    """The pieces that both schemas are made of."""

    def __init__(self, engines: Mapping[str, EngineDescriptor]) -> None:
        self._engines = engines
        models: list[type[BaseModel]] = [*SECTIONS.values(), General, FlavorEntry, RungSettings, RouteEntry]
        models += [descriptor.options for descriptor in engines.values()]
        self._refs, document = models_json_schema([(model, "validation") for model in models])
        self._models: Schema = {name: _open(schema) for name, schema in document["$defs"].items()}

    def ref(self, model: type[BaseModel]) -> str:
        """Where the definition of `model` is."""
        return str(self._refs[model, "validation"]["$ref"])

    def of(self, model: type[BaseModel]) -> Schema:
        """The definition of `model`."""
        definition: Schema = self._models[self.ref(model).removeprefix("#/$defs/")]
        return definition

    def definitions(self) -> Schema:
        """What the other pieces refer to."""
        engines = {f"engine.{descriptor.name}": self._engine(descriptor) for descriptor in self._engines.values()}
        return {**self._models, **engines, "Reference": REFERENCE, "Secret": SECRET}

    def flavor(self) -> Schema:
        """A flavor: its keys, the engines of its pipeline and their options."""
        required = [kind.value for kind in EngineKind if kind.required]
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                **self.of(FlavorEntry)["properties"],
                **{kind.value: self._choice(kind) for kind in EngineKind},
            },
            "if": {"properties": {"pipeline": {"const": "echo"}}, "required": ["pipeline"]},
            "else": {"required": required},
        }

    def overrides(self) -> Schema:
        """Any part of a flavor."""
        engines = {kind.value: self._partial_choice(kind) for kind in EngineKind}
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {**self.of(FlavorEntry)["properties"], **engines},
        }

    def route(self) -> Schema:
        """A route: one way to match, and a flavor."""
        entry = self.of(RouteEntry)
        properties = {**entry["properties"], "with": _optional({"$ref": "#/$defs/Overrides"})}
        return {**entry, "properties": properties, "oneOf": [{"required": [matcher]} for matcher in MATCHERS]}

    def _choice(self, kind: EngineKind) -> Schema:
        """An engine, or a list of engines that succeed one another."""
        one = self._one(kind)
        return _or_list(one, of=one) if kind in SUCCEEDED else one

    def _one(self, kind: EngineKind) -> Schema:
        names = [descriptor.name for descriptor in self._of_kind(kind)]
        if not names:
            return {"type": "object", "required": ["engine"]}
        return {
            "type": "object",
            "required": ["engine"],
            "properties": {"engine": {"enum": names}},
            "allOf": [
                {"if": {"properties": {"engine": {"const": name}}}, "then": {"$ref": f"#/$defs/engine.{name}"}}
                for name in names
            ],
        }

    def _partial_choice(self, kind: EngineKind) -> Schema:
        """An engine named with its options, or some options for the flavor's own engine."""
        options = [
            {key: value for key, value in self.of(descriptor.options).items() if key != "required"}
            for descriptor in self._of_kind(kind)
        ]
        if kind in SUCCEEDED:
            options = [{**one, "properties": {**one.get("properties", {}), **self._rung()}} for one in options]
        some = {"anyOf": options} if options else {}
        part = {"type": "object", "if": {"required": ["engine"]}, "then": self._one(kind), "else": some}
        return _or_list(part, of=self._one(kind)) if kind in SUCCEEDED else part

    def _engine(self, descriptor: EngineDescriptor) -> Schema:
        options = self.of(descriptor.options)
        own = {"engine": {"const": descriptor.name}, **(self._rung() if descriptor.kind in SUCCEEDED else {})}
        return {**options, "properties": {**own, **options.get("properties", {})}}

    def _rung(self) -> Schema:
        """What may be said of an engine that may have successors, beside its options."""
        properties: Schema = self.of(RungSettings)["properties"]
        return properties

    def _of_kind(self, kind: EngineKind) -> list[EngineDescriptor]:
        return [descriptor for descriptor in self._engines.values() if descriptor.kind is kind]


def _or_list(schema: Schema, of: Schema) -> Schema:
    """Also accepts a list `of` something. Not as `anyOf`, by which editors could not tell where a mistake is."""
    return {"if": {"type": "array"}, "then": {"items": of, "minItems": 1}, "else": schema}


def _optional(schema: Schema) -> Schema:
    """Also accepts a key without a value."""
    return {"anyOf": [schema, {"type": "null"}]}


def _open(schema: Any) -> Any:
    """`schema` with a reference accepted wherever a value is, and a secret by reference only."""
    if isinstance(schema, list):
        return [_open(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "password":
        return {**{key: schema[key] for key in ("description", "title") if key in schema}, "$ref": "#/$defs/Secret"}
    opened = {key: value if key in _LITERAL else _open(value) for key, value in schema.items()}
    free_text = schema.get("type") == "string" and not schema.keys() & {"enum", "const", "pattern", "format"}
    if schema.get("type") in ("string", "integer", "number", "boolean") and not free_text:
        notes = {key: opened.pop(key) for key in ("description", "title", "default") if key in opened}
        return {**notes, "anyOf": [opened, {"$ref": "#/$defs/Reference"}]}
    return opened


_LITERAL = {"default", "const", "enum", "examples"}
"""Keywords whose values are values, not schemas."""
