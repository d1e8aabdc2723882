"""A flavor's turn detector: chosen as engines are, and no cascade needs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from connector.config import EngineCatalog, Settings, Surroundings, flavor_schema, parse
from connector.errors import ConfigError
from connector.interfaces import EngineKind
from flavors.engines import smart_turn
from flavors.engines.smart_turn import MODEL, SmartTurnOptions
from tests.fakes.catalog import CATALOG

ENGINES = EngineCatalog({**CATALOG.descriptors, smart_turn.NAME: smart_turn.descriptor})

ENGINES_OF_A_CASCADE = "vad: {engine: ear}, stt: {engine: scribe}, llm: {engine: mind, url: u}, tts: {engine: voice}"


def settings_of(flavor: str) -> Settings:
    text = f"flavors:\n  desk: {flavor}\n"
    return parse(text.encode(), Path("/nowhere/voxtrunk.yml"), None, Surroundings({}, ENGINES, ()))


def test_a_flavor_chooses_it() -> None:
    desk = settings_of(f"{{{ENGINES_OF_A_CASCADE}, turn_detector: {{engine: smart-turn}}}}").flavors["desk"]
    choice = desk.engines[EngineKind.TURN_DETECTOR]
    assert choice.options == SmartTurnOptions()
    assert list(ENGINES.descriptors[choice.engine].models(choice.options)) == [MODEL]


def test_a_cascade_may_be_without() -> None:
    desk = settings_of(f"{{{ENGINES_OF_A_CASCADE}}}").flavors["desk"]
    assert EngineKind.TURN_DETECTOR not in desk.engines


def test_an_echo_does_not_load_it() -> None:
    desk = settings_of("{pipeline: echo, turn_detector: {engine: smart-turn}}").flavors["desk"]
    assert not desk.engines


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("{engine: smart-tern}", "did you mean smart-turn?"),
        ("{engine: smart-turn, threshold: 0.5}", "unknown key threshold"),
        ("{engine: smart-turn, seconds: 9}", "flavors.desk.turn_detector.seconds"),
        ("{engine: ear}", "the engine ear is for vad, not for turn_detector"),
        ("true", "write turn_detector: {engine: NAME}"),
    ],
)
def test_mistakes_are_named(choice: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of(f"{{{ENGINES_OF_A_CASCADE}, turn_detector: {choice}}}")
    assert message in str(caught.value)
    assert str(caught.value).startswith("/nowhere/voxtrunk.yml:2: flavors.desk.turn_detector")


@pytest.mark.parametrize(
    ("choice", "right"),
    [("{engine: smart-turn}", True), ("{engine: ear}", False), ("{}", False)],
)
def test_the_schema_knows_it(choice: str, right: bool) -> None:
    flavor = yaml.safe_load(f"{{{ENGINES_OF_A_CASCADE}, turn_detector: {choice}}}")
    assert Draft202012Validator(flavor_schema(ENGINES.descriptors)).is_valid(flavor) is right
