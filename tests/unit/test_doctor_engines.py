"""What can be wrong with a GPU box, injected for real, is named by `voxtrunk doctor` with its cause and a remedy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from connector.cli import app
from connector.cli.doctor.findings import Finding, Verdict
from connector.cli.doctor.gpu import CHATTERBOX, COMPOSE_DEFAULTS, WHISPER, WHISPER_CPU, ComposeBox, check_memory
from connector.config import hub as hub_client
from connector.config.hub import Hub
from connector.interfaces import HubModel
from flavors.engines._whisper_hub import hub_model
from tests.fakes.hub import FakeHub, serving
from tests.fakes.models import models_folder
from tests.fakes.openai_server import OpenAIServer

VLLM, LLAMA = COMPOSE_DEFAULTS["VLLM_MODEL"], COMPOSE_DEFAULTS["LLAMA_MODEL"]
FILES = {"config.json": b"{}", "model.bin": bytes(5000), "tokenizer.json": b"{}", "vocabulary.json": b"[]"}
HELD = {
    VLLM: {"config.json": b"{}", "model.safetensors": bytes(5000)},
    LLAMA: {COMPOSE_DEFAULTS["LLAMA_FILE"]: bytes(5000)},
    CHATTERBOX.repository: {"ve.safetensors": bytes(5000)},
    WHISPER.repository: FILES,
    WHISPER_CPU.repository: FILES,
}

OTHERS = {"Python", "configuration", "SIP port", "RTP ports", "HTTP port", "codecs", "records folder"}
"""Checks that are none of this file's."""

L4 = "0, NVIDIA L4, 23034, 22563"
"""As nvidia-smi prints it."""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving(FakeHub({name: dict(files) for name, files in HELD.items()})) as hub:
        yield hub


class Machine:
    """A folder with voxtrunk.yml and `.env`, and the programs that this machine has."""

    def __init__(self, folder: Path, hub: FakeHub) -> None:
        self.folder = folder
        self._programs = folder / "bin"
        self._programs.mkdir()
        self.environment = {
            "PATH": f"{self._programs}:/nowhere",
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(folder / "huggingface"),
            "HF_TOKEN": "",
            "COMPOSE_PROFILES": "",
            "VOXTRUNK_CONTAINER": "",
        }

    def program(self, name: str, output: str = "", status: int = 0) -> None:
        """A program that prints `output` and ends."""
        path = self._programs / name
        path.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{output}\nEND\nexit {status}\n")
        path.chmod(0o755)

    def env(self, *lines: str) -> None:
        """Writes `.env`."""
        (self.folder / ".env").write_text("".join(f"{line}\n" for line in lines))

    def doctor(self, flavor: str = "{pipeline: echo}", models: Path | None = None) -> dict[str, dict[str, str]]:
        """The report's lines by check, those alone that are about the box and its engines."""
        return {line["check"]: line for line in self.report(flavor, models)}

    def report(self, flavor: str, models: Path | None = None) -> list[dict[str, str]]:
        """The same, in order."""
        file = self.folder / "voxtrunk.yml"
        file.write_text(
            "sip: {listen: '127.0.0.1:0', max_calls: 1}\nhttp: {listen: '127.0.0.1:0'}\nrecords: {min_free_mb: 0}\n"
            f"models: '{models or models_folder()}'\nflavors: {{desk: {flavor}}}\ndefault: desk\n"
        )
        arguments = ["doctor", "-c", str(file), "--json", "--timeout", "30"]
        result = CliRunner(env=self.environment).invoke(app, arguments)
        report = json.loads(result.stdout)
        assert result.exit_code == (0 if report["ok"] else 1)
        return [line for line in report["checks"] if line["check"] not in OTHERS]


@pytest.fixture
def machine(tmp_path: Path, hub: FakeHub) -> Machine:
    return Machine(tmp_path, hub)


def told(line: Mapping[str, str]) -> tuple[str, str, str]:
    return line["verdict"], line["cause"], line["remedy"]


def whisper(**options: Any) -> str:
    """A flavor with faster-whisper."""
    values = ", ".join(f"{name}: {value}" for name, value in options.items())
    return (
        f"{{vad: {{engine: silero}}, stt: {{engine: faster-whisper, {values}}}, tts: {{engine: flite}}, "
        "llm: {engine: intents, intents: [{name: hello, phrases: [hello], replies: Hi.}]}}"
    )


