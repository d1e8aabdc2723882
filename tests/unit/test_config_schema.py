"""The published JSON Schema: valid itself, true to what `load` accepts, and strict where an editor can help."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from connector.cli.init import TEMPLATE
from connector.config import engine_descriptors, flavor_schema, json_schema
from connector.config.engines import packaged_flavor_files
from connector.config.model import SUCCEEDED, RungSettings
from tests.fakes.catalog import CATALOG

WHOLE = json_schema(CATALOG.descriptors)
FLAVOR = flavor_schema(CATALOG.descriptors)

CASCADE = "vad: {engine: ear}, stt: {engine: scribe}, llm: {engine: mind, url: u}, tts: {engine: voice}"


def errors(schema: Mapping[str, Any], text: str) -> list[str]:
    """Where `text` breaks `schema`, as dotted keys."""
    found = Draft202012Validator(schema).iter_errors(yaml.safe_load(text))
    return sorted(".".join(map(str, error.absolute_path)) for error in found)


@pytest.mark.parametrize("schema", [WHOLE, FLAVOR, json_schema(), flavor_schema(), json_schema({}), flavor_schema({})])
def test_the_schemas_are_schemas(schema: dict[str, Any]) -> None:
    """Draft 2020-12, with every `$ref` leading somewhere."""
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate({"pipeline": "echo"} if "pipeline" in schema["properties"] else {})
    named = {f"#/$defs/{name}" for name in schema["$defs"]}
    assert references(schema) <= named


def references(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(references, schema))
    if isinstance(schema, dict):
        own = {schema["$ref"]} if isinstance(schema.get("$ref"), str) else set()
        return own.union(*map(references, schema.values()))
    return set()


@pytest.mark.parametrize("file", packaged_flavor_files(), ids=lambda file: file.name)
def test_shipped_flavors_fit(file: Path) -> None:
    """Each of them, by its own schema."""
    assert errors(flavor_schema(), file.read_text()) == []


def test_the_first_configuration_fits() -> None:
    """As `init` writes it."""
    assert errors(json_schema(), TEMPLATE) == []


@pytest.mark.parametrize(
    "text",
    [
        "sip:\nroutes:\nflavors:\n",
        "sip: {max_calls: '${CALLS}', listen: '${LISTEN}', users: [{name: a, password: '${file:/run/x}'}]}",
        "sip: {allow: [10.0.0.0/8, '${NET}']}",
        "media: {timeout: '${T:-5}', ports: 1-2}",
        "records: {audio: no, directory: /x}",
        "models: /srv\ndefault: a",
        f"flavors: {{a: {{{CASCADE}}}, b: {{pipeline: echo}}}}",
        "routes: [{number: '1', flavor: a, with: {turn: {preroll: 0}, stt: {beam: 2}, tts: {engine: whisper}}}]",
        "routes: [{regex: '1.', flavor: a, with: }]",
    ],
)
def test_what_load_accepts_fits(text: str) -> None:
    """An editor does not complain about a right configuration."""
    assert errors(WHOLE, text) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("spi: {}", [""]),
        ("sip: {max_call: 3}", ["sip"]),
        ("sip: {max_calls: 0}", ["sip"]),
        ("http: {token: hunter2}", ["http"]),
        ("http: {token: '${T:-hunter2}'}", ["http"]),
        ("routes: [{number: 1000, flavor: a}]", ["routes"]),
        ("routes: [{number: '1', prefix: '1', flavor: a}]", ["routes"]),
        ("routes: [{flavor: a}]", ["routes"]),
        ("routes: [{number: '1', flavor: a, with: {trun: 1}}]", ["routes"]),
        ("flavors: {a: {greeting: hi}}", ["flavors"]),
    ],
)
def test_a_mistake_does_not_fit(text: str, where: list[str]) -> None:
    """Found while it is typed."""
    assert errors(WHOLE, text) == where


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("{greeting: hi}", ["", "", "", ""]),
        ("{pipeline: ekho}", ["", "", "", "", "pipeline"]),
        (f"{{{CASCADE}, name: x}}", [""]),
        (f"{{{CASCADE.replace('ear', 'eer')}}}", ["vad.engine"]),
        (f"{{{CASCADE.replace('{engine: voice', '{engine: mind')}}}", ["tts.engine"]),
        (f"{{{CASCADE.replace('url: u', 'url: u, temperature: 3')}}}", ["llm.temperature"]),
        (f"{{{CASCADE.replace('url: u', 'ulr: u')}}}", ["llm", "llm"]),
        (f"{{{CASCADE.replace('url: u', 'url: u, api_key: k')}}}", ["llm.api_key"]),
        (f"{{{CASCADE.replace('engine: voice', 'engine: voice, voice: bass')}}}", ["tts.voice"]),
        (f"{{{CASCADE.replace('url: u', 'url: u, tools: {t: {}}')}}}", ["llm.tools.t"]),
    ],
)
def test_the_options_of_an_engine_are_its_own(text: str, where: list[str]) -> None:
    """Each mistake at its place."""
    assert errors(FLAVOR, text) == where


def test_every_installed_engine_is_described() -> None:
    """By name, with its options."""
    definitions = json_schema()["$defs"]
    for name, descriptor in engine_descriptors().items():
        keys = {"engine", *descriptor.options.model_fields}
        keys |= set(RungSettings.model_fields) if descriptor.kind in SUCCEEDED else set()
        assert keys == set(definitions[f"engine.{name}"]["properties"])


def test_secrets_of_installed_engines_are_secrets() -> None:
    """A literal key in a file is refused, whichever engine it is for."""
    for descriptor in engine_descriptors().values():
        for name, field in descriptor.options.model_fields.items():
            if any(word in name for word in ("password", "token", "key", "secret")) and field.annotation is not None:
                assert "SecretStr" in str(field.annotation) or "int" in str(field.annotation), (descriptor.name, name)
