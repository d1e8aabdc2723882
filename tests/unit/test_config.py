"""What a right configuration becomes, and what is said about one that is right and yet odd."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from connector.config import Surroundings, builtin_settings, flavor_named, load, parse
from connector.config.model import Settings
from connector.errors import ConfigError
from connector.interfaces import EngineKind
from tests.fakes.catalog import CATALOG, VARIABLES, MindOptions, ScribeOptions, VoiceOptions, settings_of

CASCADE = """\
flavors:
  desk:
    greeting: "Hello: ${HOST}"
    vad: {engine: ear}
    stt: {engine: scribe, beam: 2}
    llm: {engine: mind, url: "http://${HOST}/v1", api_key: "${TOKEN}", tools: {a: {url: u}}, stop: [x]}
    tts: {engine: voice, speed: 1.2}
    turn: {end_silence: 0.9}
"""


def around(tmp_path: Path) -> Surroundings:
    return Surroundings(VARIABLES, CATALOG, tuple(sorted((tmp_path / "packaged").glob("*.yml"))))


def test_a_whole_configuration() -> None:
    """Every kind of value arrives as its type."""
    settings = settings_of(
        """\
sip:
  listen: "[::]:5070"
  allow: [10.0.0.0/8, "2001:db8::/32"]
  users:
    - {name: alice, password: "${TOKEN}"}
  max_calls: ${CALLS}
media: {ports: 21001-21100, timeout: 1e1}
records: {directory: calls, audio: no, min_free_mb: 1}
http: {listen: "127.0.0.1:0", token: "${TOKEN}"}
models: /srv/models
default: desk
"""
        + CASCADE,
        Path("/etc/voxtrunk"),
    )
    assert settings.sip.address == ("::", 5070)
    assert settings.sip.allow == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32"))
    assert settings.sip.users[0].password.get_secret_value() == "s3cret"
    assert settings.sip.max_calls == 7
    assert settings.media.port_range == (21001, 21100)
    assert settings.media.timeout == 10.0
    assert settings.records.directory == Path("/etc/voxtrunk/calls")
    assert settings.records.audio is False
    assert settings.http.address == ("127.0.0.1", 0)
    assert settings.models == Path("/srv/models")
    desk = settings.flavors["desk"]
    assert settings.default is desk
    assert desk.name == "desk"
    assert desk.greeting == "Hello: 127.0.0.9"
    assert desk.turn.end_silence == 0.9
    assert [choice.engine for choice in desk.engines.values()] == ["ear", "scribe", "mind", "voice"]
    assert desk.engines[EngineKind.STT].options == ScribeOptions(beam=2)
    assert desk.engines[EngineKind.LLM].options == MindOptions.model_validate(
        {"url": "http://127.0.0.9/v1", "api_key": SecretStr("s3cret"), "tools": {"a": {"url": "u"}}, "stop": ("x",)}
    )
    assert settings.warnings == ()


def test_empty_sections_are_defaults() -> None:
    """A section whose lines are all commented out is as good as none."""
    settings = settings_of("sip:\nmedia:\nrecords:\nhttp:\nroutes:\nflavors:\nmodels:\ndefault:\n")
    assert settings.sip.listen == "127.0.0.1:5060"
    assert settings.routes == ()
    assert settings.default is None


def test_models_lie_in_the_cache_unless_said_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment decides where nothing is configured."""
    monkeypatch.chdir(tmp_path)
    chosen = Surroundings({"VOXTRUNK_MODELS": "/m"}, CATALOG, ())
    assert builtin_settings(surroundings=chosen).models == Path("/m")
    cached = Surroundings({"XDG_CACHE_HOME": "/c"}, CATALOG, ())
    assert builtin_settings(surroundings=cached).models == Path("/c/voxtrunk/models")


def test_flavors_beside_a_file_that_is_not_there_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flavors").mkdir()
    (tmp_path / "flavors" / "mine.yml").write_text("pipeline: echo\n")
    assert builtin_settings(surroundings=Surroundings({}, CATALOG, ())).flavors["mine"].pipeline == "echo"


