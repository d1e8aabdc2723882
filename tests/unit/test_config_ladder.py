"""Engines that succeed one another in a flavor, their deadlines, and its last resort: what YAML may say of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from connector.config import flavor_schema, json_schema
from connector.config.model import Flavor, LastResortSettings
from connector.errors import ConfigError
from connector.interfaces import CallInfo, EngineKind
from connector.pipeline.facts import personal
from tests.fakes.catalog import CATALOG, MindOptions, VoiceOptions, settings_of

ENGINES = {
    "vad": "{engine: ear}",
    "stt": "{engine: scribe}",
    "llm": "{engine: mind, url: u}",
    "tts": "{engine: voice}",
}
FLAVOR = Draft202012Validator(flavor_schema(CATALOG.descriptors))
WHOLE = Draft202012Validator(json_schema(CATALOG.descriptors))


def written(**keys: str) -> str:
    return "".join(f"    {key}: {value}\n" for key, value in {**ENGINES, **keys}.items())


def desk(**keys: str) -> Flavor:
    return settings_of(f"flavors:\n  desk:\n{written(**keys)}").flavors["desk"]


def fits(**keys: str) -> bool:
    """Whether an editor that knows the schema finds nothing wrong."""
    flavor: Any = yaml.safe_load("\n".join(line[4:] for line in written(**keys).splitlines()))
    return FLAVOR.is_valid(flavor)


def test_a_list_names_the_engines_in_the_order_in_which_they_are_asked() -> None:
    voices = "[{engine: voice, voice: tenor, deadline: 0.5}, {engine: voice}, {engine: whisper}]"
    flavor = desk(tts=voices)
    assert flavor.tts is not None
    assert [(one.engine, one.deadline) for one in flavor.tts.rungs] == [
        ("voice", 0.5),
        ("voice", None),
        ("whisper", None),
    ]
    assert flavor.tts.rungs[0].options == VoiceOptions(voice="tenor")
    assert [kind.value for kind, _ in flavor.rungs] == ["vad", "stt", "llm", "tts", "tts", "tts"]
    assert flavor.engines[EngineKind.TTS].engine == "voice"
    assert fits(tts=voices)


def test_one_engine_may_stand_alone_with_a_deadline() -> None:
    flavor = desk(llm="{engine: mind, url: u, deadline: 2}")
    assert flavor.llm is not None
    assert (flavor.llm.deadline, flavor.llm.options) == (2.0, MindOptions(url="u"))
    assert fits(llm="{engine: mind, url: u, deadline: 2}")
    assert fits(llm="[{engine: mind, url: u}]")


def test_engines_with_other_deadlines_and_successors_are_one_engine() -> None:
    one, other = desk(tts="{engine: voice}").tts, desk(tts="[{engine: voice, deadline: 1}, {engine: whisper}]").tts
    assert one is not None
    assert other is not None
    assert one != other
    assert one.is_same_engine(other)
    assert not one.is_same_engine(other.successors[0])


def test_a_route_may_replace_one_engine_by_a_list_and_a_list_by_one() -> None:
    settings = settings_of(
        f"flavors:\n  desk:\n{written()}  shop:\n{written(tts='[{engine: voice}, {engine: whisper}]')}"
        "routes:\n"
        '  - {number: "1", flavor: desk, with: {tts: [{engine: whisper}, {engine: voice, deadline: 1}]}}\n'
        '  - {number: "2", flavor: shop, with: {tts: {engine: whisper}}}\n'
    )
    first, second = (route.flavor.tts for route in settings.routes)
    assert first is not None
    assert second is not None
    assert [one.engine for one in first.rungs] == ["whisper", "voice"]
    assert [one.engine for one in second.rungs] == ["whisper"]
    route = {"number": "1", "flavor": "desk", "with": {"tts": [{"engine": "whisper"}], "stt": {"deadline": 1}}}
    assert WHOLE.is_valid({"routes": [route]})
    assert not WHOLE.is_valid({"routes": [{**route, "with": {"tts": []}}]})


LISTED = "[{engine: voice, voice: tenor, deadline: 0.5}, {engine: voice, speed: 2}]"


def routed(overrides: str, **keys: str) -> Flavor:
    """The flavor `desk` of a route that says `with: OVERRIDES`, which editors take, too."""
    text = f"flavors:\n  desk:\n{written(**keys)}routes:\n  - {{number: '1', flavor: desk, with: {overrides}}}\n"
    assert WHOLE.is_valid(yaml.safe_load(text))
    return settings_of(text).routes[0].flavor


def test_a_route_changes_the_first_engine_of_a_list_and_leaves_its_successors() -> None:
    tts = routed("{tts: {speed: 1.5}}", tts=LISTED).tts
    assert tts is not None
    assert [(one.options, one.deadline) for one in tts.rungs] == [
        (VoiceOptions(voice="tenor", speed=1.5), 0.5),
        (VoiceOptions(speed=2), None),
    ]
    tts = routed("{tts: {deadline: 1}}", tts=LISTED).tts
    assert tts is not None
    assert [one.deadline for one in tts.rungs] == [1, None]


def test_a_route_that_names_an_engine_replaces_the_whole_list() -> None:
    for overrides in ("{tts: {engine: voice, speed: 3}}", "{tts: [{engine: voice, speed: 3}]}"):
        tts = routed(overrides, tts=LISTED).tts
        assert tts is not None
        assert [one.options for one in tts.rungs] == [VoiceOptions(speed=3)]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ("{tts: {sped: 2}}", "routes[0].with.tts.sped: unknown key sped (did you mean speed?)"),
        ("{tts: {deadline: 0}}", "routes[0].with.tts.deadline: 0 is not accepted"),
        ("{tts: {voice: alto, deadline: 1, speed: 2}}", "tts[1]: is in the list twice"),
        ("{tts: []}", "routes[0].with.tts: is an empty list (name one of: voice, whisper)"),
        ("{tts: tenor}", "routes[0].with.tts: is no mapping (write tts: {engine: NAME})"),
    ],
)
def test_mistakes_of_a_route_are_told_at_the_route(overrides: str, problem: str) -> None:
    text = f"flavors:\n  desk:\n{written(tts=LISTED)}routes:\n  - {{number: '1', flavor: desk, with: {overrides}}}\n"
    with pytest.raises(ConfigError) as caught:
        settings_of(text)
    [line] = str(caught.value).splitlines()
    assert problem in line


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("tts", "[]", "tts: is an empty list (name one of: voice, whisper)"),
        ("tts", "[{engine: voice}, {engine: vioce}]", "tts[1].engine: there is no engine vioce (did you mean voice?)"),
        ("tts", "[{engine: voice}, {voice: tenor}]", "tts[1].engine: is missing"),
        ("tts", "[{engine: voice}, {engine: mind, url: u}]", "the engine mind is for llm, not for tts"),
        ("tts", "[{engine: voice}, {engine: voice, deadline: 1}]", "tts[1]: is in the list twice"),
        ("tts", "[voice, whisper]", "tts[0]: is no mapping (write tts: {engine: voice})"),
        ("tts", "{engine: voice, deadline: 0}", "tts.deadline: 0 is not accepted"),
        (
            "tts",
            "{engine: voice, deadline: 21}",
            "tts.deadline: 21 is not accepted (should be less than or equal to 20)",
        ),
        ("tts", "{engine: voice, deadline: soon}", "tts.deadline: soon is no number"),
        ("tts", "{engine: voice, deadline: yes}", "tts.deadline: yes is read by YAML as true (should be a number)"),
        (
            "tts",
            "[{engine: voice}, {engine: whisper, deadline: 600ms}]",
            "tts[1].deadline: 600ms has a unit: seconds are wanted as a plain number (0.6)",
        ),
        (
            "tts",
            "{engine: voice, deadline: 600}",
            "tts.deadline: 600 is too long for seconds, which are wanted (0.6, if those were milliseconds)",
        ),
        ("tts", "[{engine: voice, successors: [{engine: whisper}]}]", "tts[0].successors: unknown key successors"),
        ("vad", "[{engine: ear}]", "vad: is a list (vad has no successors: write vad: {engine: NAME})"),
        ("vad", "{engine: ear, deadline: 1}", "vad.deadline: unknown key deadline"),
        ("last_resort", "{transfer: '1', keys: {'1': '2'}, say: x}", "last_resort: has transfer and keys"),
        ("last_resort", "{keys: {'1': '2001'}}", "last_resort: has keys that nobody tells the caller of: add say"),
        ("last_resort", "{say: x, keys: {A: '2001'}}", "last_resort.keys: has 'A', and a key is one of 0-9, * and #"),
        ("last_resort", "{transfer: ''}", "last_resort.transfer"),
        ("last_resort", "{say: '{{called|'}", "last_resort.say"),
        ("last_resort", "{says: x}", "last_resort.says: unknown key says (did you mean say?)"),
        ("last_resort", "{say: 'Dear {{header:Secret}}'}", "last_resort: the header Secret is not kept"),
    ],
)
def test_mistakes_are_named(key: str, value: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        desk(**{key: value})
    assert f"flavors.desk.{problem}" in str(caught.value) or problem in str(caught.value)


def test_each_mistake_in_a_list_is_told_with_its_line(tmp_path: Path) -> None:
    text = """\
