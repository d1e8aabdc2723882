"""`voxtrunk dial` as a process, calling somebody who answers."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connector.app import SystemClock
from connector.config.model import DigestUser, SipSettings
from connector.interfaces import Digit, Established, Terminated
from tests.e2e.answering import answering
from tests.e2e.command import Finished, run, start
from tests.fakes.engines import tone


def write_wav(path: Path, hertz: float, seconds: float, rate: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(tone(hertz, seconds, rate).samples.tobytes())
    return path


def answer(finished: Finished) -> dict[str, Any]:
    """The JSON document that the command printed."""
    document: dict[str, Any] = json.loads(finished.output)
    return document


async def test_a_file_is_played_recorded_and_counted(tmp_path: Path) -> None:
    speech = write_wav(tmp_path / "speech.wav", 700, 0.6, 16_000)
    recording = tmp_path / "call.wav"
    async with answering(SystemClock()) as callee:
        finished = await run(
            "dial", callee.uri, "--phone", "own", "--play", str(speech), "--record", str(recording), "--dtmf", "5#",
            "--json", "--duration", "6",
        )  # fmt: skip
        digits = await callee.saw(Digit, 2)
    assert finished.status == 0, finished.errors
    document = answer(finished)
    assert set(document) == {"target", "phone", "calls", "recording", "ok"}
    assert document["ok"] is True
    (call,) = document["calls"]
    assert call["status"] == 200
    assert call["said"][0]["said"] == str(speech)
    assert call["said"][0]["seconds"] == pytest.approx(0.6, abs=0.05)
    assert call["heard_seconds"] == pytest.approx(0.6, abs=0.1)
    assert call["line"]["lost"] == 0
    assert call["line"]["received"] > 50
    assert [event.digit for event in digits if isinstance(event, Digit)] == ["5", "#"]
    with wave.open(str(recording)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    assert (np.abs(samples).max(axis=0) > 1000).all()


@pytest.mark.skipif(not (shutil.which("flite") or shutil.which("espeak-ng")), reason="no flite and no espeak-ng")
async def test_text_is_spoken() -> None:
    async with answering(SystemClock()) as callee:
        finished = await run("dial", callee.uri, "--phone", "own", "--say", "Good morning.", "--json")
    assert finished.status == 0, finished.errors
    (call,) = answer(finished)["calls"]
    assert call["said"][0]["said"] == "Good morning."
    assert call["heard_seconds"] > 0.4


async def test_many_calls_at_once_each_hear_their_own_echo(tmp_path: Path) -> None:
    speech = write_wav(tmp_path / "speech.wav", 700, 0.5, 8000)
    async with answering(SystemClock()) as callee:
        finished = await run("dial", callee.uri, "--calls", "10", "--play", str(speech), "--duration", "3", "--json")
        assert len(callee.legs) == 10
    assert finished.status == 0, finished.errors
    calls = answer(finished)["calls"]
    assert [call["heard_seconds"] for call in calls] == [pytest.approx(0.5, abs=0.15)] * 10
    assert all(call["setup_ms"] < 2000 for call in calls)


async def test_a_table_is_printed_for_people(tmp_path: Path) -> None:
    async with answering(SystemClock()) as callee:
        finished = await run("dial", callee.uri, "--calls", "2", "--duration", "0.5")
    assert finished.status == 0, finished.errors
    assert "2 of 2 answered" in finished.output
    assert "jitter" in finished.output


async def test_a_refused_call_fails_with_its_status_and_meaning() -> None:
    async with answering(SystemClock()) as callee:
        callee.rejects = (404, "Not Found")
        finished = await run("dial", callee.uri, "--phone", "own", "--json")
    assert finished.status == 1
    assert answer(finished)["ok"] is False
    assert "404 Not Found: nothing answers this number" in finished.errors


async def test_credentials_come_from_environment_or_file_and_are_never_shown(tmp_path: Path) -> None:
    users = (DigestUser.model_validate({"name": "alice", "password": "opensesame"}),)
    secret = tmp_path / "password"
    secret.write_text("opensesame\n")
    call = ("--phone", "own", "--duration", "0.3", "--user", "alice")
    async with answering(SystemClock(), SipSettings(listen="127.0.0.1:0", users=users)) as callee:
        by_environment = await run("dial", callee.uri, *call, "--password-env", "DIAL_SECRET", DIAL_SECRET="opensesame")
        by_file = await run("dial", callee.uri, *call, "--password-file", str(secret))
        wrong = await run("dial", callee.uri, *call, "--password-env", "DIAL_SECRET", DIAL_SECRET="wrongpassword")
    assert (by_environment.status, by_file.status, wrong.status) == (0, 0, 1)
    assert "401" in wrong.errors
    for finished in (by_environment, by_file, wrong):
        assert "opensesame" not in finished.output + finished.errors
        assert "wrongpassword" not in finished.output + finished.errors


async def test_ctrl_c_hangs_up_and_still_reports() -> None:
    async with answering(SystemClock()) as callee:
        process = await start("dial", callee.uri, "--phone", "own", "--json")
        await callee.saw(Established)
        async with asyncio.timeout(20):
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGINT)
            output, errors = await process.communicate()
        assert await callee.saw(Terminated)
    assert process.returncode == 0, errors.decode()
    assert json.loads(output)["calls"][0]["ended_by"] == "us"


async def test_a_recording_is_never_written_over(tmp_path: Path) -> None:
    recording = tmp_path / "call.wav"
    recording.write_text("precious")
    async with answering(SystemClock()) as callee:
        finished = await run("dial", callee.uri, "--phone", "own", "--duration", "1", "--record", str(recording))
    assert finished.status == 1
    assert "File exists" in finished.errors
    assert recording.read_text() == "precious"


@pytest.mark.skipif(Path("/dev/snd").exists(), reason="this machine has sound devices")
async def test_without_a_microphone_nobody_is_called() -> None:
    async with answering(SystemClock()) as callee:
        finished = await run("dial", callee.uri, "--phone", "own", "--mic")
        assert not callee.legs
    assert finished.status == 1
    assert re.search("no microphone and loudspeaker|no PortAudio|not installed", finished.errors)
    assert "Traceback" not in finished.errors
