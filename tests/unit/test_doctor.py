"""Each fault of a machine, injected for real, is named by `voxtrunk doctor` with its cause and a remedy."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import randrange
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from connector.cli import app
from connector.cli.doctor.engines import EngineInUse, check_engines, missing_packages
from connector.cli.doctor.findings import Finding, Verdict
from connector.cli.doctor.machine import check_codecs, local_addresses, owner
from connector.codec.registry import CODECS
from connector.config import builtin_settings
from connector.config.model import EngineChoice, MediaSettings
from connector.errors import EngineError, ModelFetchError, PackageMissing
from connector.interfaces import EngineContext, EngineDescriptor, EngineKind, EngineOptions, ModelFile
from tests.fakes.models import models_folder
from tests.fakes.openai_server import OpenAIServer

SETTINGS = builtin_settings()

ECHO = "flavors: {e: {pipeline: echo}}\ndefault: e\n"


def doctor(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> Result:
    """Runs it on a configuration; ports are free ones unless `text` says otherwise."""
    file = folder / "voxtrunk.yml"
    defaults = {
        "sip:": "sip: {listen: '127.0.0.1:0', max_calls: 1}\n",
        "http:": "http: {listen: '127.0.0.1:0'}\n",
        "media:": f"media: {{ports: {pair_of_ports()}}}\n",
        "records:": "records: {min_free_mb: 0}\n",
    }
    file.write_text(text + "".join(line for key, line in defaults.items() if key not in text))
    return CliRunner().invoke(app, ["doctor", "-c", str(file), "--json", "--timeout", "30"], env=environment)


def checks(result: Result) -> dict[str, dict[str, str]]:
    """The report's lines by check, which are as many as they have names here."""
    report = json.loads(result.stdout)
    assert result.exit_code == (0 if report["ok"] else 1)
    return {line["check"]: line for line in report["checks"]}


def failed(result: Result) -> list[tuple[str, str, str]]:
    """Check, cause and remedy of every failure."""
    return [
        (c["check"], c["cause"], c["remedy"]) for c in json.loads(result.stdout)["checks"] if c["verdict"] == "failed"
    ]


def pair_of_ports() -> str:
    """A free even UDP port and the next, as a range, from below those that the system gives to anyone who asks."""
    while True:
        port = randrange(10_000, 20_000, 2)
        with suppress(OSError), taken(socket.SOCK_DGRAM, port), taken(socket.SOCK_DGRAM, port + 1):
            return f"{port}-{port + 1}"


@contextmanager
def taken(kind: socket.SocketKind, port: int = 0) -> Iterator[int]:
    """A port that this process holds."""
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", port))
        if kind is socket.SOCK_STREAM:
            holder.listen()
        yield holder.getsockname()[1]


# --------------------------------------------------------------------------------------- a sound machine


def test_all_is_well(tmp_path: Path) -> None:
    """Every check has a line, none failed, and nothing is left behind."""
    report = checks(doctor(tmp_path, ECHO))
    assert list(report) == ["Python", "configuration", "SIP port", "RTP ports", "HTTP port", "codecs", "records folder"]
    assert {line["verdict"] for line in report.values()} == {"ok"}
    assert [path.name for path in tmp_path.iterdir()] == ["voxtrunk.yml"]


def test_a_table_for_people(tmp_path: Path) -> None:
    """The same without `--json`."""
    file = tmp_path / "voxtrunk.yml"
    file.write_text(
        ECHO + "records: {min_free_mb: 999999999}\nsip: {listen: '127.0.0.1:0'}\nhttp: {listen: '127.0.0.1:0'}\n"
    )
    result = CliRunner().invoke(app, ["doctor", "-c", str(file)])
    assert result.exit_code == 1
    assert "the disk is full" in " ".join(result.stdout.split())


def test_a_wrong_configuration(tmp_path: Path) -> None:
    """Its problems are failures, with their places; what needs it is not tried."""
    result = doctor(tmp_path, "default: nope\nsip: {listen: x}\n")
    assert [check for check, _, _ in failed(result)] == ["configuration", "configuration"]
    assert failed(result)[0][1] == f"{tmp_path}/voxtrunk.yml:1: default: there is no flavor nope"
    assert json.loads(result.stdout)["checks"][-1]["verdict"] == "skipped"


def test_warnings_of_the_configuration(tmp_path: Path) -> None:
    """They are told, and nothing fails."""
    result = doctor(tmp_path, f"{ECHO}sip: {{listen: '127.0.0.1:0', allow: [0.0.0.0/0], max_calls: 1}}\n")
    assert result.exit_code == 0
    assert [c["cause"] for c in json.loads(result.stdout)["checks"] if c["verdict"] == "warning"] == [
        f"{tmp_path}/voxtrunk.yml:3: sip.allow: 0.0.0.0/0 lets everyone call"
    ]


