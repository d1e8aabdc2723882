"""`voxtrunk dial`: targets, passwords, what a status means."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from connector.cli import app
from connector.cli.dial import explain, uri_of

runner = CliRunner()


@pytest.mark.parametrize(
    ("target", "uri"),
    [
        ("sip:1000@192.0.2.1:5070", "sip:1000@192.0.2.1:5070"),
        ("1000@pbx.example", "sip:1000@pbx.example"),
    ],
)
def test_an_address_is_called_as_it_is(target: str, uri: str, tmp_path: Path) -> None:
    assert uri_of(target, tmp_path / "voxtrunk.yml") == uri


def test_a_number_is_called_where_the_configuration_listens(tmp_path: Path) -> None:
    file = tmp_path / "voxtrunk.yml"
    file.write_text("sip: {listen: '127.0.0.1:5099'}\n")
    assert uri_of("1000", file) == "sip:1000@127.0.0.1:5099"


@pytest.mark.parametrize(("everywhere", "loopback"), [("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")])
def test_an_endpoint_that_listens_everywhere_is_called_on_loopback(
    everywhere: str, loopback: str, tmp_path: Path
) -> None:
    file = tmp_path / "voxtrunk.yml"
    file.write_text(f"sip: {{listen: '{everywhere}:5099', allow: ['192.0.2.0/24']}}\n")
    assert uri_of("1000", file) == f"sip:1000@{loopback}:5099"


@pytest.mark.parametrize(
    ("status", "reason", "remedy"),
    [
        (401, "Unauthorized", "--password-env"),
        (404, "Not Found", "voxtrunk routes explain"),
        (408, "Request Timeout", "is it running"),
        (488, "Not Acceptable Here", "PCMU"),
        (503, "Service Unavailable", "full"),
    ],
)
def test_a_refusal_comes_with_its_meaning(status: int, reason: str, remedy: str) -> None:
    assert explain(status, reason).startswith(f"{status} {reason}: ")
    assert remedy in explain(status, reason)


def test_an_unusual_status_is_told_as_it_is() -> None:
    assert explain(606, "Not Acceptable") == "606 Not Acceptable"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--user", "alice"], "--password-env or --password-file"),
        (["--user", "alice", "--password-env", "VOXTRUNK_NO_SUCH"], "VOXTRUNK_NO_SUCH is not set"),
        (["--user", "alice", "--password-file", "/no/such/file"], "No such file"),
        (["--calls", "2", "--mic", "--duration", "1"], "without --mic"),
        (["--calls", "2", "--phone", "pjsua2", "--duration", "1"], "our own user agent"),
        (["--calls", "2"], "needs something to do"),
    ],
)
def test_wrong_usage_is_told_before_anybody_is_called(arguments: list[str], message: str) -> None:
    result = runner.invoke(app, ["dial", "sip:1000@127.0.0.1:9", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_a_phone_without_ipv6_says_so() -> None:
    result = runner.invoke(app, ["dial", "sip:1000@[::1]:9", "--phone", "pjsua2", "--duration", "1"])
    assert result.exit_code == 2
    assert "built without IPv6" in " ".join(result.output.replace("│", " ").split())


def test_a_file_that_is_no_wav_is_named(tmp_path: Path) -> None:
    file = tmp_path / "speech.wav"
    file.write_text("no sound")
    result = runner.invoke(app, ["dial", "sip:1000@127.0.0.1:9", "--play", str(file)])
    assert result.exit_code == 1
    assert "speech.wav is not a PCM WAV" in result.output
