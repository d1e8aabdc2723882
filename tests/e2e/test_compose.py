"""compose.yml and the Dockerfiles, as far as no registry is needed: they fit each other, the code and the page."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from connector.cli import app
from connector.cli.doctor.gpu import COMPOSE_DEFAULTS, ComposeBox
from connector.cli.doctor.softswitch import MODULE_PACKAGES
from connector.config import Surroundings, builtin_settings
from connector.config.hub import hub_model
from connector.config.model import EdgeSettings, OpenSipsSettings, PairSettings, RecordSettings, RtpengineSettings
from connector.stack.components import SHARED_MEGABYTES
from connector.stack.render import render, ua_folder, write
from connector.stack.scripts import FOLDERS, script
from docs.generate import ROOT
from flavors.engines._whisper_hub import hub_model as whisper_model

FILE = ROOT / "compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PAGE = (ROOT / "docs" / "containers.md").read_text()
ENGINE_DOCKERFILES = tuple(sorted((ROOT / "flavors" / "services").glob("*/Dockerfile")))
DOCKERFILES = (
    *(ROOT / "Dockerfile", ROOT / "opensips" / "Dockerfile", ROOT / "rtpengine" / "Dockerfile"),
    *ENGINE_DOCKERFILES,
)

FIRST_OF = {None: "render", "gpu": "weights", "cpu": "weights-cpu"}
"""What does its work before the others start, and ends, by profile."""
FIRST = set(FIRST_OF.values())

each_service = pytest.mark.parametrize("name", SERVICES)
each_dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))


# --------------------------------------------------------------------------------------- compose itself


@cache
def compose() -> tuple[str, ...] | None:
    """The command of Compose v2; None where there is none."""
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, text=True, check=False)
            if done.returncode == 0 and re.search(r"version v?2\.", done.stdout):
                return command
    return None


def overrides() -> Mapping[str, str]:
    """The files compose.override.yml of the page, by name."""
    return dict(re.findall(r"<!-- compose: (\w+) -->\n```yaml\n(.*?)```", PAGE, re.S))


@pytest.mark.skipif(compose() is None, reason="Compose v2 is not installed")
@pytest.mark.parametrize("override", ["", *overrides()], ids=lambda name: name or "alone")
def test_compose_takes_it(override: str, tmp_path: Path) -> None:
    """Alone and with each addition of the page; it names what it does not know."""
    shutil.copy(FILE, tmp_path)
    if override:
        (tmp_path / "compose.override.yml").write_text(overrides()[override])
    command = compose()
    assert command is not None
    environment = {name: value for name, value in os.environ.items() if name != "COMPOSE_FILE"}
    environment["COMPOSE_PROFILES"] = "gpu,cpu"
    done = subprocess.run(
        [*command, "config", "--quiet"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_page_has_additions() -> None:
    assert set(overrides()) == {"records", "pair"}


@each_service
def test_no_container_may_do_more_than_its_work(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["logging"]["options"].keys() >= {"max-size", "max-file"}


@each_service
def test_what_lasts_is_restarted_and_has_a_health_check(name: str) -> None:
    """And waits for what is written, or fetched, for it."""
    lasting = name not in FIRST
    assert SERVICES[name]["restart"] == ("unless-stopped" if lasting else "no")
    assert ("healthcheck" in SERVICES[name]) is lasting
    done = {"condition": "service_completed_successfully"}
    before = {one for one, condition in SERVICES[name].get("depends_on", {}).items() if condition == done}
    (profile,) = SERVICES[name].get("profiles", [None])
    assert before == ({FIRST_OF[profile]} if lasting else set())


def test_the_connector_stops_first() -> None:
    """Containers are stopped before those that they depend on: calls that may end still have what carries them."""
    connector = SERVICES["connector"]
    assert connector["depends_on"].keys() >= {"rtpengine", "edge", "ua"}
    drain = float(connector["command"][connector["command"].index("--drain") + 1])
    assert float(connector["stop_grace_period"].removesuffix("s")) > drain


# --------------------------------------------------------------------------------------- images


def ignored(path: str, dockerfile: Path) -> bool:
    """What .dockerignore says, or the Dockerfile's own: the last rule for a path or a folder above it decides."""
    verdict = False
    own = dockerfile.with_name("Dockerfile.dockerignore")
    lines = (own if own.exists() else ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    parts = path.split("/")
    above = ["/".join(parts[: index + 1]) for index in range(len(parts))]
    for rule in rules:
        pattern = rule.lstrip("!").removeprefix("**/")
        if any(fnmatch(folder, pattern) and "/" not in folder.removeprefix(pattern) for folder in above):
            verdict = not rule.startswith("!")
    return verdict


@each_dockerfile
def test_what_is_copied_is_there(dockerfile: Path) -> None:
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile.read_text(), re.M):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not ignored(source, dockerfile), source


