"""`voxtrunk demo`: the whole product as a newcomer meets it, and what it says when something is wrong."""

from __future__ import annotations

import importlib.util
import json
import shutil
import wave
from pathlib import Path

import pytest

from tests.e2e.command import run

pytestmark = [
    pytest.mark.skipif(shutil.which("flite") is None, reason="no flite: apt-get install flite"),
    pytest.mark.skipif(importlib.util.find_spec("pocketsphinx") is None, reason="no pocketsphinx: extra offline"),
]

SCHEMA = {
    "said": str,
    "heard": str,
    "reply": str,
    "intent_ok": bool,
    "v2v_ms": int,
    "interrupted": bool,
}


@pytest.mark.slow
async def test_a_caller_talks_to_the_offline_flavor(tmp_path: Path) -> None:
    finished = await run("demo", "--seed", "1", "--json", "--keep", str(tmp_path), seconds=120)
    assert finished.status == 0, finished.errors
    document = json.loads(finished.output)
    assert list(document) == ["turns", "recording", "errors", "ok"]
    assert document["ok"] is True
    turns = document["turns"]
    assert len(turns) >= 4
    for turn in turns:
        assert {key: type(value) for key, value in turn.items()} == SCHEMA
        assert turn["intent_ok"]
        assert 300 < turn["v2v_ms"] < 4000
    assert sum(turn["interrupted"] for turn in turns) == 1
    assert any("did not understand" in turn["reply"] for turn in turns)
    recording = Path(document["recording"])
    assert recording.is_relative_to(tmp_path)
    with wave.open(str(recording)) as file:
        assert file.getnchannels() == 2
        assert file.getnframes() / file.getframerate() > 20


async def test_a_missing_model_is_told_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    finished = await run("demo", "--seed", "1", "--json", "--keep", str(tmp_path), VOXTRUNK_MODELS=str(tmp_path))
    assert finished.status == 1
    assert "cannot take calls" in finished.errors
    assert "voxtrunk models fetch" in finished.errors
    assert json.loads(finished.output) == {"turns": [], "recording": None, "errors": [], "ok": False}
