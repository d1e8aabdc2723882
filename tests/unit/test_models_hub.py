"""Fetching models of the Hugging Face hub, from a server that answers as the hub does."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import subprocess
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event

import faster_whisper.utils
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from connector.audio import Audio
from connector.call.downloads import fetch_missing
from connector.cli import app
from connector.config import hub as hub_client
from connector.config.hub import RETRIES, Hub, check_access, hub_model, is_had, is_present
from connector.errors import ModelFetchError
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext, HubModel
from flavors.engines._whisper_hub import REPOSITORIES
from flavors.engines._whisper_hub import hub_model as whisper_model
from flavors.engines.faster_whisper import FasterWhisper, FasterWhisperOptions, descriptor
from tests.fakes import whisper
from tests.fakes.hub import FakeHub, serving

NAME = "acme/llama"
WEIGHTS = bytes(range(256)) * 20
FILES = {"config.json": b'{"layers": 2}', "sub/tokens.txt": b"a b c", "model.bin": WEIGHTS, "README.md": b""}
MODEL = HubModel(NAME, ("*.json", "sub/*", "model.bin"))

fetch = partial(hub_client.fetch, pause=lambda seconds: None)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving(FakeHub({NAME: dict(FILES)})) as hub:
        yield hub


def by(hub: FakeHub, token: str = "") -> Hub:
    return Hub(hub.endpoint, token)


def ranges(hub: FakeHub) -> list[str | None]:
    """What was asked of the large file, request by request."""
    return [headers.get("Range") for _, headers in hub.elsewhere]


def test_what_is_wanted_of_a_model_comes_and_nothing_else(hub: FakeHub, tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    assert not is_present(MODEL, tmp_path)
    assert fetch(MODEL, tmp_path, lambda done, total: steps.append((done, total)), by(hub))
    folder = tmp_path / "hub" / NAME
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    assert found == {name: content for name, content in FILES.items() if name != "README.md"}
    assert steps == sorted(steps)
    assert steps[-1] == (sum(map(len, found.values())),) * 2
    assert is_present(MODEL, tmp_path)


def test_what_is_there_is_left_alone_and_the_hub_not_asked(hub: FakeHub, tmp_path: Path) -> None:
    fetch(MODEL, tmp_path, hub=by(hub))
    hub.asked.clear()
    hub.commit = "5ea1ed"
    assert not fetch(MODEL, tmp_path, hub=by(hub))
    assert hub.asked == []


def test_a_connection_that_breaks_is_taken_up_where_it_ended(hub: FakeHub, tmp_path: Path) -> None:
    hub.breaks = deque([2000, 1000])
    assert fetch(MODEL, tmp_path, hub=by(hub))
    assert ranges(hub) == [None, "bytes=2000-", "bytes=3000-"]
    assert (tmp_path / "hub" / NAME / "model.bin").read_bytes() == WEIGHTS


def test_another_process_goes_on_where_one_was_ended(hub: FakeHub, tmp_path: Path) -> None:
    """Files that were whole are not asked for again."""
    hub.breaks = deque([3000, *[0] * (RETRIES + 1)])
    with pytest.raises(ModelFetchError, match=r"model\.bin broke off after 3000 of 5120 bytes: .*: run it again"):
        fetch(MODEL, tmp_path, hub=by(hub))
    assert not is_present(MODEL, tmp_path)
    hub.asked.clear()
    hub.elsewhere.clear()
    steps: list[int] = []
    assert fetch(MODEL, tmp_path, lambda done, total: steps.append(done), by(hub))
    assert ranges(hub) == ["bytes=3000-"]
    assert not any("config.json" in path for path, _ in hub.asked)
    assert (tmp_path / "hub" / NAME / "model.bin").read_bytes() == WEIGHTS
    assert steps[-1] == len(WEIGHTS) + len(FILES["config.json"]) + len(FILES["sub/tokens.txt"])


def test_a_server_without_ranges_sends_all_of_it_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.ranges = False
    hub.breaks = deque([2000])
    fetch(MODEL, tmp_path, hub=by(hub))
    assert (tmp_path / "hub" / NAME / "model.bin").read_bytes() == WEIGHTS


def test_attempts_are_made_at_growing_distances(hub: FakeHub, tmp_path: Path) -> None:
    hub.breaks = deque([0] * (RETRIES + 1))
    pauses: list[float] = []
    with pytest.raises(ModelFetchError, match="broke off after 0 of 5120 bytes"):
        hub_client.fetch(MODEL, tmp_path, hub=by(hub), pause=pauses.append)
    assert pauses == [2, 4, 8, 16, 32]


def test_encryption_that_breaks_is_no_fault_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is any other error of the system's that comes from the network."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -subj /CN=hub -days 2"
    extensions = ("subjectAltName=IP:127.0.0.1", "keyUsage=critical,digitalSignature,keyCertSign")
    try:
        subprocess.run(
            [*command.split(), *(f"-addext={each}" for each in extensions), "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("a certificate is made by openssl")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(FakeHub({NAME: dict(FILES)}, tls=tls, breaks=deque([2000]))) as hub:
        assert fetch(MODEL, tmp_path, hub=by(hub))
        assert len(hub.elsewhere) == 2
        assert (tmp_path / "hub" / NAME / "model.bin").read_bytes() == WEIGHTS
        hub.breaks, hub.commit = deque([2000] * (RETRIES + 1)), "5ea1ed"
        (tmp_path / "hub" / NAME / "model.bin").unlink()
        with pytest.raises(ModelFetchError, match=r"model\.bin broke off after .*: run it again"):
            fetch(MODEL, tmp_path, hub=by(hub))


def test_a_new_revision_is_never_mixed_with_an_old_one(hub: FakeHub, tmp_path: Path) -> None:
    hub.breaks = deque([3000, *[0] * (RETRIES + 1)])
    with pytest.raises(ModelFetchError):
        fetch(MODEL, tmp_path, hub=by(hub))
    hub.models[NAME]["model.bin"] = WEIGHTS[::-1]
    hub.elsewhere.clear()
    fetch(MODEL, tmp_path, hub=by(hub))
    assert ranges(hub) == [None]
    assert (tmp_path / "hub" / NAME / "model.bin").read_bytes() == WEIGHTS[::-1]
    assert not list((tmp_path / "hub" / NAME).glob("*.part")), "nor does it leave anything behind"


def test_files_that_a_new_revision_lacks_are_removed(hub: FakeHub, tmp_path: Path) -> None:
    """Where more is wanted of a model that has moved on: engines take whatever is there."""
    fetch(HubModel(NAME, ("*.bin",)), tmp_path, hub=by(hub))
    hub.models[NAME]["model-1.bin"] = hub.models[NAME].pop("model.bin")
    wider = HubModel(NAME, ("*.bin", "*.json"))
    assert fetch(wider, tmp_path, hub=by(hub))
    folder = tmp_path / "hub" / NAME
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == ["config.json", "model-1.bin"]
    assert is_present(wider, tmp_path)


def test_content_with_the_wrong_hash_is_not_kept(hub: FakeHub, tmp_path: Path) -> None:
    part = tmp_path / "hub" / NAME
    hub.breaks = deque([3000, *[0] * (RETRIES + 1)])
    with pytest.raises(ModelFetchError):
        fetch(MODEL, tmp_path, hub=by(hub))
    (grown,) = part.glob("model.bin.*.part")
    grown.write_bytes(bytes(3000))
    with pytest.raises(ModelFetchError, match=r"model\.bin has the wrong hash and was not kept"):
        fetch(MODEL, tmp_path, hub=by(hub))
    assert not list(part.glob("model.bin*"))
    assert fetch(MODEL, tmp_path, hub=by(hub)), "and then it comes whole"


def test_a_file_that_was_removed_is_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    fetch(MODEL, tmp_path, hub=by(hub))
    (tmp_path / "hub" / NAME / "model.bin").unlink()
    assert not is_present(MODEL, tmp_path)
    assert fetch(MODEL, tmp_path, hub=by(hub))
    assert is_present(MODEL, tmp_path)


def test_files_that_were_copied_are_as_good(tmp_path: Path) -> None:
    """On a machine without a way out nobody could fetch them."""
    folder = tmp_path / "hub" / NAME
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_bytes(FILES["config.json"])
    assert not is_present(MODEL, tmp_path), "the weights are missing"
    (folder / "model.bin.c0ffee.part").write_bytes(WEIGHTS)
    (folder / "model.bin").write_bytes(WEIGHTS)
    assert not is_present(MODEL, tmp_path), "it is being fetched"
    (folder / "model.bin.c0ffee.part").unlink()
    assert is_present(MODEL, tmp_path)
    assert not fetch(MODEL, tmp_path, hub=Hub("http://127.0.0.1:9"))


def test_more_of_the_same_model(hub: FakeHub, tmp_path: Path) -> None:
    fetch(HubModel(NAME, ("model.bin",)), tmp_path, hub=by(hub))
    hub.elsewhere.clear()
    assert fetch(HubModel(NAME, ("config.json",)), tmp_path, hub=by(hub))
    assert hub.elsewhere == [], "what is there stays"
    assert is_present(HubModel(NAME, ("config.json", "model.bin")), tmp_path)


def test_what_is_whole_stays_so_while_more_of_the_model_is_fetched_in_vain(hub: FakeHub, tmp_path: Path) -> None:
    """Another engine may take it meanwhile."""
    weights, words = HubModel(NAME, ("model.bin",)), HubModel(NAME, ("vocabulary.txt",))
    hub.models[NAME]["vocabulary.txt"] = bytes(2000)
    fetch(weights, tmp_path, hub=by(hub))
    hub.refusal = 400
    with pytest.raises(ModelFetchError):
        fetch(words, tmp_path, hub=by(hub))
    assert is_present(weights, tmp_path)
    hub.models[NAME]["model.bin"] = WEIGHTS[::-1]
    with pytest.raises(ModelFetchError):
        fetch(words, tmp_path, hub=by(hub))
    assert not is_present(weights, tmp_path), "it is being replaced"


def test_a_fetch_that_brought_nothing_leaves_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFetchError):
        fetch(HubModel(NAME), tmp_path, hub=Hub("http://127.0.0.1:9"))
    assert not is_present(HubModel(NAME), tmp_path)


@pytest.mark.parametrize("files", [("*",), ("*.bin",), ("model.bin",), ("model.bin", "vocabulary.*")])
def test_a_model_in_the_cache_of_the_hubs_own_tools(tmp_path: Path, files: tuple[str, ...]) -> None:
    """They make the folder first, and may be ended before a file is in it."""
    model, environ = HubModel(NAME, files), {"HF_HOME": str(tmp_path / "cache")}
    snapshot = tmp_path / "cache" / "hub" / "models--acme--llama" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    assert not is_had(model, tmp_path, environ)
    blob = snapshot.parent.parent / "blob"
    (snapshot / "model.bin").symlink_to(blob)
    assert not is_had(model, tmp_path, environ)
    blob.write_bytes(WEIGHTS)
    assert is_had(model, tmp_path, environ)


# --------------------------------------------------------------------------------------- who may


def test_a_gated_model_without_a_token(hub: FakeHub, tmp_path: Path) -> None:
    hub.gated = frozenset({NAME})
    for attempt in (lambda: fetch(MODEL, tmp_path, hub=by(hub)), lambda: check_access(MODEL, by(hub))):
        with pytest.raises(ModelFetchError) as refused:
            attempt()
        assert refused.value.cause == f"the model {NAME} is gated, and there is no HF_TOKEN"
        assert f"accept its licence at {hub.endpoint}/{NAME}" in refused.value.remedy
        assert "HF_TOKEN" in refused.value.remedy


def test_a_gated_model_whose_licence_was_not_accepted(hub: FakeHub) -> None:
    hub.gated = frozenset({NAME})
    with pytest.raises(ModelFetchError, match="the account of HF_TOKEN is not admitted to it: accept its licence"):
        check_access(MODEL, by(hub, "hf_other"))


def test_the_token_opens_a_gated_model_and_stays_with_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    """The host of large files is another one."""
    hub.gated, hub.token = frozenset({NAME}), "hf_right"
    assert fetch(MODEL, tmp_path, hub=by(hub, "hf_right"))
    assert {headers["Authorization"] for _, headers in hub.asked} == {"Bearer hf_right"}
    assert hub.elsewhere
    assert not any("Authorization" in headers for _, headers in hub.elsewhere)


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_signed_address_is_not_repeated_and_its_host_does_not_judge_the_token(
    hub: FakeHub, tmp_path: Path, status: int
) -> None:
    hub.refusal = status
    with pytest.raises(ModelFetchError) as refused:
        fetch(MODEL, tmp_path, hub=by(hub, "hf_right"))
    assert f"{hub.storage}/{NAME}/model.bin" in refused.value.cause
    assert f"answers {status}" in refused.value.cause
    assert "s3cret" not in str(refused.value)
    assert "HF_TOKEN" not in str(refused.value)


@pytest.mark.parametrize(
    ("environment", "token"),
    [({"HF_TOKEN": "hf_set"}, "hf_set"), ({}, "hf_left"), ({"HF_HOME": "/nowhere"}, "")],
    ids=["environment", "logged in", "nobody"],
)
def test_where_the_token_is_looked_for(environment: dict[str, str], token: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_left\n")
    found = Hub.of({"HF_HOME": str(tmp_path), **environment})
    assert found == Hub("https://huggingface.co", token)
    assert "hf_" not in repr(found)


# --------------------------------------------------------------------------------------- what else goes wrong


def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ModelFetchError) as refused:
        fetch(MODEL, tmp_path, hub=Hub(endpoint))
    assert refused.value.cause == f"no connection to {endpoint}: Connection refused"
    assert f"copy the model's files to hub/{NAME}" in refused.value.remedy


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (HubModel("acme/llma"), r"there is no model acme/llma on .*, or it is private \(401\): correct its name"),
        (HubModel(NAME, ("*.gguf",)), r"has no \*\.gguf: correct the names"),
        (HubModel(NAME, ("*.json", "modle.bin")), r"has no modle\.bin: correct the names"),
        (HubModel(NAME, revision="v9"), "has no revision v9"),
    ],
)
def test_what_the_hub_does_not_have(hub: FakeHub, tmp_path: Path, model: HubModel, message: str) -> None:
    with pytest.raises(ModelFetchError, match=message):
        fetch(model, tmp_path, hub=by(hub))


def test_a_file_that_would_be_written_elsewhere(hub: FakeHub, tmp_path: Path) -> None:
    hub.models[NAME]["../../../owned"] = b"x"
    with pytest.raises(ModelFetchError, match="does not answer as the hub does"):
        fetch(HubModel(NAME), tmp_path, hub=by(hub))


def test_a_disk_that_is_full(hub: FakeHub, tmp_path: Path) -> None:
    """Said before anything is fetched, with what would be needed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        hub.models[NAME]["model.bin"] = bytes(100_000_000)
        with pytest.raises(ModelFetchError) as refused:
            fetch(MODEL, disk, hub=by(hub))
    finally:
        subprocess.run(["umount", disk], check=True)
    assert refused.value.cause.startswith(f"the disk is full: 0.1 GB are missing of {NAME}, and 0.0 GB are free in ")
    assert refused.value.remedy.startswith("free some space, or choose another folder")
    assert hub.elsewhere == []


