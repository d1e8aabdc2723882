"""`voxtrunk chat`: a flavor by keyboard, by pipe and by file."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.openai_server import Failure, OpenAIServer

CONFIGURATION = """\
flavors:
  desk:
    greeting: Welcome to the desk.
    vad: {engine: silero}
    stt: {engine: faster-whisper}
    tts: {engine: flite}
    llm:
      engine: intents
      not_understood: ["Sorry, what?"]
      contacts:
        - {names: [sales], extension: "2001"}
      intents:
        - {name: hours, phrases: [what are your hours], replies: We are open at nine.}
        - name: transfer
          phrases: ["connect me to {contact}"]
          replies: One moment.
          transfer: "{extension}"
          unavailable: Nobody is there.
        - {name: bye, phrases: [goodbye], replies: Bye., action: hang_up}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "voxtrunk.yml"
    path.write_text(CONFIGURATION)
    return path


def command(file: Path, *options: str) -> list[str]:
    return [sys.executable, "-c", "from connector.cli import main; main()", "chat", "-c", str(file), *options]


def chat(file: Path, said: str, *options: str, **arguments: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(file, "--flavor", "desk", *options), input=said, capture_output=True, text=True, timeout=60, **arguments
    )
    assert "Traceback" not in done.stderr
    return done


def test_a_conversation_through_a_pipe(file: Path) -> None:
    done = chat(file, "what are your hours\n\nhow is the weather\ngoodbye\nnobody reads this\n")
    assert done.stdout.splitlines() == [
        "Welcome to the desk.",
        "We are open at nine.",
        "Sorry, what?",
        "Bye. [hangs up]",
    ]
    assert done.returncode == 0


def test_a_transfer_is_shown_and_ends_the_chat(file: Path) -> None:
    done = chat(file, "connect me to sales\nhello?\n")
    assert done.stdout.splitlines()[-1] == "One moment. [transfers to 2001]"


def test_json_has_one_object_for_each_turn(file: Path) -> None:
    turns: list[Mapping[str, Any]] = [
        json.loads(line) for line in chat(file, "what are your hours\ngoodbye", "--json").stdout.splitlines()
    ]
    assert [(turn["heard"], turn["reply"], turn["intent"]) for turn in turns] == [
        ("", "Welcome to the desk.", None),
        ("what are your hours", "We are open at nine.", "hours"),
        ("goodbye", "Bye.", "bye"),
    ]
    assert turns[-1]["actions"] == [{"action": "hang_up", "reason": "completed"}]


def test_what_is_said_can_be_a_file(file: Path, tmp_path: Path) -> None:
    script = tmp_path / "said.txt"
    script.write_text("what are your hours\n")
    with script.open() as said:
        done = subprocess.run(
            command(file, "--flavor", "desk"), stdin=said, capture_output=True, text=True, timeout=60, check=True
        )
    assert done.stdout.splitlines() == ["Welcome to the desk.", "We are open at nine."]


def test_on_a_terminal_it_prompts(file: Path) -> None:
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(command(file, "--flavor", "desk"), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(terminal, b"goodbye\n")
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:  # the other side closed
        pass
    finally:
        process.wait(60)
        os.close(terminal)
    assert b"> " in shown
    assert b"Bye. [hangs up]" in shown
    assert process.returncode == 0


TWO_MINDS = """\
flavors:
  desk:
    greeting: Welcome to the desk.
    vad: {{engine: silero}}
    stt: {{engine: faster-whisper}}
    tts: {{engine: flite}}
    llm:
      - {{engine: openai-chat, base_url: "{url}", model: test-model}}
      - engine: intents
        not_understood: ["Sorry, what?"]
        intents:
          - {{name: hours, phrases: [what are your hours], replies: We are open at nine.}}
"""


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
async def test_a_successor_that_answers_is_named_with_the_cause(options: tuple[str, ...], tmp_path: Path) -> None:
    """As in a call: the first one is asked until it fails."""
    file = tmp_path / "voxtrunk.yml"
    async with OpenAIServer() as server:
        server.reply = ["At your service."]
        file.write_text(TWO_MINDS.format(url=server.base_url))
        process = await asyncio.create_subprocess_exec(
            *command(file, "--flavor", "desk", *options),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        async with asyncio.timeout(60):
            greeting = (await process.stdout.readline()).decode()
            process.stdin.write(b"what are your hours\n")
            well = (await process.stdout.readline()).decode()
            server.failures.append(Failure(503, "busy", {"Retry-After": "30"}))
            process.stdin.write(b"what are your hours\n")
            failed = (await process.stdout.readline()).decode()
            process.stdin.close()
            _, errors = await process.communicate()
    assert process.returncode == 0
    assert errors == b""
    cause = f"{server.base_url} answers 503"
    if not options:
        assert greeting == "Welcome to the desk.\n"
        assert well == "At your service.\n"
        assert failed.startswith(
            f"We are open at nine. [answered by intents, number 2 of the list: openai-chat: {cause}"
        )
        return
    assert (json.loads(greeting)["engine"], json.loads(greeting)["rung"]) == (None, None)
    assert (json.loads(well)["engine"], json.loads(well)["rung"]) == ("openai-chat", 1)
    turn = json.loads(failed)
    assert (turn["engine"], turn["rung"], turn["error"]) == ("intents", 2, None)
    [passed] = turn["passed_over"]
    assert (passed["rung"], passed["engine"]) == (1, "openai-chat")
    assert passed["error"].startswith(cause)


def test_where_no_language_model_is_well_each_is_named_with_its_cause(tmp_path: Path) -> None:
    file = tmp_path / "voxtrunk.yml"
    file.write_text(TWO_MINDS.format(url="http://127.0.0.1:9/v1").replace("engine: intents", "engine: openai-chat"))
    text = file.read_text().partition("        not_understood")[0]
    file.write_text(f'{text}        base_url: "http://127.0.0.1:9/v2"\n        model: test-model\n')
    done = subprocess.run(command(file, "--flavor", "desk"), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("llm: openai-chat: no connection to http://127.0.0.1:9/v1: Connection refused; ")
    assert "http://127.0.0.1:9/v2" in done.stderr
    assert done.stdout == ""


def test_an_unknown_flavor_is_named_with_those_there_are(file: Path) -> None:
    done = subprocess.run(command(file, "--flavor", "dexk"), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "there is no flavor dexk" in done.stderr
    assert "desk" in done.stderr


def test_an_echo_has_nothing_to_say(file: Path) -> None:
    done = subprocess.run(command(file, "--flavor", "echo"), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no language model" in done.stderr