# --------------------------------------------------------------------------------------- driver and container toolkit


def test_a_machine_that_is_asked_for_nothing_is_not_looked_at(machine: Machine) -> None:
    assert machine.doctor() == {}


def test_a_gpu_is_asked_for_and_there_is_no_driver(machine: Machine) -> None:
    verdict, cause, remedy = told(machine.doctor(whisper(model=machine.folder, device="cuda"))["GPU"])
    assert (verdict, cause) == ("failed", "nvidia-smi is not installed: this machine has no NVIDIA driver")
    assert remedy.startswith("install NVIDIA's driver (apt-get install nvidia-driver), or choose device: cpu")


@pytest.mark.parametrize(
    ("said", "status", "cause", "remedy"),
    [
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\nMake sure it is running.",
            9,
            "nvidia-smi: NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
            "modprobe nvidia, or reboot",
        ),
        (
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.90",
            18,
            "nvidia-smi: Failed to initialize NVML: Driver/library version mismatch",
            "the driver was updated: reboot",
        ),
        ("No devices were found", 6, "the NVIDIA driver finds no GPU", "see whether there is one (lspci)"),
        ("", 0, "the NVIDIA driver finds no GPU", "see whether there is one (lspci)"),
    ],
    ids=["not loaded", "updated", "no card", "nothing"],
)
def test_a_driver_that_does_not_work(machine: Machine, said: str, status: int, cause: str, remedy: str) -> None:
    machine.env("COMPOSE_PROFILES=gpu")
    machine.program("nvidia-smi", said, status)
    line = machine.doctor()["GPU"]
    assert line["verdict"] == "failed"
    assert line["cause"].startswith(cause)
    assert line["remedy"].startswith(remedy)


def test_docker_cannot_give_a_gpu_away(machine: Machine) -> None:
    machine.env("COMPOSE_PROFILES=gpu")
    machine.program("nvidia-smi", L4)
    machine.program("docker", '{"io.containerd.runc.v2":{"path":"runc"},"runc":{"path":"runc"}}')
    verdict, cause, remedy = told(machine.doctor()["GPU in containers"])
    assert (verdict, cause) == ("failed", "NVIDIA's container toolkit is missing: no container gets a GPU")
    assert "nvidia-ctk runtime configure --runtime=docker" in remedy


