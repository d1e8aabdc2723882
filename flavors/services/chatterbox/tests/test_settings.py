"""Flags and environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatterbox_service.settings import Settings, parse


def test_the_defaults_are_safe() -> None:
    settings, fetch = parse([], {})
    assert settings == Settings()
    assert settings.host == "127.0.0.1"
    assert not settings.open
    assert not settings.log_text
    assert not fetch


def test_flags_win_over_the_environment() -> None:
    settings, _ = parse(
        ["--port", "9000", "--voices", "/srv/voices"],
        {"CHATTERBOX_PORT": "9001", "CHATTERBOX_STREAMS": "7", "CHATTERBOX_TOKEN": "secret", "OTHER": "x"},
    )
    assert (settings.port, settings.streams, settings.voices) == (9000, 7, Path("/srv/voices"))
    assert settings.token is not None
    assert settings.token.get_secret_value() == "secret"
    assert "secret" not in repr(settings)


def test_switches_can_be_turned_off_again() -> None:
    assert parse(["--open", "--no-log-text"], {"CHATTERBOX_LOG_TEXT": "true"})[0] == Settings(open=True)


def test_an_empty_variable_counts_as_absent() -> None:
    settings, _ = parse([], {"CHATTERBOX_TOKEN": "", "CHATTERBOX_STREAMS": "", "CHATTERBOX_MODEL": ""})
    assert settings == Settings()


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        (["--port", "70000"], {}, "--port (CHATTERBOX_PORT): Input should be less than or equal to 65535"),
        ([], {"CHATTERBOX_MODEL": "huge"}, "--model (CHATTERBOX_MODEL): Input should be 'turbo'"),
        (["--wait", "long"], {}, "--wait (CHATTERBOX_WAIT)"),
        (["--host", "localhost"], {}, "host should be an IP address"),
        (["--host", "0.0.0.0"], {}, "0.0.0.0 is not loopback: set CHATTERBOX_TOKEN, or --open"),
        (["--token", "secret"], {}, "unrecognized arguments"),
    ],
)
def test_a_wrong_setting_ends_with_status_2_and_the_reason(
    arguments: list[str], environment: dict[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments, environment)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("guard", [{"CHATTERBOX_TOKEN": "secret"}, {"CHATTERBOX_OPEN": "true"}])
def test_a_wider_address_needs_a_guard(guard: dict[str, str]) -> None:
    assert parse(["--host", "0.0.0.0"], guard)[0].host == "0.0.0.0"


def test_help_tells_every_setting_but_asks_for_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"], {})
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for name, field in Settings.model_fields.items():
        if name != "token":
            assert f"CHATTERBOX_{name.upper()}" in told
            assert field.description
    assert "--token" not in told
    assert "CHATTERBOX_TOKEN" in told