# --------------------------------------------------------------------------------------- ports and addresses


def test_the_sip_port_is_taken(tmp_path: Path) -> None:
    """By whom is said."""
    with taken(socket.SOCK_DGRAM) as port:
        result = doctor(tmp_path, f"{ECHO}sip: {{listen: '127.0.0.1:{port}', max_calls: 1}}\n")
    ((check, cause, remedy),) = failed(result)
    assert check == "SIP port"
    assert cause.startswith(f"UDP port {port} is taken by ")
    assert cause.endswith(f"(pid {os.getpid()})")
    assert remedy == "stop that program, or choose another port in sip.listen"


def test_the_http_port_is_taken(tmp_path: Path) -> None:
    """By whom is said."""
    with taken(socket.SOCK_STREAM) as port:
        result = doctor(tmp_path, f"{ECHO}http: {{listen: '127.0.0.1:{port}'}}\n")
    ((check, cause, remedy),) = failed(result)
    assert check == "HTTP port"
    assert f"TCP port {port} is taken by " in cause
    assert cause.endswith(f"(pid {os.getpid()})")
    assert "http.listen" in remedy


@pytest.mark.skipif(shutil.which("sipp") is None, reason="sipp is not installed")
def test_another_program_holds_the_port(tmp_path: Path) -> None:
    """The program is named as `ps` names it."""
    with taken(socket.SOCK_DGRAM) as port:
        pass  # free again once this block is left
    command = ["sipp", "-sn", "uas", "-i", "127.0.0.1", "-p", str(port), "-nostdin"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=tmp_path, stdout=quiet, stderr=quiet) as program:
        try:
            while not (found := owner("UDP", port)):
                assert program.poll() is None, "sipp did not start"
        finally:
            program.kill()
    assert found == f"sipp (pid {program.pid})"


def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    """192.0.2.0/24 belongs to nobody (RFC 5737); the addresses that are ours are listed."""
    result = doctor(tmp_path, f"{ECHO}sip: {{listen: '192.0.2.77:5060', allow: [10.0.0.0/8], max_calls: 1}}\n")
    check, cause, remedy = failed(result)[0]
    assert (check, cause) == ("SIP port", "192.0.2.77 is no address of this machine")
    assert "127.0.0.1" in remedy
    assert "127.0.0.1" in local_addresses()
    assert [check for check, _, _ in failed(result)] == ["SIP port", "RTP ports"]


def test_all_rtp_ports_are_taken(tmp_path: Path) -> None:
    """No call could have audio."""
    ports = pair_of_ports()
    with taken(socket.SOCK_DGRAM, int(ports.split("-")[0])):
        ((check, cause, remedy),) = failed(doctor(tmp_path, f"{ECHO}media: {{ports: {ports}}}\n"))
    assert check == "RTP ports"
    assert f"1 ports of {ports} are taken, such as {ports.split('-')[0]} by " in cause
    assert "media.ports" in remedy


def test_some_rtp_ports_are_taken(tmp_path: Path) -> None:
    """Calls can be taken yet, fewer at once."""
    with taken(socket.SOCK_DGRAM) as port:
        first = port - port % 2
        report = checks(doctor(tmp_path, f"{ECHO}media: {{ports: {first}-{first + 61}}}\n"))
    assert report["RTP ports"]["verdict"] == "warning"


# --------------------------------------------------------------------------------------- codecs


def test_a_codec_that_cannot_be_spoken_here_matters_where_it_was_asked_for() -> None:
    without = {**CODECS, "opus": replace(CODECS["opus"], missing=lambda: "libopus is not installed")}
    by_default = check_codecs(MediaSettings(), without)
    assert (by_default.verdict, by_default.cause) == (Verdict.OK, "G722, PCMU, PCMA; not opus")
    asked = check_codecs(MediaSettings(codecs=("opus", "PCMU")), without)
    assert (asked.verdict, asked.cause) == (Verdict.WARNING, "PCMU; not opus")
    assert asked.remedy == "libopus is not installed"
    alone = check_codecs(MediaSettings(codecs=("opus",)), without)
    assert (alone.verdict, alone.cause) == (Verdict.FAILED, "none; not opus")
    assert check_codecs(MediaSettings(codecs=("PCMA",)), without).verdict is Verdict.OK


# --------------------------------------------------------------------------------------- the disk