def test_a_secret_is_never_shown() -> None:
    """Neither by the settings nor by an error about something beside it."""
    text = "http: {token: '${TOKEN}', listen: 'x'}\nsip:\n  users: [{name: a, password: '${TOKEN}', realm: b}]\n"
    with pytest.raises(ConfigError) as raised:
        settings_of(text)
    assert "s3cret" not in str(raised.value)
    right = settings_of(CASCADE + "http: {token: '${TOKEN}'}\nsip: {users: [{name: a, password: '${TOKEN}'}]}\n")
    assert "s3cret" not in f"{right!r} {right} {right.model_dump()} {right.model_dump_json()}"


def test_a_literal_secret_is_not_repeated() -> None:
    """The problem is printed where others may read it."""
    for text in ("http: {token: hunter2}", "http: {token: [hunter2]}", "sip: {users: [{name: a, password: hunter2}]}"):
        with pytest.raises(ConfigError) as raised:
            settings_of(text)
        assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${HOST}", "127.0.0.9"),
        ("a${HOST}b${CALLS}", "a127.0.0.9b7"),
        ("${NOPE:-x}", "x"),
        ("${NOPE:-}", ""),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""),
        ("${HOST:-x}", "127.0.0.9"),
        ("$${HOST}", "${HOST}"),
        ("$HOST $ $$ {HOST}", "$HOST $ $$ {HOST}"),
        ("$$${HOST}", "$${HOST}"),
    ],
)
def test_references(written: str, value: str) -> None:
    """As in a shell, with `$${` for the characters themselves."""
    assert settings_of(f"sip: {{realm: '{written}'}}").sip.realm == value


def test_a_secret_from_a_file(tmp_path: Path) -> None:
    """As container platforms hand it over, its last line end dropped. A relative path begins beside voxtrunk.yml."""
    (tmp_path / "token").write_text("s3cret\n")
    for path in (tmp_path / "token", "token"):
        token = settings_of(f"http: {{token: '${{file:{path}}}'}}", tmp_path).http.token
        assert token is not None
        assert token.get_secret_value() == "s3cret"


def test_anchors_and_merges() -> None:
    """YAML's own way to say a thing once."""
    settings = settings_of(
        "flavors:\n  a: &a {pipeline: echo, greeting: hi, persona: a}\n"
        "  b: {<<: *a, persona: b}\n  c:\n    <<: [{persona: c}, *a]\n    greeting: salut\n"
    )
    assert [(f.greeting, f.persona) for f in settings.flavors.values()] == [
        ("hi", "a"),
        ("hi", "b"),
        ("salut", "c"),
    ]


def test_utf16_and_byte_order_marks_are_read() -> None:
    """Windows editors write them."""
    for encoding in ("utf-8-sig", "utf-16"):
        assert settings_of("sip: {realm: München}".encode(encoding)).sip.realm == "München"


# --------------------------------------------------------------------------------------- flavors


def test_where_flavors_come_from(tmp_path: Path) -> None:
    """A flavor beside the file beats a packaged one of the same name; inline ones join them."""
    for folder in ("packaged", "flavors"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "echo.yml").write_text(f"pipeline: echo\ndescription: {folder}\n")
    (tmp_path / "packaged" / "other.yml").write_text("pipeline: echo\n")
    (tmp_path / "voxtrunk.yml").write_text("flavors: {mine: {pipeline: echo}}\n")
    settings = load(tmp_path / "voxtrunk.yml", surroundings=around(tmp_path))
    assert {name: flavor.description for name, flavor in settings.flavors.items()} == {
        "echo": "flavors",
        "mine": "",
        "other": "",
    }


def test_a_packaged_flavor_that_is_wrong_matters_where_it_is_used(tmp_path: Path) -> None:
    """Somebody without a key for a cloud service can still use everything else."""
    (tmp_path / "packaged").mkdir()
    (tmp_path / "packaged" / "cloud.yml").write_text("pipeline: echo\ngreeting: ${CLOUD}\n")
    unused = parse(b"routes:\n", tmp_path / "voxtrunk.yml", None, around(tmp_path))
    assert "cloud" not in unused.flavors
    assert [(w.line, w.key) for w in unused.warnings] == [(2, "greeting")]
    with pytest.raises(
        ConfigError, match=r"packaged/cloud\.yml:2: greeting: the environment variable CLOUD is not set"
    ):
        parse(b"default: cloud", tmp_path / "voxtrunk.yml", None, around(tmp_path))