@pytest.mark.parametrize("text", ["llama", "acme/../x", "/etc/passwd", "https://huggingface.co/acme/llama"])
def test_what_names_no_model(text: str) -> None:
    with pytest.raises(ModelFetchError, match="names no model of the hub: write ORGANISATION/NAME"):
        hub_model(text)


def test_names_of_models() -> None:
    assert hub_model("acme/llama-3.1") == HubModel("acme/llama-3.1")
    assert hub_model("acme/llama:*.json,a.gguf") == HubModel("acme/llama", ("*.json", "a.gguf"))


# --------------------------------------------------------------------------------------- Whisper


def test_names_of_whisper_models_are_those_of_faster_whisper() -> None:
    assert dict(REPOSITORIES) == faster_whisper.utils._MODELS


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("base.en", "Systran/faster-whisper-base.en"),
        ("acme/whisper-ct2", "acme/whisper-ct2"),
        ("./whisper", None),
        ("/srv/models/whisper", None),
        ("~/whisper", None),
        ("whisper", None),
    ],
)
def test_what_a_whisper_model_is(name: str, repository: str | None) -> None:
    """A name, a repository of the hub, or a folder, which nobody fetches."""
    model = whisper_model(name)
    assert (model.repository if model is not None else None) == repository


async def test_a_whisper_model_that_was_fetched_is_recognised_with(hub: FakeHub, tmp_path: Path) -> None:
    """Under the name that the flavor has, without the hub."""

    def fetched() -> bool:
        checkpoint = whisper.build(tmp_path / "made", "we open at nine")
        hub.models["Systran/faster-whisper-tiny.en"] = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
        model = whisper_model("tiny.en")
        return model is not None and fetch(model, tmp_path / "models", hub=by(hub))

    assert await asyncio.to_thread(fetched)
    host = LocalEngineHost()
    engine = FasterWhisper(FasterWhisperOptions(model="tiny.en"), EngineContext(host, tmp_path / "models"))
    await engine.start()
    try:
        sound = np.random.default_rng(1).normal(0, 3000, 8000).astype(np.int16)
        assert (await engine.transcribe(Audio(sound, 8000))).text == "we open at nine"
    finally:
        await engine.aclose()
        await host.aclose()


