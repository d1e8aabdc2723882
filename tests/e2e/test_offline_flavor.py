"""The offline flavor end to end, without the call: a voice, the telephone, the recogniser, the script.

Figures over the whole corpus come from bench/offline_rejection.py; here a part of its test half must do.
"""

from __future__ import annotations

import shutil

import pytest

from bench.offline_rejection import known_lines, measure, rates, strange_lines

SEED = 7


@pytest.fixture(autouse=True)
def needs_programs() -> None:
    pytest.importorskip("pocketsphinx")
    if shutil.which("flite") is None:
        pytest.skip("flite is not installed: apt install flite")


@pytest.mark.parametrize("voice", ["slt", "rms"])
def test_callers_are_understood_and_strangers_are_not_answered(voice: str) -> None:
    known = [line for line in known_lines(SEED, 2) if not line.tunes][::2]
    strangers = [line for line in strange_lines() if not line.tunes][::4]
    found = measure([*known, *strangers], SEED, voice)
    result = rates(found)
    misses = [(outcome.line.text, outcome.intent, outcome.phrase, outcome.heard) for outcome in found]
    wrong = [miss for outcome, miss in zip(found, misses, strict=True) if outcome.intent != outcome.line.intent]
    assert result.known >= 15
    assert result.strangers >= 20
    assert result.refused <= 0.15, wrong
    assert result.wrong == 0, wrong
    assert result.answered <= 0.05, wrong
