"""Checks of a GPU box: driver, container toolkit, models of the hub, memory.

What the engines of this process ask for is in their options. What compose.yml runs beside it, by its profiles `gpu` and
`cpu`, is in `.env` beside voxtrunk.yml.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from connector.cli.doctor.engines import FETCH, EngineInUse
from connector.cli.doctor.findings import Finding, Verdict
from connector.cli.doctor.machine import PROC
from connector.config import hub
from connector.config.hub import Hub
from connector.config.model import Settings
from connector.errors import HubUnreachable, ModelFetchError
from connector.interfaces import HubModel

QUERY = ("nvidia-smi", "--query-gpu=index,name,memory.total,memory.free", "--format=csv,noheader,nounits")
"""Prints a line for each GPU, memory in MiB: `0, NVIDIA L4, 23034, 22563`."""

CONTAINED = "VOXTRUNK_CONTAINER"
"""Environment variable that the image of voxtrunk sets: the box is another machine then, seen from there."""

COMPOSE_DEFAULTS: Mapping[str, str] = {
    "VLLM_MODEL": "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8",
    "LLAMA_MODEL": "bartowski/Llama-3.2-3B-Instruct-GGUF",
    "LLAMA_FILE": "Llama-3.2-3B-Instruct-Q4_K_M.gguf",
    "VLLM_MEMORY": "0.62",
    "VLLM_GPU": "0",
    "CHATTERBOX_GPU": "0",
    "WHISPER_GPU": "0",
}
"""What compose.yml takes where `.env` does not say."""

VLLM_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja")
CHATTERBOX = HubModel("ResembleAI/chatterbox-turbo", ("*.safetensors", "*.json", "*.txt", "*.pt", "*.model"))
WHISPER = HubModel("mobiuslabsgmbh/faster-whisper-large-v3-turbo")
WHISPER_CPU = HubModel("Systran/faster-whisper-base.en")
"""What compose.yml fetches."""

SPEECH_GB = {"CHATTERBOX_GPU": 5.0, "WHISPER_GPU": 3.0}
"""GPU memory that the services of speech take, in GB, by the variable that gives them a GPU: estimates for Chatterbox
Turbo and Whisper large-v3-turbo, with the numbers of streams and utterances of compose.yml (docs/gpu-box.md)."""
VLLM_BESIDE_WEIGHTS_GB = 3.0
"""What vLLM needs beside the weights, in GB: activations, CUDA graphs, and a cache for a few calls."""
BESIDE_FILES = 1.25
"""Memory that a model takes in a process, in sizes of its files."""

DRIVER = "install NVIDIA's driver (apt-get install nvidia-driver), or choose device: cpu or compose's profile cpu"
TOOLKIT = "install NVIDIA's container toolkit, then: nvidia-ctk runtime configure --runtime=docker, restart docker"

_SECONDS = 15.0
"""How long a program may take to answer; nvidia-smi takes seconds where the driver has to be loaded."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that the driver knows. `total`, `free`: memory in bytes."""

    index: str
    name: str
    total: int
    free: int

    def __str__(self) -> str:
        return f"GPU {self.index} ({self.name})"


@dataclass(frozen=True, slots=True)
class ComposeBox:
    """What compose.yml runs on this machine. `profiles`: such as `gpu`; `variables`: those that it reads."""

    profiles: frozenset[str]
    variables: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, environ: Mapping[str, str] = os.environ) -> ComposeBox:
        """By `.env` in `folder`, and the environment, which wins, as with compose; nothing within a container."""
        told = dict(COMPOSE_DEFAULTS)
        if environ.get(CONTAINED):
            return cls(frozenset(), told)
        try:
            lines = (folder / ".env").read_text().splitlines()
        except OSError:
            lines = []
        for line in lines:
            name, _, value = line.partition(" #")[0].partition("=")
            if value.strip() and not name.lstrip().startswith("#"):
                told[name.strip()] = value.strip().strip("'\"")
        told |= {name: value for name, value in environ.items() if value}
        profiles = (name.strip() for name in told.get("COMPOSE_PROFILES", "").split(","))
        return cls(frozenset(filter(None, profiles)), told)

    @property
    def models(self) -> Sequence[HubModel]:
        """What the services of its profiles fetch."""
        found: list[HubModel] = []
        if "gpu" in self.profiles:
            found += [HubModel(self.variables["VLLM_MODEL"], VLLM_FILES), CHATTERBOX, WHISPER]
        if "cpu" in self.profiles:
            llama = HubModel(self.variables["LLAMA_MODEL"], (self.variables["LLAMA_FILE"],))
            found += [llama, CHATTERBOX, WHISPER_CPU]
        return list(dict.fromkeys(found))