def test_docker_does_not_run(machine: Machine) -> None:
    machine.env("COMPOSE_PROFILES=gpu")
    machine.program("nvidia-smi", L4)
    machine.program("docker", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", 1)
    verdict, cause, remedy = told(machine.doctor()["GPU in containers"])
    assert verdict == "failed"
    assert cause.startswith("docker does not answer: Cannot connect to the Docker daemon")
    assert "systemctl start docker" in remedy


def test_a_gpu_box_that_is_as_it_should_be(machine: Machine) -> None:
    machine.env("# a comment", "COMPOSE_PROFILES=gpu", "HF_TOKEN=hf_x")
    machine.program("nvidia-smi", L4)
    machine.program("docker", '{"nvidia":{"path":"nvidia-container-runtime"},"runc":{"path":"runc"}}')
    report = machine.doctor()
    assert {line["verdict"] for line in report.values()} == {"ok"}, report
    assert report["GPU"]["cause"] == "GPU 0 (NVIDIA L4), 23.7 GB free"
    assert report["memory of GPU 0"]["cause"] == "vllm 15.0 GB, chatterbox 5.0 GB, whisper 3.0 GB, of 24.2 GB"
    assert report[f"model {VLLM}"]["cause"] == "0.0 GB, and the hub gives it to us"


# --------------------------------------------------------------------------------------- memory


def gpu_box(machine: Machine, cards: str, *variables: str) -> dict[str, dict[str, str]]:
    """The doctor's report of a sound box with these cards and variables."""
    machine.env("COMPOSE_PROFILES=gpu", *variables)
    machine.program("nvidia-smi", cards)
    machine.program("docker", '{"nvidia":{}}')
    return machine.doctor()


def test_a_card_that_is_too_small_for_all_three(machine: Machine) -> None:
    verdict, cause, remedy = told(gpu_box(machine, "0, NVIDIA T4, 15360, 15000")["memory of GPU 0"])
    assert verdict == "failed"
    parts = "vllm 10.0 GB, chatterbox 5.0 GB, whisper 3.0 GB"
    assert cause == f"{parts} are 18.0 GB together, and GPU 0 (NVIDIA T4) has 16.1 GB"
    assert remedy.startswith("lower VLLM_MEMORY in .env, or give them GPUs of their own (VLLM_GPU,")


def test_three_cards_have_room_for_more(machine: Machine) -> None:
    cards = "\n".join(f"{index}, NVIDIA L4, 23034, 22563" for index in range(3))
    report = gpu_box(machine, cards, "VLLM_MEMORY=0.90", "VLLM_GPU=0", "CHATTERBOX_GPU=1", "WHISPER_GPU=2")
    assert {line["verdict"] for line in report.values()} == {"ok"}
    assert report["memory of GPU 0"]["cause"] == "vllm 21.7 GB, of 24.2 GB"
    assert report["memory of GPU 2"]["cause"] == "whisper 3.0 GB, of 24.2 GB"


def test_a_card_that_is_not_there(machine: Machine) -> None:
    verdict, cause, remedy = told(gpu_box(machine, L4, "WHISPER_GPU=2")["GPU memory"])
    assert (verdict, cause) == ("failed", "WHISPER_GPU is 2, and there is GPU 0 (NVIDIA L4)")
    assert remedy == "set WHISPER_GPU in .env to one of: 0"


def test_a_model_that_is_larger_than_its_share(machine: Machine) -> None:
    """The hub tells how large it is before it is fetched."""
    report = gpu_box(machine, "0, Tiny, 2000, 2000", "VLLM_MEMORY=0.001")
    verdict, cause, remedy = told(report["GPU memory"])
    assert verdict == "failed"
    assert cause == f"vLLM may take 0.0 GB, and {VLLM} needs 0.0 GB for its weights and some 3 GB beside them"
    assert "smaller VLLM_MODEL (FP8, AWQ)" in remedy


def test_too_little_memory_for_models_on_the_cpu(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        8000000 kB\nMemFree:          100000 kB\nMemAvailable:    2000000 kB\n")
    (line,) = check_memory(4_000_000_000, meminfo)
    assert line == Finding(
        "memory",
        Verdict.FAILED,
        "models need some 4.0 GB, and 2.0 GB are free",
        "choose smaller models, end other programs, or let a service on another machine do the work",
    )
    assert [line.verdict for line in check_memory(1_000_000_000, meminfo)] == [Verdict.OK]


def test_the_models_of_profile_cpu_are_counted(machine: Machine) -> None:
    machine.env("COMPOSE_PROFILES=cpu")
    report = machine.doctor()
    assert {f"model {name}" for name in (LLAMA, CHATTERBOX.repository, WHISPER_CPU.repository)} <= report.keys()
    assert report["memory"]["cause"].startswith("models need some 0.0 GB, and ")
    assert "GPU" not in report


# --------------------------------------------------------------------------------------- models


def test_a_gated_model_without_a_token(machine: Machine, hub: FakeHub) -> None:
    hub.gated = frozenset({VLLM})
    verdict, cause, remedy = told(gpu_box(machine, L4)[f"model {VLLM}"])
    assert (verdict, cause) == ("failed", f"the model {VLLM} is gated, and there is no HF_TOKEN")
    assert f"accept its licence at {hub.endpoint}/{VLLM}" in remedy
    assert "HF_TOKEN" in remedy


def test_the_token_is_that_of_the_env_file(machine: Machine, hub: FakeHub) -> None:
    hub.gated, hub.token = frozenset({VLLM}), "hf_right"
    machine.env("COMPOSE_PROFILES=gpu", 'HF_TOKEN="hf_right"')
    assert machine.doctor()[f"model {VLLM}"]["verdict"] == "ok"


def test_a_model_of_an_engine_that_was_not_fetched_yet(machine: Machine, hub: FakeHub) -> None:
    """The doctor does not fetch it: that may take an hour."""
    report = machine.doctor(whisper(model="base.en", download="true"))
    assert told(report["stt faster-whisper (desk)"]) == (
        "failed",
        "the model Systran/faster-whisper-base.en was not fetched yet",
        "run `voxtrunk models fetch`",
    )
    assert report["model Systran/faster-whisper-base.en"]["cause"] == "its 0.0 GB were not fetched yet"
    assert hub.elsewhere == []
    hub.gated = frozenset({"Systran/faster-whisper-base.en"})
    line = machine.doctor(whisper(model="base.en"))["model Systran/faster-whisper-base.en"]
    assert line["cause"].endswith("is gated, and there is no HF_TOKEN")


def test_a_model_that_is_there(machine: Machine, hub: FakeHub, tmp_path: Path) -> None:
    model = hub_model("base.en")
    assert model is not None
    hub_client.fetch(model, tmp_path, hub=Hub(hub.endpoint))
    line = machine.doctor(whisper(model="base.en"), models=tmp_path)["model Systran/faster-whisper-base.en"]
    assert told(line) == ("ok", "it is there", "")


def test_a_hub_that_cannot_be_asked_spoils_nothing_that_compose_has_in_its_volume(
    machine: Machine, hub: FakeHub
) -> None:
    machine.env("COMPOSE_PROFILES=gpu", "HF_ENDPOINT=http://127.0.0.1:9")
    machine.environment["HF_ENDPOINT"] = ""
    machine.program("nvidia-smi", L4)
    machine.program("docker", '{"nvidia":{}}')
    line = machine.doctor()[f"model {VLLM}"]
    assert line["verdict"] == "skipped"
    assert line["cause"].startswith("no connection to http://127.0.0.1:9: ")


# --------------------------------------------------------------------------------------- services


async def test_another_program_has_the_port_of_an_engine(machine: Machine) -> None:
    """It answers, but not as an engine would: its name is told."""
    async with OpenAIServer() as server:
        server.garbage = ("text/html", b"<html>It works!</html>")
        flavor = whisper(model=machine.folder).replace(
            "llm: {engine: intents, intents: [{name: hello, phrases: [hello], replies: Hi.}]}",
            f"llm: {{engine: openai-chat, base_url: '{server.base_url}', model: llama, retries: 0}}",
        )
        report = await asyncio.to_thread(machine.doctor, flavor)
    line = report["llm openai-chat (desk)"]
    port = server.base_url.rpartition(":")[2].partition("/")[0]
    assert line["verdict"] == "failed"
    assert f"; TCP port {port} belongs to " in line["cause"]
    assert line["remedy"] == "where that is another program, stop it, or give the service another port"


async def test_an_engine_that_fails_is_a_warning_where_its_successor_works(machine: Machine) -> None:
    service = "engine: openai-chat, model: test-model, retries: 0, base_url"
    async with OpenAIServer() as server:
        flavor = whisper(model=machine.folder).replace(
            "llm: {engine: intents, intents: [{name: hello, phrases: [hello], replies: Hi.}]}",
            f"llm: [{{{service}: 'http://127.0.0.1:9/v1'}}, {{{service}: '{server.base_url}'}}]",
        )
        report = await asyncio.to_thread(machine.report, flavor)
    first, second = (line for line in report if line["check"].startswith("llm"))
    assert first["verdict"] == "warning"
    assert first["cause"].startswith("no connection to http://127.0.0.1:9/v1: ")
    assert told(second) == ("ok", "started and ready", "")


def test_what_compose_reads_is_what_the_doctor_reads(tmp_path: Path) -> None:
    lines = ("VLLM_GPU=1  # the second", "VLLM_MEMORY=", "#WHISPER_GPU=7", "COMPOSE_PROFILES=gpu, extra")
    (tmp_path / ".env").write_text("\n".join(lines))
    box = ComposeBox.of(tmp_path, {"CHATTERBOX_GPU": "2"})
    assert box.profiles == {"gpu", "extra"}
    wanted = {"VLLM_GPU": "1", "VLLM_MEMORY": "0.62", "WHISPER_GPU": "0", "CHATTERBOX_GPU": "2"}
    assert box.variables.items() >= wanted.items()
    assert ComposeBox.of(tmp_path, {"VOXTRUNK_CONTAINER": "1"}).profiles == frozenset()


def test_two_profiles_fetch_what_they_share_once() -> None:
    box = ComposeBox(frozenset({"gpu", "cpu"}), COMPOSE_DEFAULTS)
    assert [model.repository for model in box.models] == [
        VLLM,
        CHATTERBOX.repository,
        WHISPER.repository,
        LLAMA,
        WHISPER_CPU.repository,
    ]
    assert all(isinstance(model, HubModel) for model in box.models)