@each_dockerfile
def test_the_base_is_chosen_by_an_argument(dockerfile: Path) -> None:
    """And compose.yml hands it on, with the same default."""
    text = dockerfile.read_text()
    (argument, default), *_ = re.findall(r"^ARG (\w+)=(.+)$", text, re.M)
    assert re.findall(r"^FROM (\S+)", text, re.M)[0] == f"${{{argument}}}"
    folder = str(dockerfile.relative_to(ROOT))
    built = [one["build"] for one in SERVICES.values() if "build" in one]
    builds = [build for build in built if build.get("dockerfile", "Dockerfile") == folder]
    assert builds
    for build in builds:
        assert build["args"][argument].endswith(f":-{default}}}")


@each_dockerfile
def test_no_image_runs_as_root(dockerfile: Path) -> None:
    assert re.findall(r"^USER (\w+)$", dockerfile.read_text(), re.M)[-1] != "root"


def test_ours_are_of_one_user_and_group() -> None:
    """So that one volume, or a folder of the machine, can belong to all of them."""
    for dockerfile in (DOCKERFILES[0], *ENGINE_DOCKERFILES):
        text = dockerfile.read_text()
        assert "groupadd --system --gid 10001 " in text
        assert "useradd --system --uid 10001 --gid 10001 " in text


def test_the_connector_can_be_stopped_while_it_starts() -> None:
    """The kernel gives the first process of a container no signal that it has no handler for, as Python at first."""
    assert 'ENTRYPOINT ["tini", "--", "voxtrunk"]' in DOCKERFILES[0].read_text()


def test_the_image_has_the_modules_that_the_scripts_load() -> None:
    loaded = {module for name in FOLDERS for module in re.findall(r'^loadmodule "(\w+)\.so"', script(name), re.M)}
    needed = {MODULE_PACKAGES[module] for module in loaded if module in MODULE_PACKAGES}
    (installed,) = re.findall(r"^ARG PACKAGES=(.*)$", DOCKERFILES[1].read_text(), re.M)
    assert set(installed.split()) == needed