vad: {engine: ear}
stt: []
llm: {engine: mind, url: u}
tts:
  - engine: voice
    deadline: 600ms
  - engine: vioce
  - {engine: whisper}
  - {engine: whisper, deadline: 1}
"""
    (tmp_path / "flavors").mkdir()
    (tmp_path / "flavors" / "desk.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        settings_of("default: desk", tmp_path)
    file = f"{tmp_path}/flavors/desk.yml"
    assert str(caught.value).splitlines() == [
        f"{file}:2: stt: is an empty list (name one of: scribe)",
        f"{file}:6: tts[0].deadline: 600ms has a unit: seconds are wanted as a plain number (0.6)",
        f"{file}:7: tts[1].engine: there is no engine vioce (did you mean voice?)",
        f"{file}:9: tts[3]: is in the list twice (an engine cannot succeed itself: leave one out)",
    ]


@pytest.mark.parametrize(
    "keys",
    [
        {"tts": "[]"},
        {"tts": "[{engine: vioce}]"},
        {"tts": "[{engine: voice, voice: bass}]"},
        {"tts": "{engine: voice, deadline: 0}"},
        {"vad": "[{engine: ear}]"},
        {"vad": "{engine: ear, deadline: 1}"},
        {"last_resort": "{says: x}"},
    ],
)
def test_the_schema_finds_them_too(keys: dict[str, str]) -> None:
    assert fits()
    assert not fits(**keys)


def test_a_last_resort_is_a_transfer_a_menu_or_the_end() -> None:
    assert desk().last_resort is None
    assert desk(last_resort="{}").last_resort == LastResortSettings()
    menu = "{say: 'Press 1 for sales.', keys: {'1': 'sip:sales@pbx.example', '#': '2001'}}"
    last = desk(last_resort=menu).last_resort
    assert last is not None
    assert last.keys == {"1": "sip:sales@pbx.example", "#": "2001"}
    assert fits(last_resort=menu)


def test_what_a_last_resort_says_is_among_what_is_kept_and_may_name_facts_of_the_call() -> None:
    flavor = desk(last_resort="{say: 'Sorry, {{calling_name|dear caller}}.', transfer: '2000'}")
    assert ("last_resort", "Sorry, {{calling_name|dear caller}}.") in flavor.spoken
    mine = personal(flavor, CallInfo("c", "1000", "200", calling_name="Ada"))
    assert mine.last_resort == LastResortSettings(say="Sorry, Ada.", transfer="2000")