def test_problems_of_all_files_are_told_together_in_order(tmp_path: Path) -> None:
    """voxtrunk.yml first, then its flavors, each from top to bottom."""
    (tmp_path / "flavors").mkdir()
    (tmp_path / "flavors" / "b.yml").write_text("# a flavor\npipeline: echo\nx: 1\ny: 2\n")
    (tmp_path / "flavors" / "a.yml").write_text("pipeline: ekho\n")
    (tmp_path / "flavors" / "c.yml").write_text("- echo\n")
    (tmp_path / "flavors" / "d.yml").write_text("")
    (tmp_path / "flavors" / "e.yml").write_bytes(b"\xff")
    (tmp_path / "flavors" / "f.yml").mkdir()
    (tmp_path / "voxtrunk.yml").write_text("default: nope\nsip: {listen: x}\nroutes: [1]\n")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "voxtrunk.yml", surroundings=around(tmp_path))
    places = [(Path(problem.file).name, problem.line) for problem in raised.value.problems]
    assert places == [
        *(("voxtrunk.yml", line) for line in (1, 2, 3)),
        ("a.yml", 1),
        ("b.yml", 3),
        ("b.yml", 4),
        ("c.yml", 1),
        ("d.yml", 1),
        ("e.yml", 1),
        ("f.yml", 1),
    ]


def test_a_flavor_in_two_places_of_ones_own(tmp_path: Path) -> None:
    """Neither can be preferred."""
    (tmp_path / "flavors").mkdir()
    (tmp_path / "flavors" / "a.yml").write_text("pipeline: echo\n")
    with pytest.raises(ConfigError, match=r"voxtrunk.yml:2: flavors.a: is also in .*flavors/a.yml"):
        parse(b"flavors:\n  a: {pipeline: echo}\n", tmp_path / "voxtrunk.yml", None, around(tmp_path))


def test_flavor_named() -> None:
    """What `--flavor` names, or what it could have named."""
    settings = settings_of(CASCADE)
    assert flavor_named(settings, "desk") is settings.flavors["desk"]
    with pytest.raises(ConfigError, match=r"there is no flavor dest \(did you mean desk\?"):
        flavor_named(settings, "dest")


# --------------------------------------------------------------------------------------- routes and overrides


def test_overrides_change_one_route_alone() -> None:
    """Mappings are merged, engines keep their other options, a named engine replaces the other one."""
    settings = settings_of(
        CASCADE
        + """\
default: desk
routes:
  - number: "1"
    flavor: desk
    with:
      greeting: Hi
      turn: {preroll: 0}
      stt: {model: large}
      tts: {engine: voice, voice: tenor}
      llm: {api_key: "${TOKEN}"}
  - {prefix: "2", flavor: desk, with: {pipeline: echo}}
  - {regex: "3+", flavor: desk, with: }
"""
    )
    desk = settings.flavors["desk"]
    first, second, third = settings.routes
    assert first.flavor.name == "desk"
    assert first.flavor.greeting == "Hi"
    assert (first.flavor.turn.preroll, first.flavor.turn.end_silence) == (0, 0.9)
    assert first.flavor.engines[EngineKind.STT].options == ScribeOptions(model="large", beam=2)
    assert first.flavor.engines[EngineKind.TTS].options == VoiceOptions(voice="tenor")
    assert first.flavor.engines[EngineKind.VAD] == desk.engines[EngineKind.VAD]
    assert first.overrides == {
        "greeting": "Hi",
        "turn.preroll": "0",
        "stt.model": "large",
        "tts.engine": "voice",
        "tts.voice": "tenor",
        "llm.api_key": "${TOKEN}",
    }
    assert second.flavor.engines == {}
    assert third.flavor == desk
    assert desk.greeting == "Hello: 127.0.0.9"
    assert settings.answering == [
        ("number 1", first.flavor),
        ("prefix 2", second.flavor),
        ("regex 3+", desk),
        ("default", desk),
    ]