def test_too_little_space_for_recordings(tmp_path: Path) -> None:
    """Said before the first call, not by a broken recording."""
    ((check, cause, remedy),) = failed(doctor(tmp_path, f"{ECHO}records: {{min_free_mb: 999999999}}\n"))
    assert check == "records folder"
    assert cause.startswith("the disk is full: ")
    assert "records.min_free_mb is 999999999" in cause
    assert "free some space" in remedy


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A real one, without room for a second of audio."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        (disk / "old.wav").write_bytes(bytes(60_000))
        ((check, cause, remedy),) = failed(doctor(tmp_path, f"{ECHO}records: {{directory: disk/records}}\n"))
    finally:
        subprocess.run(["umount", disk], check=True)
    assert check == "records folder"
    assert "disk is full" in cause or "No space left on device" in cause
    assert "free some space" in remedy


@pytest.mark.parametrize(
    ("directory", "cause"),
    [
        ("voxtrunk.yml", "voxtrunk.yml is no folder"),
        ("voxtrunk.yml/records", "is no folder"),
        ("/proc/records", "/proc cannot be written"),
    ],
)
def test_a_folder_that_cannot_be_written(tmp_path: Path, directory: str, cause: str) -> None:
    """The folder that is in the way is named."""
    ((check, found, _),) = failed(doctor(tmp_path, f"{ECHO}records: {{directory: {directory}}}\n"))
    assert check == "records folder"
    assert cause in found


# --------------------------------------------------------------------------------------- engines, the real ones


def flavor(base_url: str, tts: str = "flite", key: str = "right", model: str = "test-model") -> str:
    """A flavor of four engines, the key in the environment."""
    service = f"base_url: '{base_url}', model: {model}, api_key: '${{{key.upper()}_KEY}}', retries: 0"
    return (
        f"models: '{models_folder()}'\ndefault: desk\nflavors:\n  desk:\n    vad: {{engine: silero}}\n"
        f"    stt: {{engine: openai-transcriptions, {service}}}\n    llm: {{engine: openai-chat, {service}}}\n"
        f"    tts: {{engine: {tts}}}\n"
    )


KEYS = {"RIGHT_KEY": "k3y", "WRONG_KEY": "wr0ng"}


async def examined(folder: Path, text: str, environment: Mapping[str, str] = KEYS) -> Result:
    """`doctor`, while this event loop serves."""
    return await asyncio.to_thread(doctor, folder, text, environment)


async def test_engines_that_work(tmp_path: Path) -> None:
    """Model, service, key and program are tried for real."""
    async with OpenAIServer() as server:
        server.key = "k3y"
        report = checks(await examined(tmp_path, flavor(server.base_url)))
    assert [name for name in report if "(desk)" in name] == [
        "vad silero (desk)",
        "stt openai-transcriptions (desk)",
        "llm openai-chat (desk)",
        "tts flite (desk)",
    ]
    assert {line["verdict"] for line in report.values()} == {"ok"}, report


async def test_an_engine_that_refuses_the_key(tmp_path: Path) -> None:
    """Its words are passed on, the key is not."""
    async with OpenAIServer() as server:
        server.key = "k3y"
        result = await examined(tmp_path, flavor(server.base_url, key="wrong"))
    found = {check: (cause, remedy) for check, cause, remedy in failed(result)}
    assert set(found) == {"stt openai-transcriptions (desk)", "llm openai-chat (desk)"}
    assert "401" in found["llm openai-chat (desk)"][0] or "refuse" in found["llm openai-chat (desk)"][0]
    assert found["llm openai-chat (desk)"][1] == "correct the key or the model's name in the engine's options"
    assert "k3y" not in result.stdout


async def test_a_model_that_the_service_lacks(tmp_path: Path) -> None:
    """Reachable, welcome, and useless."""
    async with OpenAIServer() as server:
        result = await examined(tmp_path, flavor(server.base_url, model="another"))
    assert "llm openai-chat (desk)" in {check for check, _, _ in failed(result)}


async def test_an_engine_that_cannot_be_reached(tmp_path: Path) -> None:
    """Nothing listens there."""
    with taken(socket.SOCK_DGRAM) as port:  # as a TCP port it is free
        result = await examined(tmp_path, flavor(f"http://127.0.0.1:{port}/v1"))
    found = {check: (cause, remedy) for check, cause, remedy in failed(result)}
    assert set(found) == {"stt openai-transcriptions (desk)", "llm openai-chat (desk)"}
    cause, remedy = found["llm openai-chat (desk)"]
    assert f"127.0.0.1:{port}" in cause
    assert remedy == "start the service, or correct its address in the engine's options"


@pytest.mark.parametrize(("engine", "package"), [("flite", "flite"), ("espeak-ng", "espeak-ng")])
async def test_a_speech_program_that_is_not_installed(tmp_path: Path, engine: str, package: str) -> None:
    """The package to install is named."""
    async with OpenAIServer() as server:
        result = await examined(tmp_path, flavor(server.base_url, tts=engine), {**KEYS, "PATH": str(tmp_path)})
    ((check, cause, remedy),) = failed(result)
    assert check == f"tts {engine} (desk)"
    assert package in cause
    assert "install" in remedy