def test_the_wheel_brings_the_scripts() -> None:
    """Without a checkout beside it, as in the image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = [pattern for group in project["tool"]["setuptools"]["data-files"].values() for pattern in group]
    brought = {path.relative_to(ROOT) for pattern in patterns for path in ROOT.glob(pattern)}
    assert brought == {Path(folder, name) for name, folder in FOLDERS.items()}


# --------------------------------------------------------------------------------------- commands and folders


def voxtrunk_lines() -> Mapping[str, list[str]]:
    """Every `voxtrunk` command line of compose.yml and of the page."""
    connectors = [one for one in SERVICES.values() if one["image"] == "voxtrunk"]
    lines = [one["command"] for one in connectors]
    tests = [one["healthcheck"]["test"] for one in connectors if "healthcheck" in one]
    lines += [test[test.index("voxtrunk") + 1 :] for test in tests]
    lines += [found.split() for found in re.findall(r"docker compose exec connector voxtrunk ([^`\n]+)", PAGE)]
    lines += [found.split() for found in re.findall(r"docker compose run [^`\n]*?(?:connector|render) ([^`\n]+)", PAGE)]
    return {" ".join(line): line for line in lines}


@pytest.mark.parametrize("line", voxtrunk_lines())
def test_commands_take_the_arguments(line: str) -> None:
    arguments = voxtrunk_lines()[line]
    first_option = next((index for index, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments[:first_option], "--help"])
    assert shown.exit_code == 0, shown.output
    for option in arguments[first_option:]:
        name = option.partition("=")[0]
        assert not name.startswith("-") or re.search(rf"(?<![\w-]){name}(?![\w-])", shown.output), name


def test_folders_are_those_of_the_configuration() -> None:
    """A voxtrunk.yml without folders works in containers: what it writes goes to volumes."""
    (home,) = re.findall(r"^WORKDIR (/srv\S*)$", DOCKERFILES[0].read_text(), re.M)
    run, records = f"{home}/{OpenSipsSettings().run}", f"{home}/{RecordSettings().directory}"
    targets = {name: mounted(service) for name, service in SERVICES.items()}
    assert targets["connector"].items() >= {f"{home}/voxtrunk.yml": "./voxtrunk.yml", records: "records"}.items()
    assert all(targets[name][run] == "run" for name in ("render", "rtpengine", "edge", "ua"))
    pair = PairSettings()
    assert SERVICES["edge"]["working_dir"] == run
    assert SERVICES["ua"]["working_dir"] == f"{run}/{ua_folder(pair)}"
    files = render(OpenSipsSettings())
    assert {"edge.cfg", "ua.cfg", "rtpengine.conf"} <= files.keys()
    assert SERVICES["edge"]["command"] == ["-f", "edge.cfg", "-m", str(SHARED_MEGABYTES)]
    assert SERVICES["ua"]["command"] == ["-f", "../ua.cfg", "-m", str(SHARED_MEGABYTES)]
    assert f"{run}/rtpengine.conf" in DOCKERFILES[2].read_text()


def mounted(service: Mapping[str, Any]) -> dict[str, str]:
    """Where what is mounted."""
    both = [volume.split(":")[:2] if isinstance(volume, str) else (volume["source"], volume["target"])
            for volume in service["volumes"]]  # fmt: skip
    return {target: source for source, target in both}


def test_variables_and_defaults_are_in_the_example() -> None:
    example = (ROOT / ".env.example").read_text()
    variables = re.findall(r"\$\{(\w+):?-([^}]+)\}", FILE.read_text())
    assert len(dict(variables)) == len(set(variables)), "one default each"
    assert dict(re.findall(r"^# (\w+)=(.+)$", example, re.M)) == dict(variables)
    assert set(re.findall(r"\$\{(\w+)-\}", FILE.read_text())) <= set(re.findall(r"^# (\w+)=$", example, re.M))


# --------------------------------------------------------------------------------------- engines


ENGINES = {name: one for name, one in SERVICES.items() if "profiles" in one and name not in FIRST}

each_engine = pytest.mark.parametrize("name", ENGINES)


def with_defaults(text: str) -> str:
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@each_engine
def test_engines_listen_on_this_machine_alone(name: str) -> None:
    """What has ports of its own that it tells nobody about has a network of its own, and loopback leads there."""
    engine = ENGINES[name]
    if engine["network_mode"] == "host":
        told = [*engine.get("command", []), *(f"{key}={value}" for key, value in engine.get("environment", {}).items())]
        (host,) = [one.partition("=")[2] for one in told if re.match(r"--host=|\w+_HOST=", one)]
        assert host == "127.0.0.1"
    else:
        assert engine["network_mode"] == "bridge"
        assert all(port.startswith("127.0.0.1:") for port in engine["ports"])


@pytest.mark.parametrize("profile", ["gpu", "cpu"])
def test_engines_are_where_the_flavor_local_looks_for_them(profile: str) -> None:
    """Ports and names, whichever profile it is."""
    flavor = builtin_settings(surroundings=Surroundings(variables={})).flavors["local"]
    wanted = {}
    for kind, first in flavor.rungs:
        if hasattr(first.options, "base_url") and "127.0.0.1" in first.options.base_url:
            wanted[kind.value] = re.findall(r":(\d+)/v1$", first.options.base_url)[0]
    tested = [str(one["healthcheck"]["test"]) for one in ENGINES.values() if one["profiles"] == [profile]]
    assert sorted(wanted.values()) == sorted(re.findall(r"127\.0\.0\.1:(\d+)", " ".join(tested)))
    assert flavor.llm is not None
    (llm,) = (one for one in ENGINES.values() if one["profiles"] == [profile] and "command" in one)
    named = f"={flavor.llm.options.model}"
    assert any(argument in (f"--alias{named}", f"--served-model-name{named}") for argument in llm["command"])


def test_the_doctor_knows_what_compose_runs() -> None:
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", FILE.read_text()))
    assert COMPOSE_DEFAULTS.items() <= defaults.items()
    for profile in ("gpu", "cpu"):
        fetched = [
            hub_model(with_defaults(argument).removeprefix("--hub="))
            for argument in SERVICES[FIRST_OF[profile]]["command"]
            if argument.startswith("--hub=")
        ]
        assert fetched == list(ComposeBox(frozenset({profile}), COMPOSE_DEFAULTS).models)


def test_engines_find_what_was_fetched() -> None:
    """In the volume that they share, at the place where `models fetch` puts it."""
    for name in FIRST - {"render"}:
        assert mounted(SERVICES[name]) == {"/opt/voxtrunk/models/hub": "models"}
    for engine in ENGINES.values():
        assert "models:/models/hub:ro" in engine["volumes"]
    for name, profile in (("vllm", "gpu"), ("llama", "cpu"), ("chatterbox", "gpu"), ("chatterbox-cpu", "cpu")):
        told = [*ENGINES[name].get("command", []), *map(str, ENGINES[name].get("environment", {}).values())]
        found = " ".join(map(with_defaults, told))
        models = ComposeBox(frozenset({profile}), COMPOSE_DEFAULTS).models
        assert any(str(model.folder(Path("/models"))) in found for model in models)
    for name in ("whisper", "whisper-cpu"):
        environment = ENGINES[name]["environment"]
        assert environment["WHISPER_MODELS"] == "/models"
        named = whisper_model(environment["WHISPER_MODEL"])
        (profile,) = ENGINES[name]["profiles"]
        fetched = ComposeBox(frozenset({profile}), COMPOSE_DEFAULTS).models
        assert named is not None
        assert named.repository in [model.repository for model in fetched]


@pytest.mark.parametrize("service", ["chatterbox", "whisper"])
def test_services_know_their_variables(service: str) -> None:
    """Each is a setting of theirs."""
    (settings,) = (ROOT / "flavors" / "services" / service).glob("*/settings.py")
    known = {f"{service}_{name}".upper() for name in re.findall(r"^    (\w+): ", settings.read_text(), re.M)}
    for name in (service, f"{service}-cpu"):
        assert ENGINES[name]["environment"].keys() <= known


@pytest.mark.parametrize("service", ["chatterbox", "whisper"])
def test_services_may_end_what_they_have_begun(service: str) -> None:
    """They are killed only after the time that they give it themselves."""
    (settings,) = (ROOT / "flavors" / "services" / service).glob("*/settings.py")
    (drain,) = re.findall(r"^    drain: .* = ([\d.]+)$", settings.read_text(), re.M)
    for name in (service, f"{service}-cpu"):
        assert float(ENGINES[name]["stop_grace_period"].removesuffix("s")) > float(drain)


def test_a_card_for_each_engine_is_a_matter_of_variables() -> None:
    cards = [
        device
        for engine in ENGINES.values()
        if "deploy" in engine
        for device in engine["deploy"]["resources"]["reservations"]["devices"]
    ]
    named = ["${VLLM_GPU:-0}", "${CHATTERBOX_GPU:-0}", "${WHISPER_GPU:-0}"]
    assert [card["device_ids"] for card in cards] == [[one] for one in named]
    assert all(card["driver"] == "nvidia" and card["capabilities"] == ["gpu"] for card in cards)


def test_every_service_is_on_the_page() -> None:
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.M)) == set(SERVICES)


# --------------------------------------------------------------------------------------- health checks


@contextmanager
def answering(question: bytes, answer: bytes) -> Iterator[str]:
    """ADDRESS:PORT where each datagram that holds `question` is given `answer`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        host, port = listening.getsockname()

        def work() -> None:
            while (received := listening.recvfrom(65536))[0] != STOP:
                if question in received[0]:
                    listening.sendto(answer, received[1])

        thread = Thread(target=work)
        thread.start()
        try:
            yield f"{host}:{port}"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stopping:
                stopping.sendto(STOP, (host, port))
            thread.join()