def check_gpu_box(settings: Settings, used: Sequence[EngineInUse]) -> Iterator[Finding]:
    """What engines and compose's profiles ask of this machine; nothing where they ask for nothing."""
    yield from check_hub_models(models_of(used), settings.models)
    on_gpu = [engine for engine in used if engine.descriptor.device(engine.choice.options) == "cuda"]
    beside = models_of(engine for engine in used if engine not in on_gpu)
    box = ComposeBox.of(settings.file.parent)
    sizes: dict[HubModel, int] = {}
    for model in box.models:
        found, sizes[model] = check_compose_model(model, box)
        yield found
    if on_gpu or "gpu" in box.profiles:
        yield from _check_gpus(settings, box, on_gpu, sizes)
    needed = round(BESIDE_FILES * sum(hub.size(model, settings.models) for model in beside))
    if "cpu" in box.profiles:
        needed += round(BESIDE_FILES * sum(sizes.values()))
    if needed:
        yield from check_memory(needed)


def _check_gpus(
    settings: Settings, box: ComposeBox, on_gpu: Sequence[EngineInUse], sizes: Mapping[HubModel, int]
) -> Iterator[Finding]:
    found = gpus()
    if isinstance(found, Finding):
        yield found
        return
    yield Finding("GPU", Verdict.OK, ", ".join(f"{gpu}, {gpu.free / 1e9:.1f} GB free" for gpu in found))
    if "gpu" in box.profiles:
        yield check_toolkit()
        yield from check_shares(box, found, sizes)
    needed = round(BESIDE_FILES * sum(hub.size(model, settings.models) for model in models_of(on_gpu)))
    most = max(gpu.free for gpu in found)
    if needed > most:
        yield Finding(
            "GPU memory",
            Verdict.FAILED,
            f"{', '.join(engine.check for engine in on_gpu)}: some {needed / 1e9:.1f} GB are needed, and "
            f"{most / 1e9:.1f} GB are free",
            "choose a smaller model or compute_type: int8, or end what else is on the GPU (nvidia-smi)",
        )


# --------------------------------------------------------------------------------------- driver and containers


def gpus() -> list[Gpu] | Finding:
    """The machine's GPUs; why they cannot be used where they cannot."""
    said = _said(QUERY)
    if said is None:
        return Finding("GPU", Verdict.FAILED, "nvidia-smi is not installed: this machine has no NVIDIA driver", DRIVER)
    status, text = said
    if status == 0 and (found := [gpu for line in text.splitlines() if (gpu := _gpu(line)) is not None]):
        return found
    cause = " ".join(text.split()) or f"exit status {status}"
    if "mismatch" in cause:  # of the library with the module that is still loaded
        return Finding("GPU", Verdict.FAILED, f"nvidia-smi: {cause}", "the driver was updated: reboot")
    if status == 0 or "No devices" in cause:
        return Finding(
            "GPU",
            Verdict.FAILED,
            "the NVIDIA driver finds no GPU",
            "see whether there is one (lspci), and whether a virtual machine was given it",
        )
    remedy = f"modprobe nvidia, or reboot after an update of the kernel (dkms status tells); else {DRIVER}"
    return Finding("GPU", Verdict.FAILED, f"nvidia-smi: {cause}", remedy)


def check_toolkit() -> Finding:
    """Can Docker give a GPU to a container?"""
    check = "GPU in containers"
    said = _said(("docker", "info", "--format", "{{json .Runtimes}}"))
    if said is None:
        return Finding(check, Verdict.FAILED, "docker is not installed", "see https://docs.docker.com/engine/install/")
    status, text = said
    if status:
        remedy = "start it (systemctl start docker), or run this as a user who may use it"
        return Finding(check, Verdict.FAILED, f"docker does not answer: {' '.join(text.split())}", remedy)
    if '"nvidia"' in text or shutil.which("nvidia-container-runtime-hook") is not None:
        return Finding(check, Verdict.OK, "NVIDIA's container toolkit is installed")
    return Finding(check, Verdict.FAILED, "NVIDIA's container toolkit is missing: no container gets a GPU", TOOLKIT)