# --------------------------------------------------------------------------------------- at an engine's start


def test_an_engine_that_says_so_has_its_model_fetched_at_its_start(
    hub: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With its progress in the log, and once."""
    hub.models["Systran/faster-whisper-tiny.en"] = {
        **dict.fromkeys(("config.json", "tokenizer.json"), b"{}"),
        "model.bin": bytes(1_000_000),
    }
    caplog.set_level(logging.INFO)
    for _ in range(2):
        fetch_missing(descriptor, FasterWhisperOptions(model="tiny.en", download=True), tmp_path, Event(), by(hub))
    told = [(record.message, vars(record)["percent"]) for record in caplog.records if "model" in record.message]
    assert told[0] == ("fetching a model", 0)
    assert told[-1] == ("fetching a model", 100)
    assert len(hub.elsewhere) == 1


def test_an_engine_that_does_not_say_so_fetches_nothing(hub: FakeHub, tmp_path: Path) -> None:
    fetch_missing(descriptor, FasterWhisperOptions(model="tiny.en"), tmp_path, Event(), by(hub))
    fetch_missing(descriptor, FasterWhisperOptions(model="./folder", download=True), tmp_path, Event(), by(hub))
    assert hub.asked == []


def test_an_engine_that_is_stopped_while_its_model_comes(hub: FakeHub, tmp_path: Path) -> None:
    """Nobody waits for the rest, and nothing of what has come is lost."""
    hub.models["Systran/faster-whisper-tiny.en"] = {
        **dict.fromkeys(("config.json", "tokenizer.json"), b"{}"),
        "model.bin": bytes(5_000_000),
    }
    options = FasterWhisperOptions(model="tiny.en", download=True)
    hub.breaks = deque([2_000_000])
    stop = Event()
    stop.set()
    with pytest.raises(ModelFetchError, match=r"stopped: it goes on at the next start"):
        fetch_missing(descriptor, options, tmp_path, stop, by(hub))
    fetch_missing(descriptor, options, tmp_path, Event(), by(hub))
    assert (tmp_path / "hub" / "Systran" / "faster-whisper-tiny.en" / "model.bin").stat().st_size == 5_000_000


# --------------------------------------------------------------------------------------- the command


def models(hub: FakeHub, folder: Path, *arguments: str) -> Result:
    file = folder / "voxtrunk.yml"
    file.write_text("models: models\nflavors: {e: {pipeline: echo}}\ndefault: e\n")
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder), "HF_TOKEN": ""}
    return CliRunner(env=environment).invoke(app, ["models", *arguments, "-c", str(file)])


def test_the_command_fetches_models_that_are_named(hub: FakeHub, tmp_path: Path) -> None:
    first = models(hub, tmp_path, "fetch", "--hub", f"{NAME}:*.json,model.bin")
    assert first.exit_code == 0, first.output
    assert f"{tmp_path}/models/hub/{NAME}: fetched" in first.stdout
    assert (tmp_path / "models" / "hub" / NAME / "model.bin").read_bytes() == WEIGHTS
    second = models(hub, tmp_path, "fetch", "--json", "--hub", f"{NAME}:*.json,model.bin")
    (row,) = json.loads(second.stdout)["models"]
    assert (row["name"], row["state"]) == (f"hub/{NAME}", "present")


def test_progress_of_the_command_where_there_is_no_terminal(hub: FakeHub, tmp_path: Path) -> None:
    """In a container's log: a line now and then, to standard error."""
    shown = models(hub, tmp_path, "fetch", "--hub", f"{NAME}:model.bin")
    assert f"hub/{NAME}: 0 % of 0.0 GB" in shown.stderr
    assert f"hub/{NAME}: 100 % of 0.0 GB" in shown.stderr


def test_the_command_tells_what_to_do_in_one_line(hub: FakeHub, tmp_path: Path) -> None:
    hub.gated = frozenset({NAME})
    refused = models(hub, tmp_path, "fetch", "--hub", NAME)
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[-1].startswith(f"the model {NAME} is gated, and there is no HF_TOKEN: accept")
