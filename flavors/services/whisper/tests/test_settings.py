"""Flags and environment."""

from __future__ import annotations

import re

import pytest

from whisper_service.settings import parse


def test_flags_win_over_the_environment_and_empty_variables_are_absent() -> None:
    settings = parse(["--port", "9000"], {"WHISPER_PORT": "1", "WHISPER_MAX_BATCH": "4", "WHISPER_LANGUAGE": ""})
    assert (settings.host, settings.port, settings.max_batch, settings.language) == ("127.0.0.1", 9000, 4, None)
    assert (settings.engine.max_batch, settings.engine.download) == (4, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "not loopback: set WHISPER_TOKEN"),
        (["--host", "box"], "should be an IP address"),
        (["--max-batch", "0"], r"--max-batch \(WHISPER_MAX_BATCH\): .*greater than or equal to 1"),
        (["--token", "secret"], "unrecognized arguments"),
    ],
)
def test_a_wrong_setting_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments, {})
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_off_loopback_a_token_is_enough() -> None:
    assert parse(["--host", "0.0.0.0"], {"WHISPER_TOKEN": "s3cret"}).host == "0.0.0.0"
    assert parse(["--host", "0.0.0.0", "--open"], {}).open