def _said(command: Sequence[str]) -> tuple[int, str] | None:
    """Exit status and output of a program; None where it is not installed."""
    nothing = subprocess.DEVNULL
    try:
        done = subprocess.run(
            command, stdin=nothing, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except FileNotFoundError:
        return None
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr


def _gpu(line: str) -> Gpu | None:
    """The GPU of a line of `QUERY`; None where it has none, or one whose memory the driver does not tell."""
    columns = [column.strip() for column in line.split(",")]
    if len(columns) != 4 or not (columns[2].isdecimal() and columns[3].isdecimal()):
        return None
    return Gpu(columns[0], columns[1], int(columns[2]) * 1024**2, int(columns[3]) * 1024**2)


# --------------------------------------------------------------------------------------- models


def models_of(used: Iterable[EngineInUse]) -> Sequence[HubModel]:
    """The models of the hub that engines need, each once."""
    return list(dict.fromkeys(model for engine in used for model in engine.descriptor.hub(engine.choice.options)))


def check_hub_models(models: Sequence[HubModel], folder: Path) -> Iterator[Finding]:
    """Are they there, and if not, would the hub give them to us? Whether it matters, the engine's own check tells."""
    for model in models:
        if hub.is_had(model, folder):
            yield Finding(f"model {model.repository}", Verdict.OK, "it is there")
            continue
        found, size = _ask_hub(model, Hub.of())
        if found.verdict is Verdict.OK:
            found = replace(found, cause=f"its {size / 1e9:.1f} GB were not fetched yet", remedy=FETCH)
        yield replace(found, verdict=Verdict.WARNING)


def check_compose_model(model: HubModel, box: ComposeBox) -> tuple[Finding, int]:
    """Would the hub give it to compose's services, which keep it in a volume of theirs? With its size in bytes."""
    found, size = _ask_hub(model, Hub.of({**os.environ, **box.variables}))
    if found.verdict is Verdict.SKIPPED:
        found = replace(found, remedy="nothing, where `docker compose run --rm weights` has fetched it already")
    return found, size


def _ask_hub(model: HubModel, asked: Hub) -> tuple[Finding, int]:
    """Whether it gives us the model, skipped where it cannot be asked; the model's size in bytes."""
    check = f"model {model.repository}"
    try:
        size = hub.check_access(model, asked)
    except HubUnreachable as error:
        return Finding(check, Verdict.SKIPPED, error.cause, error.remedy), 0
    except ModelFetchError as error:
        return Finding(check, Verdict.FAILED, error.cause, error.remedy), 0
    return Finding(check, Verdict.OK, f"{size / 1e9:.1f} GB, and the hub gives it to us"), size


# --------------------------------------------------------------------------------------- memory


def check_shares(box: ComposeBox, found: Sequence[Gpu], sizes: Mapping[HubModel, int]) -> Iterator[Finding]:
    """Do the services of compose's profile `gpu` fit on the GPUs that `.env` gives them? `sizes`: of models, bytes."""
    by_index = {gpu.index: gpu for gpu in found}
    shares: dict[str, dict[str, float]] = defaultdict(dict)
    for variable in ("VLLM_GPU", *SPEECH_GB):
        gpu = by_index.get(box.variables[variable])
        if gpu is None:
            cause = f"{variable} is {box.variables[variable]}, and there is {', '.join(map(str, found))}"
            yield Finding(
                "GPU memory", Verdict.FAILED, cause, f"set {variable} in .env to one of: {', '.join(by_index)}"
            )
            return
        shares[gpu.index][variable.partition("_")[0].lower()] = SPEECH_GB.get(variable, _share(box) * gpu.total / 1e9)
    for index, wanted in shares.items():
        yield _check_share(by_index[index], wanted)
    weights = sizes.get(HubModel(box.variables["VLLM_MODEL"], VLLM_FILES), 0) / 1e9
    share = shares[box.variables["VLLM_GPU"]]["vllm"]
    if weights and share < weights + VLLM_BESIDE_WEIGHTS_GB:
        yield Finding(
            "GPU memory",
            Verdict.FAILED,
            f"vLLM may take {share:.1f} GB, and {box.variables['VLLM_MODEL']} needs {weights:.1f} GB for its weights "
            f"and some {VLLM_BESIDE_WEIGHTS_GB:.0f} GB beside them",
            "raise VLLM_MEMORY, give it a GPU of its own (VLLM_GPU), or choose a smaller VLLM_MODEL (FP8, AWQ)",
        )


def _share(box: ComposeBox) -> float:
    try:
        return float(box.variables["VLLM_MEMORY"])
    except ValueError:
        return 1.0


def _check_share(gpu: Gpu, wanted: Mapping[str, float]) -> Finding:
    parts = ", ".join(f"{name} {size:.1f} GB" for name, size in wanted.items())
    total, needed = gpu.total / 1e9, sum(wanted.values())
    if needed <= total:
        return Finding(f"memory of GPU {gpu.index}", Verdict.OK, f"{parts}, of {total:.1f} GB")
    return Finding(
        f"memory of GPU {gpu.index}",
        Verdict.FAILED,
        f"{parts} are {needed:.1f} GB together, and {gpu} has {total:.1f} GB",
        "lower VLLM_MEMORY in .env, or give them GPUs of their own (VLLM_GPU, CHATTERBOX_GPU, WHISPER_GPU)",
    )


def check_memory(needed: int, meminfo: Path = PROC / "meminfo") -> Iterator[Finding]:
    """Does this machine's memory hold the models that are computed on its CPU, of `needed` bytes?"""
    available = _available(meminfo)
    if available is None:
        return
    told = f"models need some {needed / 1e9:.1f} GB, and {available / 1e9:.1f} GB are free"
    if needed <= available:
        yield Finding("memory", Verdict.OK, told)
    else:
        remedy = "choose smaller models, end other programs, or let a service on another machine do the work"
        yield Finding("memory", Verdict.FAILED, told, remedy)


def _available(meminfo: Path) -> int | None:
    """Bytes that programs may still take (Linux Documentation/filesystems/proc.rst); None where it does not tell."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    told = next((line.split() for line in lines if line.startswith("MemAvailable:")), None)
    return int(told[1]) * 1024 if told is not None else None
