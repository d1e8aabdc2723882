"""The commands about configuration: what they print, for people and for programs, and how they exit."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

import connector
from connector.cli import COMMANDS, app
from connector.cli.init import TEMPLATE
from connector.config import Surroundings, load, parse

EXECUTABLE = Path(sysconfig.get_path("scripts")) / "voxtrunk"

ROUTES = """\
flavors: {a: {pipeline: echo}}
routes:
  - {number: "1000", flavor: a, with: {greeting: Hi, turn: {preroll: 0}}}
  - {prefix: "1", flavor: a}
  - {prefix: "1", flavor: a}
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def configuration(folder: Path, text: str) -> Path:
    file = folder / "voxtrunk.yml"
    file.write_text(text)
    return file


def document(result: Result) -> Any:
    """Standard output, which is one JSON document."""
    return json.loads(result.stdout)


# --------------------------------------------------------------------------------------- conventions


def test_every_command_is_listed_and_there() -> None:
    """With its line in `--help`, and its own `--help`."""
    listing = run("--help")
    assert listing.exit_code == 0
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", listing.stdout)
        assert importlib.util.find_spec(f"connector.cli.{name}"), name


@pytest.mark.parametrize("command", ["init", "check", "doctor", "serve", "routes", "chat", "models", "schema"])
def test_a_commands_help_is_about_the_command_alone(command: str) -> None:
    shown = run(command, "--help")
    assert shown.exit_code == 0
    assert "completion" not in shown.stdout


def test_wrong_usage_is_2() -> None:
    """An unknown command, an unknown option, an argument too few; the command that was meant is named."""
    assert run("chek").exit_code == 2
    assert "check" in run("chek").stderr
    assert run("check", "--nope").exit_code == 2
    assert run("routes", "explain").exit_code == 2
    assert run().exit_code == 2


def test_a_documented_error_is_one_message(tmp_path: Path) -> None:
    """On standard error, with exit status 1, and without a traceback."""
    result = run("routes", "explain", "1", "-c", tmp_path / "nope.yml", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"{tmp_path}/nope.yml:1: cannot be read")


def test_the_configuration_file_may_be_named_before_the_command(tmp_path: Path) -> None:
    """And the command's own option has the last word."""
    file, other = configuration(tmp_path, "spi: 1\n"), tmp_path / "other.yml"
    other.write_text("")
    for arguments, faulty in (["-c", file, "check"], True), (["-c", file, "check", "-c", other], False):
        done = CliRunner().invoke(app, [*map(str, arguments)], env={"VOXTRUNK_CONFIG": None})
        assert (f"{file}:1: spi" in done.stdout) is faulty