def healthy(probe: Path, *arguments: str, cwd: Path) -> bool:
    return (
        subprocess.run([str(probe), *arguments], cwd=cwd, capture_output=True, timeout=10, check=False).returncode == 0
    )


STOP = b"stop"
MI = (b'"method": "uptime"', b'{"jsonrpc":"2.0","result":{"Up time":"5 [sec]"},"id":1}')
NG = (b"health d7:command4:pinge", b"health d6:result4:ponge")


@pytest.mark.parametrize(
    ("answer", "well"), [(MI[1], True), (b'{"jsonrpc":"2.0","error":{"code":-32601},"id":1}', False)]
)
def test_opensips_is_well_where_it_answers(tmp_path: Path, answer: bytes, well: bool) -> None:
    """As edge and as UA: the probe goes by the files that they themselves read."""
    with answering(MI[0], answer) as mi:
        site = OpenSipsSettings(edge=EdgeSettings(mi=mi), pairs=(PairSettings(mi=mi),))
        write(tmp_path, render(site))
        for folder in (tmp_path, tmp_path / ua_folder(site.pairs[0])):
            assert healthy(ROOT / "opensips" / "health", cwd=folder) is well


@pytest.mark.parametrize(("answer", "well"), [(NG[1], True), (b"health d6:result5:errore", False)])
def test_rtpengine_is_well_where_it_answers(tmp_path: Path, answer: bytes, well: bool) -> None:
    with answering(NG[0], answer) as control:
        write(tmp_path, render(OpenSipsSettings(rtpengine=RtpengineSettings(control=control))))
        probe = ROOT / "rtpengine" / "health"
        assert healthy(probe, str(tmp_path / "rtpengine.conf"), cwd=tmp_path) is well


def test_who_is_not_there_is_not_well(tmp_path: Path) -> None:
    with answering(b"", b"") as free:
        pass
    site = OpenSipsSettings(edge=EdgeSettings(mi=free), rtpengine=RtpengineSettings(control=free))
    write(tmp_path, render(site))
    assert not healthy(ROOT / "opensips" / "health", cwd=tmp_path)
    assert not healthy(ROOT / "rtpengine" / "health", str(tmp_path / "rtpengine.conf"), cwd=tmp_path)


def test_health_checks_are_in_the_images() -> None:
    for name, dockerfile in (("edge", DOCKERFILES[1]), ("ua", DOCKERFILES[1]), ("rtpengine", DOCKERFILES[2])):
        program = SERVICES[name]["healthcheck"]["test"][1]
        assert f"COPY {dockerfile.parent.name}/health /usr/local/bin/{program}\n" in dockerfile.read_text()
        assert os.access(dockerfile.parent / "health", os.X_OK)
