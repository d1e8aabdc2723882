"""What a flavor says of its speech: language, texts, fillers, and the warnings that go with them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from connector.config import EngineCatalog, Settings, Surroundings, engine_descriptors, parse
from connector.config.language import language_tag, primary
from connector.config.model import Flavor
from connector.errors import ConfigError
from connector.interfaces import CallInfo
from connector.pipeline.facts import personal
from tests.fakes.catalog import CATALOG, VARIABLES, settings_of

ENGINES = "vad: {engine: ear}, stt: {engine: scribe}, llm: {engine: mind, url: u}, tts: {engine: voice}"

ANY = CallInfo("c", "1000", "200")


def desk(keys: str) -> Flavor:
    """The flavor that these keys make of four engines."""
    return settings_of(f"flavors: {{desk: {{{ENGINES}, {keys}}}}}").flavors["desk"]


def refused(keys: str) -> str:
    """What is wrong with them."""
    with pytest.raises(ConfigError) as caught:
        desk(keys)
    (problem,) = caught.value.problems
    return f"{problem.key}: {problem.message} | {problem.hint}"


@pytest.mark.parametrize(
    ("written", "tag"),
    [("en", "en"), ("DE-ch", "de-CH"), ("pt_br", "pt-BR"), ("zh-hans-cn", "zh-Hans-CN"), ("es-419", "es-419")],
)
def test_a_language_is_a_bcp_47_tag(written: str, tag: str) -> None:
    assert language_tag(written) == tag
    assert desk(f"language: {written}").language == tag


@pytest.mark.parametrize("written", ["english", "e", "en-", "en US", "d€"])
def test_what_is_no_language_tag_is_named(written: str) -> None:
    assert "BCP 47" in refused(f"language: {written!r}")


def test_norwegian_is_no_boolean_in_quotes() -> None:
    assert desk("language: 'no'").language == "no"
    assert "flavors.desk.language" in refused("language: no")


def test_a_primary_language() -> None:
    assert [primary(tag) for tag in ("en", "de-CH", "en_US", "PT-br")] == ["en", "de", "en", "pt"]


def spoken_by(languages: dict[str, str], keys: str) -> Settings:
    """Settings with engines that state a language."""

    def language(name: str, options: Any) -> str:
        return languages.get(name, "")

    descriptors = {
        name: replace(descriptor, language=partial(language, name)) for name, descriptor in CATALOG.descriptors.items()
    }
    text = f"flavors: {{desk: {{{ENGINES}, {keys}}}}}"
    engines = EngineCatalog(descriptors, CATALOG.broken)
    return parse(text.encode(), Path("/nowhere/voxtrunk.yml"), None, Surroundings(VARIABLES, engines, ()))


def test_engines_of_another_language_are_a_warning() -> None:
    settings = spoken_by({"scribe": "de", "voice": "en_US", "mind": ""}, "language: en-GB")
    (warning,) = settings.warnings
    assert warning.key == "flavors.desk.stt"
    assert warning.message == "scribe is for de, and the flavor is in en-GB"
    assert not spoken_by({"scribe": "de-AT", "voice": "de"}, "language: de").warnings


def test_installed_engines_tell_their_language() -> None:
    installed = engine_descriptors()
    told = {
        name: installed[name].language(installed[name].options())
        for name in ("faster-whisper", "pocketsphinx", "flite", "espeak-ng", "silero")
    }
    assert told == {"faster-whisper": "en", "pocketsphinx": "en", "flite": "en", "espeak-ng": "en-us", "silero": ""}


def test_fillers_are_texts_like_others() -> None:
    flavor = desk("fillers: [One moment., 'Let me see, {{calling_name|dear caller}}.']")
    assert personal(flavor, ANY).fillers == ("One moment.", "Let me see, dear caller.")
    assert personal(desk("fillers: ['{{calling_name}}', Well.]"), ANY).fillers == ("Well.",)
    assert "{{nonsense}}" in refused("fillers: [One moment., '{{nonsense}}']")
    assert "identity: {headers: [Account]}" in refused("fillers: ['{{header:Account}}']")
    assert "flavors.desk.fillers" in refused("fillers: One moment.")


def test_the_farewell_knows_the_caller() -> None:
    assert personal(desk("farewell: 'Bye, {{calling_name|friend}}.'"), ANY).farewell == "Bye, friend."


def test_a_passage_that_is_not_closed_is_a_mistake_of_the_text() -> None:
    wrong = refused("greeting: <no-interrupt>Hello")
    assert wrong.startswith("flavors.desk.greeting: <no-interrupt>Hello has a passage that is never closed")
    assert desk("persona: Write <no-interrupt> before a legal notice").persona


def test_no_fact_marks_a_passage() -> None:
    """Who calls as "<no-interrupt>" is heard out no longer than others."""
    flavor = desk("greeting: 'Hello {{calling_name}}.'")
    caller = CallInfo("c", "1000", "200", "<no-interrupt>Ada")
    assert personal(flavor, caller).greeting == "Hello no-interruptAda."


def test_all_spoken_texts_in_the_order_of_their_urgency() -> None:
    flavor = Flavor(name="f", greeting="Hi.", apology="Oh.", transfer_refused="", farewell="Bye.", fillers=("A.", "B."))
    assert flavor.spoken == [
        ("greeting", "Hi."),
        ("apology", "Oh."),
        ("farewell", "Bye."),
        ("fillers", "A."),
        ("fillers", "B."),
    ]