def test_the_executable_starts_at_once(tmp_path: Path) -> None:
    """The real one: version, help, and a check whose output has no colours in a pipe."""
    started = time.monotonic()
    done = subprocess.run([EXECUTABLE, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"voxtrunk {connector.__version__}\n"
    assert time.monotonic() - started < 5
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", EXECUTABLE, "--help"], capture_output=True, text=True, check=True
    ).stderr
    assert not re.search(r"\| +(numpy|pydantic|aiohttp|connector\.config)$", loaded, re.MULTILINE)
    file = configuration(tmp_path, "spi: 1\n")
    checked = subprocess.run([EXECUTABLE, "check", "-c", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 1
    assert checked.stdout == f"{file}:1: spi: unknown key spi (did you mean sip?)\n"
    assert checked.stderr == f"{file}: 1 problem\n"


# --------------------------------------------------------------------------------------- init


def test_init_writes_what_check_accepts(tmp_path: Path) -> None:
    """A newcomer's first two commands."""
    file = tmp_path / "voxtrunk.yml"
    written = run("init", "-c", file)
    assert written.exit_code == 0
    assert f"voxtrunk check -c {file}" in written.stdout
    checked = run("check", "-c", file)
    assert checked.exit_code == 0, checked.stdout
    assert "no problem found; 2 routes, no default" in checked.stdout
    for number, flavor in (("1000", "offline"), ("1001", "echo")):
        assert document(run("routes", "explain", number, "-c", file, "--json"))["flavor"] == flavor


def test_init_overwrites_nothing_unless_forced(tmp_path: Path) -> None:
    """Nobody loses a configuration."""
    file = configuration(tmp_path, "mine")
    refused = run("init", "-c", file)
    assert refused.exit_code == 1
    assert "is there already and was left alone (--force" in refused.stderr
    assert file.read_text() == "mine"
    forced = run("init", "-c", file, "--force", "--json")
    assert document(forced)["next"] == [f"voxtrunk {command} -c {file}" for command in ("check", "doctor", "serve")]
    assert file.read_text() == TEMPLATE


def test_init_copies_a_flavor_to_edit_that_takes_the_place_of_the_packaged_one(tmp_path: Path) -> None:
    file = tmp_path / "voxtrunk.yml"
    assert run("init", "-c", file).exit_code == 0
    copied = run("init", "--flavor", "echo", "-c", file)
    own = tmp_path / "flavors" / "echo.yml"
    assert copied.exit_code == 0
    assert f"{own} is written" in copied.stdout
    own.write_text(own.read_text() + "max_seconds: 7\n")
    assert load(file).flavors["echo"].max_seconds == 7


def test_init_overwrites_no_flavor_unless_forced(tmp_path: Path) -> None:
    file, own = tmp_path / "voxtrunk.yml", tmp_path / "flavors" / "echo.yml"
    own.parent.mkdir()
    own.write_text("mine")
    refused = run("init", "--flavor", "echo", "-c", file)
    assert (refused.exit_code, own.read_text()) == (1, "mine")
    assert "is there already and was left alone" in refused.stderr
    forced = run("init", "--flavor", "echo", "-c", file, "--force", "--json")
    assert document(forced) == {
        "file": str(own),
        "next": [f"voxtrunk check -c {file}", f"voxtrunk chat --flavor echo -c {file}"],
    }
    assert own.read_text() != "mine"


@pytest.mark.parametrize(
    ("name", "hint"), [("ecko", "did you mean echo?"), ("../voxtrunk", "flavors that come with voxtrunk: ")]
)
def test_init_names_the_flavors_that_there_are(tmp_path: Path, name: str, hint: str) -> None:
    refused = run("init", "--flavor", name, "-c", tmp_path / "voxtrunk.yml")
    assert refused.exit_code == 1
    assert f"there is no flavor {name} to copy ({hint}" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_where_nothing_can_be_written(tmp_path: Path) -> None:
    """The cause is named."""
    result = run("init", "-c", tmp_path / "nope" / "voxtrunk.yml")
    assert (result.exit_code, "cannot be written: No such file or directory" in result.stderr) == (1, True)


def test_the_examples_in_its_comments_are_right() -> None:
    """Uncommented, all of them together are a valid configuration."""
    text = re.sub(r"(?m)^( *)# ?( *(?:- |\w+:))", r"\1\2", TEMPLATE)
    assert text.count("#") < TEMPLATE.count("#") - 10
    settings = parse(
        text.encode(), Path("voxtrunk.yml"), None, Surroundings({"ALICE_PASSWORD": "x", "VOXTRUNK_TOKEN": "y"})
    )
    assert [str(route) for route in settings.routes] == [
        "number 1000",
        "number 1001",
        "prefix +4930",
        "regex 2[0-9]{3}",
    ]
    assert settings.default is not None
    assert settings.sip.users[0].name == "alice"
    assert settings.warnings == ()


# --------------------------------------------------------------------------------------- check


def test_check_prints_warnings_and_succeeds(tmp_path: Path) -> None:
    """A route that never answers is a mistake, yet calls can be taken."""
    file = configuration(tmp_path, ROUTES)
    result = run("check", "-c", file)
    assert result.exit_code == 0
    assert f"warning: {file}:5: routes: prefix 1 never answers: prefix 1 in line 4 comes first" in result.stdout
    report = document(run("check", "-c", file, "--json"))
    assert (report["ok"], report["problems"], [w["line"] for w in report["warnings"]]) == (True, [], [5])


def test_check_prints_every_problem(tmp_path: Path) -> None:
    """In full, one a line, and as data."""
    file = configuration(tmp_path, "sip: {listen: x}\nroutes: [{number: 0123, flavor: nope}]\n")
    result = run("check", "-c", file)
    assert result.exit_code == 1
    assert [line.split(": ")[1] for line in result.stdout.splitlines()] == [
        "sip.listen",
        "routes[0].number",
        "routes[0].flavor",
    ]
    assert result.stderr == f"{file}: 3 problems\n"
    report = document(run("check", "-c", file, "--json"))
    assert report["ok"] is False
    assert report["problems"][1] == {
        "file": str(file),
        "line": 2,
        "key": "routes[0].number",
        "message": "YAML drops the leading zero of 0123, or reads it as octal",
        "hint": 'put a number called in quotes: "0123"',
    }


# --------------------------------------------------------------------------------------- routes


def test_routes_explain(tmp_path: Path) -> None:
    """A table of every route, and a sentence."""
    file = configuration(tmp_path, ROUTES)
    result = run("routes", "explain", "1000", "-c", file)
    assert result.exit_code == 0
    chosen = next(line for line in result.stdout.splitlines() if line.startswith("->"))
    assert re.search(r"number 1000 +a +greeting = Hi, turn\.preroll = 0 +matches first", chosen)
    assert "1000: the flavor a answers (number 1000), with greeting = Hi, turn.preroll = 0" in result.stdout
    report = document(run("routes", "explain", "1000", "-c", file, "--json"))
    assert report["reason"] == "number 1000"
    assert report["overrides"] == {"greeting": "Hi", "turn.preroll": "0"}
    assert [(one["chosen"], one["matched"], one["line"]) for one in report["considered"]] == [
        (True, True, 3),
        (False, True, 4),
        (False, True, 5),
    ]


def test_routes_explain_a_number_in_another_form(tmp_path: Path) -> None:
    """The country of `identity` says what E.164 makes of it."""
    text = 'identity: {region: DE}\nflavors: {a: {pipeline: echo}}\nroutes: [{number: "+4930123456", flavor: a}]\n'
    file = configuration(tmp_path, text)
    result = run("routes", "explain", "030 123456", "-c", file)
    assert "matches +4930123456 first" in " ".join(result.stdout.split())
    assert "030 123456 (+4930123456): the flavor a answers (number +4930123456)" in result.stdout
    report = document(run("routes", "explain", "004930123456", "-c", file, "--json"))
    assert (report["flavor"], report["called_number"]) == ("a", "+4930123456")
    assert run("routes", "explain", "30123456", "-c", file).exit_code == 1


def test_routes_explain_a_number_that_nothing_answers(tmp_path: Path) -> None:
    """It is said, and it is a failure."""
    file = configuration(tmp_path, ROUTES)
    result = run("routes", "explain", "2", "-c", file)
    assert result.exit_code == 1
    assert "2: nothing answers (404 Not Found)" in result.stdout
    assert document(run("routes", "explain", "2", "-c", file, "--json"))["flavor"] is None


def test_routes_explain_the_default(tmp_path: Path) -> None:
    """It has no route, and no overrides."""
    file = configuration(tmp_path, f"{ROUTES}default: a\n")
    assert "+4930: the flavor a answers (default)\n" in run("routes", "explain", "+4930", "-c", file).stdout


def test_routes_explain_shows_no_secret(tmp_path: Path) -> None:
    """An override may hold one, by reference."""
    (tmp_path / "key").write_text("s3cret")
    file = configuration(
        tmp_path,
        "flavors:\n  a: {vad: {engine: silero}, stt: {engine: faster-whisper}, tts: {engine: flite},\n"
        "    llm: {engine: openai-chat, base_url: http://x/v1, model: m}}\n"
        "routes: [{number: '1', flavor: a, with: {llm: {api_key: '${file:key}'}}}]\n",
    )
    result = run("routes", "explain", "1", "-c", file)
    assert result.exit_code == 0, result.stderr
    assert "llm.api_key = ${file:key}" in result.stdout
    assert "s3cret" not in result.stdout


# --------------------------------------------------------------------------------------- schema


@pytest.mark.parametrize(("option", "title"), [([], "voxtrunk.yml"), (["--flavor"], "A voxtrunk flavor")])
def test_schema(option: list[str], title: str) -> None:
    """One JSON document on standard output."""
    assert document(run("schema", *option))["title"] == title


def test_the_first_configuration_is_read_alike_by_any_yaml_parser() -> None:
    """Nothing in it depends on how this program reads YAML."""
    assert yaml.safe_load(TEMPLATE)["routes"][0] == {"number": "1000", "flavor": "offline"}