def test_a_route_knows_its_place() -> None:
    """For `routes explain`."""
    settings = settings_of('flavors: {e: {pipeline: echo}}\nroutes:\n  -\n    number: "1"\n    flavor: e\n')
    assert (settings.routes[0].file, settings.routes[0].line) == ("/nowhere/voxtrunk.yml", 4)


# --------------------------------------------------------------------------------------- values from a command line


def test_values_from_a_command_line() -> None:
    """They replace what the file says, and are checked like it."""
    around_us = Surroundings(VARIABLES, CATALOG, ())
    file = Path("/nowhere/voxtrunk.yml")
    settings = parse(
        b"sip: {realm: a, max_calls: 3}", file, {"sip.listen": "127.0.0.1:0", "sip.max_calls": "4"}, around_us
    )
    assert (settings.sip.realm, settings.sip.max_calls, settings.sip.listen) == ("a", 4, "127.0.0.1:0")
    with pytest.raises(
        ConfigError, match=r"command line:1: sip\.listen: anyone who reaches 0\.0\.0\.0:5060 could call"
    ):
        builtin_settings({"sip.listen": "0.0.0.0:5060"}, around_us)


# --------------------------------------------------------------------------------------- warnings and failures


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("sip: {allow: [0.0.0.0/0]}", "1: sip.allow: 0.0.0.0/0 lets everyone call"),
        ("\nmedia: {ports: 20000-20009}", "2: media.ports: room for 5 calls at once, while sip.max_calls is 50"),
        ("\nmedia: {ports: 20000-20001}", "2: media.ports: room for 1 call at once, while sip.max_calls is 50"),
    ],
)
def test_what_is_odd_is_a_warning(text: str, warning: str) -> None:
    """It does not keep anyone from starting."""
    assert str(settings_of(text).warnings[0]).startswith(f"/nowhere/voxtrunk.yml:{warning}")


def test_a_flavor_file_with_the_other_suffix_is_named(tmp_path: Path) -> None:
    """It is not read, and its author should not have to wonder why."""
    (tmp_path / "flavors").mkdir()
    (tmp_path / "flavors" / "desk.yaml").write_text("pipeline: echo\n")
    settings = settings_of("sip:\n", tmp_path)
    assert [(Path(w.file).name, w.hint) for w in settings.warnings] == [("desk.yaml", "name it desk.yml")]


def test_no_file(tmp_path: Path) -> None:
    """The command that writes one is named."""
    with pytest.raises(ConfigError, match=r"nope\.yml:1: cannot be read: No such file .*voxtrunk init"):
        load(tmp_path / "nope.yml")


def test_settings_do_not_change() -> None:
    """One `Settings` is one generation: a call keeps the one that it began with."""
    settings: Settings = settings_of(CASCADE)
    with pytest.raises(ValueError, match="frozen"):
        settings.sip.max_calls = 3  # type: ignore[misc]


@pytest.mark.parametrize("suffix", ["flac", "opus"])
def test_a_format_whose_package_is_not_installed_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    """In a process to which the package does not exist."""
    file = tmp_path / "voxtrunk.yml"
    file.write_text(f"default: echo\nrecords:\n  format: {suffix}\n")
    program = "import sys; sys.modules['av'] = None; from connector.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "check", "-c", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    wanted = f"voxtrunk.yml:3: records.format: {suffix} needs the package av: run `pip install 'voxtrunk[recording]'`"
    assert wanted in done.stdout


def test_formats_and_rates_of_recordings() -> None:
    records = settings_of(f"{CASCADE}\nrecords: {{format: opus, rate: 16000, sync: true}}").records
    assert (records.format, records.rate, records.sync) == ("opus", 16_000, True)
    with pytest.raises(ConfigError, match=r"records\.format"):
        settings_of(f"{CASCADE}\nrecords: {{format: mp3}}")
    with pytest.raises(ConfigError, match=r"records\.rate"):
        settings_of(f"{CASCADE}\nrecords: {{rate: 44100}}")
