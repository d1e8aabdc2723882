"""Whatever a file holds, loading it ends with `Settings` or with a `ConfigError`, and with nothing else."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector.config.model import Settings
from connector.errors import ConfigError
from tests.fakes.catalog import settings_of

TABLE = Path(__file__).parents[1] / "data" / "config_mistakes.txt"

VOCABULARY = """
sip media records http models flavors routes default listen users name password allow ports timeout number
prefix regex flavor with pipeline echo cascade engine vad stt llm tts ear scribe mind voice turn e 0123 +49
12:30 no 1e3 ~ ${TOKEN} ${NOPE} ${ $${ 127.0.0.1:5060 0.0.0.0:1 40000-40100 << .inf 2026-01-01 !!int !x &a *a
"""
WORDS = st.sampled_from(VOCABULARY.split())
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.integers() | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=25,
)


def load(data: str | bytes) -> Settings | ConfigError:
    """What comes of `data`; only documented errors are caught."""
    try:
        return settings_of(data)
    except ConfigError as error:
        return documented(error)


def documented(error: ConfigError) -> ConfigError:
    """Every problem has a place and words, and they are in order."""
    assert error.problems
    for problem in error.problems:
        assert problem.message
        assert problem.line >= 1
        assert str(problem).isprintable()
    assert [p.line for p in error.problems] == sorted(p.line for p in error.problems)
    return error


# A busy machine is slow to draw, which is no finding.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@patient
@given(st.dictionaries(WORDS, VALUES, max_size=6))
def test_documents_of_our_words(document: dict[str, Any]) -> None:
    """Structures that resemble a configuration."""
    load(yaml.safe_dump(document, allow_unicode=True))


@patient
@given(
    st.lists(
        st.tuples(
            st.integers(0, 4),
            WORDS,
            st.sampled_from([": ", ":\n", "\n", " ", ", ", "- ", "{", "}", "[", "]", '"', "#", "\t"]),
        ),
        max_size=30,
    )
)
def test_texts_of_our_words(pieces: list[tuple[int, str, str]]) -> None:
    """Texts that resemble YAML."""
    load("".join(f"{'  ' * depth}{word}{mark}" for depth, word, mark in pieces))


@patient
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_and_any_bytes(data: str | bytes) -> None:
    """Texts and bytes that resemble nothing."""
    load(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)


@pytest.mark.parametrize("seed", range(20))
def test_files_with_damage(seed: int) -> None:
    """Real files with bytes changed, lost, doubled or swapped."""
    random_ = random.Random(seed)
    whole = TABLE.read_bytes()
    for _ in range(25):
        start = random_.randrange(len(whole) - 400)
        data = bytearray(whole[start : start + random_.randrange(400)])
        for _ in range(random_.randrange(6)):
            if data:
                place = random_.randrange(len(data))
                data[place : place + random_.randrange(4)] = random_.randbytes(random_.randrange(4))
        load(bytes(data))


@patient
@given(st.dictionaries(WORDS, VALUES, max_size=6))
def test_the_same_text_means_the_same_twice(document: dict[str, Any]) -> None:
    """No state of one load reaches the next."""
    text = yaml.safe_dump(document)
    first, second = load(text), load(text)
    assert str(first) == str(second)
