"""The units in systemd/: systemd takes them, they give away little, and they say what the commands and the page say."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from connector.cli import app
from docs.generate import ROOT
from tests.e2e import command

FOLDER = ROOT / "systemd"
PAGE = (ROOT / "docs" / "systemd.md").read_text()
SERVICES = sorted(FOLDER.glob("*.service"))
UNITS = [*SERVICES, *FOLDER.glob("*.target")]
EXPOSURE = 2.0
"""systemd's own rating of what a service could do: 0 nothing, 10 everything; a service without hardening has 9.6."""

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


class Unit:
    """A unit file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()

    def all(self, key: str) -> list[str]:
        """Values of `key`, in order."""
        return re.findall(rf"^{key}=(.*)$", self.text, re.M)

    def one(self, key: str) -> str:
        """The value of `key`, which is given once."""
        (value,) = self.all(key)
        return value

    def words(self, key: str) -> set[str]:
        """Words of all values of `key`."""
        return set(" ".join(self.all(key)).split())

    def __str__(self) -> str:
        return self.path.name


def services() -> list[Unit]:
    return [Unit(path) for path in SERVICES]


def unit(name: str) -> Unit:
    return Unit(FOLDER / name)


lasting = pytest.mark.parametrize("service", [one for one in services() if not one.all("RemainAfterExit")], ids=str)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as they are, but for the programs, which are stand-ins: not every machine has them."""
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in UNITS:
        (tmp_path / path.name).write_text(re.sub(r"^(Exec\w+)=\S+", rf"\1={program}", path.read_text(), flags=re.M))
    return tmp_path


def analyze(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments, *(str(folder / path.name) for path in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )


@needs_systemd
def test_systemd_takes_them_without_a_word(installed: Path) -> None:
    """Unknown keys, wrong values, cycles and units that are not there would be named."""
    done = analyze("--man=no", "verify", folder=installed)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_that_is_broken_into_can_do_little(path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", "--offline=yes", f"--threshold={EXPOSURE * 10:g}", "security", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("service", services(), ids=str)
def test_none_is_root(service: Unit) -> None:
    assert service.all("User") == ["voxtrunk"] or service.all("DynamicUser") == ["yes"]
    assert service.one("CapabilityBoundingSet") == ""


@lasting
def test_what_ends_is_started_again_for_ever(service: Unit) -> None:
    assert (service.one("Restart"), service.one("RestartSec"), service.one("StartLimitIntervalSec")) == (
        "always",
        "1",
        "0",
    )


@lasting
def test_each_restarts_without_the_others(service: Unit) -> None:
    """Only what is generated is required; a restarted connector must not touch OpenSIPS."""
    assert service.words("Requires") <= {"voxtrunk-render.service"}
    assert not any(service.all(key) for key in ("BindsTo", "Requisite", "PropagatesStopTo"))


def test_the_connector_stops_first() -> None:
    """What is started after others is stopped before them: calls that may end still have what carries them."""
    carriers = {"voxtrunk-ua@%i.service", "voxtrunk-edge.service", "voxtrunk-rtpengine.service"}
    connector = unit("voxtrunk@.service")
    assert carriers <= connector.words("After")
    drain = float(re.findall(r"--drain (\S+)", connector.one("ExecStart"))[0])
    assert float(connector.one("TimeoutStopSec")) > drain


def ours() -> Iterator[tuple[str, Sequence[str]]]:
    """Every `voxtrunk` command line of the units and of the page."""
    lines = [line for service in services() for line in [*service.all("ExecStart"), *service.all("ExecReload")]]
    lines += re.findall(r"(?<=[ `])/opt/voxtrunk/bin/voxtrunk [^`\n;]+", PAGE)
    for line in lines:
        program, *arguments = line.replace("%i", "a").split()
        if program == "/opt/voxtrunk/bin/voxtrunk":
            yield line, arguments


@pytest.mark.parametrize("arguments", [arguments for _, arguments in ours()], ids=[line for line, _ in ours()])
def test_commands_take_the_arguments(arguments: Sequence[str]) -> None:
    names = list(takewhile(lambda word: not word.startswith("-"), arguments))
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*names, "--help"])
    assert shown.exit_code == 0, shown.output
    for option in arguments:
        assert not option.startswith("-") or re.search(rf"(?<![\w-]){option}(?![\w-])", shown.output), option


# --------------------------------------------------------------------------------------- the page


def test_every_unit_is_on_the_page() -> None:
    assert set(re.findall(r"^\| `(voxtrunk\S+)`", PAGE, re.M)) == {path.name.replace("@.", "@NAME.") for path in UNITS}


def test_the_page_configures_the_folders_that_the_units_may_write_to() -> None:
    text = PAGE.partition("<!-- file: voxtrunk.yml -->")[2].partition("```yaml\n")[2].partition("```")[0]
    settings = yaml.safe_load(text)
    assert settings["opensips"]["run"] == f"/run/{unit('voxtrunk-render.service').one('RuntimeDirectory')}"
    state = Path("/var/lib", unit("voxtrunk@.service").one("StateDirectory"))
    assert Path(settings["records"]["directory"]).is_relative_to(state)
    folders = {service.path.name: service.all("WorkingDirectory") for service in services()}
    assert folders["voxtrunk-edge.service"] == [settings["opensips"]["run"]]
    assert folders["voxtrunk-ua@.service"] == [f"{settings['opensips']['run']}/ua-%i"]


# --------------------------------------------------------------------------------------- Type=notify


async def test_serve_tells_systemd(tmp_path: Path) -> None:
    """That it has started, that it lives, that it stops."""
    (tmp_path / "voxtrunk.yml").write_text(
        'sip: {listen: "127.0.0.1:0"}\nhttp: {listen: "127.0.0.1:0"}\nroutes: [{number: "1001", flavor: echo}]\n'
    )
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        process = await command.start("serve", "--drain", "0", cwd=tmp_path, **environment)
        try:
            async with asyncio.timeout(30):
                heard = [(await loop.sock_recv(manager, 100)).decode() for _ in range(3)]
                assert heard == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
                process.send_signal(signal.SIGTERM)
                while (message := await loop.sock_recv(manager, 100)) == b"WATCHDOG=1":
                    pass
                assert message == b"STOPPING=1"
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
