"""A flavor's audio processing: chosen as engines are, and no cascade needs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from connector.config import EngineCatalog, Settings, Surroundings, flavor_schema, parse
from connector.errors import ConfigError
from connector.interfaces import EngineKind
from flavors.engines import webrtc_apm
from flavors.engines.webrtc_apm import WebRtcApmOptions
from tests.fakes.catalog import CATALOG

ENGINES = EngineCatalog({**CATALOG.descriptors, webrtc_apm.NAME: webrtc_apm.descriptor})

ENGINES_OF_A_CASCADE = "vad: {engine: ear}, stt: {engine: scribe}, llm: {engine: mind, url: u}, tts: {engine: voice}"


def settings_of(text: str) -> Settings:
    return parse(text.encode(), Path("/nowhere/voxtrunk.yml"), None, Surroundings({}, ENGINES, ()))


def with_audio(audio: str) -> Settings:
    return settings_of(f"flavors:\n  desk: {{{ENGINES_OF_A_CASCADE}, audio: {audio}}}\n")


def test_a_flavor_chooses_what_is_done_to_its_audio() -> None:
    desk = with_audio("{engine: webrtc-apm, noise_suppression: true, processes: 2}").flavors["desk"]
    assert desk.engines[EngineKind.AUDIO].options == WebRtcApmOptions(noise_suppression=True, processes=2)


def test_without_it_nothing_is_done() -> None:
    desk = settings_of(f"flavors: {{desk: {{{ENGINES_OF_A_CASCADE}}}}}").flavors["desk"]
    assert EngineKind.AUDIO not in desk.engines


def test_an_echo_may_have_it_too() -> None:
    """So one can hear what it does."""
    text = "flavors: {echo: {pipeline: echo, audio: {engine: webrtc-apm, high_pass_filter: true}}}"
    assert list(settings_of(text).flavors["echo"].engines) == [EngineKind.AUDIO]


def test_a_route_may_switch_a_part_on() -> None:
    settings = settings_of(
        f"flavors:\n  desk: {{{ENGINES_OF_A_CASCADE}, audio: {{engine: webrtc-apm, noise_suppression: true}}}}\n"
        "routes: [{number: '1', flavor: desk, with: {audio: {echo_cancellation: true}}}]\n"
    )
    options = settings.routes[0].flavor.engines[EngineKind.AUDIO].options
    assert options == WebRtcApmOptions(noise_suppression=True, echo_cancellation=True)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ("{engine: webrtc-apm}", "nothing is switched on: write noise_suppression: true or echo_cancellation: true"),
        ("{engine: webrtc-apm, noise_supression: true}", "did you mean noise_suppression?"),
        ("{engine: webrtc-apm, noise_suppression: loud}", "flavors.desk.audio.noise_suppression"),
        ("{engine: webrtc-apm, noise_suppression: true, processes: 0}", "flavors.desk.audio.processes"),
        ("{engine: scribe}", "the engine scribe is for stt, not for audio"),
        ("true", "write audio: {engine: NAME}"),
        ("{noise_suppression: true}", "flavors.desk.audio.engine: is missing"),
    ],
)
def test_mistakes_are_named(audio: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_audio(audio)
    assert message in str(caught.value)
    assert str(caught.value).startswith("/nowhere/voxtrunk.yml:2: flavors.desk.audio")


@pytest.mark.parametrize(
    ("audio", "right"),
    [
        ("{engine: webrtc-apm, noise_suppression: true}", True),
        ("{engine: webrtc-apm, noise_suppression: '${NS}'}", True),
        ("{engine: webrtc-apm, noise: true}", False),
        ("{engine: scribe}", False),
        ("{noise_suppression: true}", False),
    ],
)
def test_the_schema_knows_it(audio: str, right: bool) -> None:
    flavor = yaml.safe_load(f"{{{ENGINES_OF_A_CASCADE}, audio: {audio}}}")
    assert Draft202012Validator(flavor_schema(ENGINES.descriptors)).is_valid(flavor) is right