async def test_a_word_that_the_recogniser_cannot_pronounce(tmp_path: Path) -> None:
    """Otherwise the first caller would find out."""
    text = (
        f"models: {models_folder()}\ndefault: desk\nflavors:\n  desk:\n    vad: {{engine: silero}}\n"
        "    stt: {engine: pocketsphinx}\n    tts: {engine: flite}\n"
        "    llm: {engine: intents, intents: [{name: bread, phrases: [do you have zwieback], replies: Yes.}]}\n"
    )
    ((check, cause, _),) = failed(await examined(tmp_path, text))
    assert check == "stt pocketsphinx (desk)"
    assert "no pronunciation for zwieback" in cause


async def test_a_model_that_is_missing_or_damaged(tmp_path: Path) -> None:
    """The command that fetches it is named."""
    (tmp_path / "models").mkdir()
    async with OpenAIServer() as server:
        text = flavor(server.base_url).replace(str(models_folder()), "models")
        missing = failed(await examined(tmp_path, text))
        (tmp_path / "models" / "silero_vad.onnx").write_bytes(b"half of it")
        damaged = failed(await examined(tmp_path, text))
    for ((check, cause, remedy),) in (missing, damaged):
        assert check == "vad silero (desk)"
        assert str(tmp_path / "models") in cause
        assert remedy == "run `voxtrunk models fetch`"


# --------------------------------------------------------------------------------------- engines of other people


@dataclass
class Stub:
    """An engine that fails where it is told to; it counts how often it was closed."""

    failure: BaseException | None = None
    hangs: bool = False
    closed: int = 0

    async def start(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure:
            raise self.failure

    async def check(self) -> None:
        """Nothing to check."""

    async def aclose(self) -> None:
        self.closed += 1


@dataclass
class Workshop:
    """Makes a `Stub`, or fails to."""

    stub: Stub = field(default_factory=Stub)
    failure: BaseException | None = None
    models: tuple[ModelFile, ...] = ()

    def used(self) -> EngineInUse:
        descriptor = EngineDescriptor(
            "parrot", EngineKind.TTS, EngineOptions, "gpu", self.load, lambda options: self.models
        )
        return EngineInUse(EngineChoice(engine="parrot", options=EngineOptions()), descriptor, ["desk"])

    def load(self, options: Any, context: EngineContext) -> Stub:
        if self.failure:
            raise self.failure
        return self.stub


async def finding(workshop: Workshop, seconds: float = 20.0) -> Finding:
    (found,) = await check_engines(SETTINGS, [workshop.used()], seconds)
    return found


@pytest.mark.parametrize(
    ("workshop", "cause", "remedy"),
    [
        (
            Workshop(failure=PackageMissing("parrot", "feathers: run pip install 'parrot[gpu]'")),
            "feathers: run pip",
            "extra",
        ),
        (Workshop(Stub(EngineError("parrot", "has a cold"))), "has a cold", ""),
        (Workshop(Stub(ModelFetchError("no such folder"))), "no such folder", ""),
        (
            Workshop(Stub(ZeroDivisionError("by zero"))),
            "defect of the engine: ZeroDivisionError('by zero')",
            "report it",
        ),
        (Workshop(failure=KeyError("beak")), "defect of the engine: KeyError('beak')", "report it"),
    ],
)
async def test_an_engine_that_fails_is_named(workshop: Workshop, cause: str, remedy: str) -> None:
    """Whatever it raises; what was started is closed."""
    found = await finding(workshop)
    assert (found.check, found.verdict) == ("tts parrot (desk)", Verdict.FAILED)
    assert cause in found.cause
    assert remedy in found.remedy
    assert workshop.stub.closed == (0 if workshop.failure else 1)


async def test_an_engine_that_never_gets_ready() -> None:
    """The doctor has other patients."""
    workshop = Workshop(Stub(hangs=True))
    found = await finding(workshop, seconds=0.05)
    assert found.cause == "not ready after 0.05 s"
    assert workshop.stub.closed == 1


async def test_an_engine_that_works() -> None:
    """It is closed again."""
    workshop = Workshop()
    assert (await finding(workshop)).verdict is Verdict.OK
    assert workshop.stub.closed == 1


def test_a_package_that_is_missing_is_found_without_starting_anything() -> None:
    """As `check` does."""
    missing, there = Workshop(failure=PackageMissing("parrot", "feathers")), Workshop()
    found = list(missing_packages(SETTINGS, [missing.used(), there.used()]))
    assert [(used.descriptor.extra, error.message) for used, error in found] == [("gpu", "feathers")]
