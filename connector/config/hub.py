"""Models of the Hugging Face hub, fetched into the models folder; a download that broke off goes on where it ended.

The hub's own client begins a file anew in every process (huggingface_hub 2, `_download_to_tmp_and_move`): over a line
that breaks, or through a restart, a model of 16 GB would never arrive. What is fetched here lies in a plain folder,
`hub/ORGANISATION/NAME`, which vLLM, llama.cpp, faster-whisper and Chatterbox all take for a model.

Everything here blocks: it serves commands, not calls.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from http.client import HTTPException, HTTPMessage
from pathlib import Path, PurePosixPath
from typing import IO, Any

from connector import __version__
from connector.config.models_cache import Progress
from connector.errors import HubUnreachable, ModelFetchError
from connector.interfaces import HubModel

HUB = "https://huggingface.co"
RECORD = ".voxtrunk.json"
"""In a model's folder: which of its files are whole, and which patterns are met."""

RETRIES = 5
"""How often in a row a file may fail without a byte of it having come."""

_HEADERS = {"User-Agent": f"voxtrunk/{__version__}"}
_BLOCK = 1 << 20
_TIMEOUT = 30.0
"""Seconds without a byte from the hub."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Hub:
    """Where the hub is, and who asks. `token`: of an account, "" for nobody's."""

    endpoint: str = HUB
    token: str = field(default="", repr=False)

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> Hub:
        """As the hub's own tools have it: $HF_ENDPOINT; $HF_TOKEN, else the token that `hf auth login` has left."""
        home = Path(environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
        token = environ.get("HF_TOKEN", "")
        try:
            token = token or (home / "token").read_text()
        except OSError:
            token = ""
        return cls((environ.get("HF_ENDPOINT") or HUB).rstrip("/"), token.strip())


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository. `digest`: sha256 of its content, or git's sha1 of it where it is not `large`."""

    path: str
    size: int
    digest: str
    large: bool


def hub_model(text: str) -> HubModel:
    """The model that `ORGANISATION/NAME` or `ORGANISATION/NAME:PATTERN,PATTERN` names; raises `ModelFetchError`."""
    repository, _, patterns = text.partition(":")
    if not _REPOSITORY.fullmatch(repository):
        raise ModelFetchError(
            f"{text!r} names no model of the hub", "write ORGANISATION/NAME, or ORGANISATION/NAME:*.gguf"
        )
    return HubModel(repository, tuple(patterns.split(",")) if patterns else ("*",))


def is_present(model: HubModel, folder: Path) -> bool:
    """True where the models folder `folder` holds all of the model that is wanted, whole; also where it was copied."""
    place = model.folder(folder)
    if not (place / RECORD).exists():
        return _was_copied(model, place)
    record = _Record.of(place)
    return set(model.files) <= record.met and all(
        (place / path).is_file() and (place / path).stat().st_size == size for path, (size, _) in record.files.items()
    )


def _was_copied(model: HubModel, place: Path) -> bool:
    """Whether somebody else has put the files there: nothing tells which there should be beside those with a name."""
    files = (path for path in place.rglob("*") if path.is_file() and not path.name.startswith(RECORD))
    found = {str(path.relative_to(place)) for path in files}
    wanted = any(fnmatch(path, pattern) for path in found for pattern in model.files)
    parts = any(path.endswith(".part") for path in found)
    return wanted and not parts and found.issuperset(name for name in model.files if _is_name(name))


def is_had(model: HubModel, folder: Path, environ: Mapping[str, str] = os.environ) -> bool:
    """True where it is in the models folder `folder`, or in the cache of the hub's own tools."""
    home = Path(environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    cache = Path(environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    snapshots = (cache / f"models--{model.repository.replace('/', '--')}" / "snapshots").glob("*")
    return is_present(model, folder) or any(_was_copied(model, snapshot) for snapshot in snapshots)


def fetch(
    model: HubModel,
    folder: Path,
    progress: Progress = lambda done, total: None,
    hub: Hub | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> bool:
    """Puts `model` into the models folder `folder`; False where it was there already.

    What an earlier attempt has brought is kept. A file is proven by its hash before it has its name. `pause` waits
    between two attempts at a file. Raises `ModelFetchError`.
    """
    if is_present(model, folder):
        return False
    hub = hub or Hub.of()
    place = model.folder(folder)
    with _writing(model, place):
        place.mkdir(parents=True, exist_ok=True)
        with _locked(place):
            _fetch(_Repository(hub, model), place, progress, pause)
    return True


def size(model: HubModel, folder: Path) -> int:
    """Bytes of those of its files that are whole in the models folder `folder`."""
    files = _Record.of(model.folder(folder)).files
    return sum(size for path, (size, _) in files.items() if any(fnmatch(path, pattern) for pattern in model.files))


def check_access(model: HubModel, hub: Hub | None = None) -> int:
    """Would the hub give us the model? Its size in bytes; raises `ModelFetchError` that tells why not."""
    repository = _Repository(hub or Hub.of(), model)
    commit, everything = repository.listing()
    wanted = _matching(everything, model.files)
    # The list is for everybody to see, the files of a gated model are not.
    repository.prove(commit, min(wanted, key=lambda file: file.size))
    return sum(file.size for file in wanted)


def _matching(files: Sequence[RemoteFile], patterns: Iterable[str]) -> list[RemoteFile]:
    patterns = list(patterns)
    return [file for file in files if any(fnmatch(file.path, pattern) for pattern in patterns)]


def _fetch(repository: _Repository, place: Path, progress: Progress, pause: Callable[[float], None]) -> None:
    model, record = repository.model, _Record.of(place)
    commit, everything = repository.listing()
    patterns = record.met | set(model.files)
    wanted = _matching(everything, patterns)
    missing = [file for file in wanted if not record.holds(file, place)]
    total = sum(file.size for file in wanted)
    done = total - sum(file.size for file in missing)
    needed = sum(file.size - _part_size(file, place) for file in missing)
    if shutil.disk_usage(place).free < needed:
        raise _disk_full(model, place, needed)
    progress(done, total)
    if _matching(missing, record.met):  # of another revision: until it is whole, the files are of two
        record.met = set()
    record.write(place)
    for file in missing:
        repository.download(commit, file, place, partial(_advance, progress, done, total), pause)
        record.files[file.path] = (file.size, file.digest)
        record.write(place)
        done += file.size
    # What belongs to another revision alone.
    for path in record.files.keys() - {file.path for file in wanted}:
        (place / path).unlink(missing_ok=True)
    for part in place.rglob("*.part"):
        part.unlink()
    record.files = {file.path: (file.size, file.digest) for file in wanted}
    record.met = patterns
    record.write(place)


def _advance(progress: Progress, before: int, total: int, size: int) -> None:
    progress(before + size, total)


@dataclass(slots=True)
class _Record:
    """What `RECORD` holds. `files`: size and hash of those that are whole; `met`: patterns whose files all are."""

    files: dict[str, tuple[int, str]]
    met: set[str]

    @classmethod
    def of(cls, place: Path) -> _Record:
        """That of the folder; an empty one where there is none, or one that cannot be read."""
        try:
            read = json.loads((place / RECORD).read_text())
            return cls(
                {path: (int(size), str(digest)) for path, (size, digest) in read["files"].items()}, {*read["met"]}
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls({}, set())

    def holds(self, file: RemoteFile, place: Path) -> bool:
        """Is the file there, and the one of this revision?"""
        return self.files.get(file.path) == (file.size, file.digest) and (place / file.path).is_file()

    def write(self, place: Path) -> None:
        """Puts it in its place at once, or not at all."""
        new = place / f"{RECORD}.new"
        new.write_text(json.dumps({"files": self.files, "met": sorted(self.met)}, indent=1))
        new.replace(place / RECORD)


class _Repository:
    """A model's repository, as its hub answers for it (https://huggingface.co/docs/hub/api)."""

    def __init__(self, hub: Hub, model: HubModel) -> None:
        self.model = model
        self._hub = hub
        self._opener = urllib.request.build_opener(_Redirects(hub))

    def listing(self) -> tuple[str, list[RemoteFile]]:
        """The commit that the revision stands for, and its files, among which are those that the model names."""
        revision = urllib.parse.quote(self.model.revision, safe="")
        with self._answer(f"api/models/{self.model.repository}/revision/{revision}?blobs=true") as response:
            body = response.read()
        try:
            told = json.loads(body)
            commit, files = str(told["sha"]), [_remote_file(sibling) for sibling in told["siblings"]]
        except (KeyError, TypeError, ValueError) as error:
            cause = f"{self._hub.endpoint} does not answer as the hub does"
            raise ModelFetchError(cause, "correct HF_ENDPOINT") from error
        paths = {file.path for file in files}
        absent = [name for name in self.model.files if _is_name(name) and name not in paths]
        if absent or not _matching(files, self.model.files):
            cause = f"{self.model.repository} has no {', '.join(absent or self.model.files)}"
            raise ModelFetchError(cause, "correct the names")
        return commit, files

    def prove(self, commit: str, file: RemoteFile) -> None:
        """Raises `ModelFetchError` where the hub would not give us `file`."""
        with self._answer(self._path(commit, file)):
            pass

    @contextmanager
    def _answer(self, path: str) -> Iterator[Any]:
        """The hub's answer for `path`; errors are told in our words."""
        try:
            with self._open(path) as response:
                yield response
        except urllib.error.HTTPError as error:
            error.close()
            raise self._refusal(error) from error
        except (OSError, HTTPException) as error:
            raise HubUnreachable(
                f"no connection to {self._hub.endpoint}: {_cause(error)}",
                f"connect this machine to the internet or set HF_ENDPOINT to a mirror, or copy the model's files to "
                f"hub/{self.model.repository} of the models folder",
            ) from error

    def _path(self, commit: str, file: RemoteFile) -> str:
        return f"{self.model.repository}/resolve/{commit}/{urllib.parse.quote(file.path)}"

    def download(
        self,
        commit: str,
        file: RemoteFile,
        place: Path,
        progress: Callable[[int], None],
        pause: Callable[[float], None],
    ) -> None:
        """Brings `file` to the folder `place`, from where an earlier attempt ended."""
        part = _part(file, place)
        part.parent.mkdir(parents=True, exist_ok=True)
        failures = 0
        while (size := _part_size(file, place)) < file.size or not part.exists():
            cause = self._go_on(commit, file, part, progress)
            failures = 0 if _part_size(file, place) > size else failures + 1
            if failures > RETRIES:
                raise ModelFetchError(
                    f"{self.model.repository}: {file.path} broke off after {size} of {file.size} bytes: {cause}",
                    "run it again: it goes on from there",
                )
            if cause:
                pause(2.0**failures)
        if _digest(part, file) != file.digest:
            part.unlink()
            raise ModelFetchError(
                f"{self.model.repository}: {file.path} has the wrong hash and was not kept",
                "run it again; where HF_ENDPOINT is a mirror, ask those who run it",
            )
        part.replace(place / file.path)

    def _go_on(self, commit: str, file: RemoteFile, part: Path, progress: Callable[[int], None]) -> str:
        """Fetches what `part` lacks, as far as the connection holds; what ended it, "" where all has come."""
        size = part.stat().st_size if part.exists() else 0
        with part.open("ab") as out:
            try:
                with self._open(self._path(commit, file), size) as response:
                    if size and response.status != 206:  # RFC 9110 section 14.2: it may ignore the range
                        size = 0
                        with _writing(self.model, part.parent):
                            out.truncate(0)
                    while block := response.read(_BLOCK):
                        with _writing(self.model, part.parent):
                            out.write(block)
                        size += len(block)
                        progress(size)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code in (408, 429) or error.code >= 500:
                    return f"{error.code} {error.reason}"
                raise self._refusal(error) from error
            except (OSError, HTTPException) as error:
                return _cause(error)
        return "" if size >= file.size else "the connection was closed"

    def _open(self, path: str, start: int = 0) -> Any:
        # The address is the hub's that the admin configured.
        request = urllib.request.Request(f"{self._hub.endpoint}/{path}", headers=_HEADERS)  # noqa: S310
        if self._hub.token:
            request.add_unredirected_header("Authorization", f"Bearer {self._hub.token}")
        if start:
            request.add_header("Range", f"bytes={start}-")
        return self._opener.open(request, timeout=_TIMEOUT)

    def _refusal(self, error: urllib.error.HTTPError) -> ModelFetchError:
        """Why the hub gives us nothing (its X-Error-Code), and what would help."""
        name, page = self.model.repository, f"{self._hub.endpoint}/{self.model.repository}"
        tokens = f"{self._hub.endpoint}/settings/tokens"
        # The query of an address of large files is as good as a key.
        address, answer = error.url.partition("?")[0], f"{error.code} {error.reason}"
        match error.headers.get("X-Error-Code", ""), error.code:
            case "GatedRepo", _ if not self._hub.token:
                return ModelFetchError(
                    f"the model {name} is gated, and there is no HF_TOKEN",
                    f"accept its licence at {page}, make a token at {tokens}, set HF_TOKEN to it (in .env for compose)",
                )
            case "GatedRepo", _:
                return ModelFetchError(
                    f"the model {name} is gated, and the account of HF_TOKEN is not admitted to it",
                    f"accept its licence at {page} with that account; the token must be allowed to read gated models",
                )
            case "RevisionNotFound", _:
                return ModelFetchError(
                    f"the model {name} has no revision {self.model.revision}", f"see {page}/tree/main"
                )
            case "", _ if not address.startswith(f"{self._hub.endpoint}/"):
                return ModelFetchError(
                    f"{address}, where {self._hub.endpoint} has large files, answers {answer}",
                    "try again later; where there is a proxy, let it through to that host",
                )
            case _, 401 | 403 if self._hub.token and error.headers.get("X-Error-Code") != "RepoNotFound":
                return ModelFetchError(
                    f"{self._hub.endpoint} refuses HF_TOKEN ({error.code})", f"make another token at {tokens}"
                )
            case _, 401 | 403 | 404:
                return ModelFetchError(
                    f"there is no model {name} on {self._hub.endpoint}, or it is private ({error.code})",
                    "correct its name; for a private one set HF_TOKEN to a token that may read it",
                )
        return ModelFetchError(f"{address} answers {answer}", "try again later")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Files lie on other hosts, which must not see the token; the hub's own addresses want it again."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and self._hub.token and newurl.startswith(f"{self._hub.endpoint}/"):
            new.add_unredirected_header("Authorization", f"Bearer {self._hub.token}")
        return new


def _remote_file(sibling: Mapping[str, Any]) -> RemoteFile:
    """A file as the API lists it; raises KeyError, TypeError or ValueError where it is none that we would write."""
    path = PurePosixPath(sibling["rfilename"])
    if path.is_absolute() or ".." in path.parts or path.name in ("", RECORD):
        raise ValueError(path)
    large = sibling.get("lfs")
    if large:
        return RemoteFile(str(path), int(large["size"]), str(large["sha256"]), large=True)
    return RemoteFile(str(path), int(sibling["size"]), str(sibling["blobId"]), large=False)


def _is_name(pattern: str) -> bool:
    """A file of this very name must be there; a pattern takes what there is."""
    return not any(sign in pattern for sign in "*?[")


def _part(file: RemoteFile, place: Path) -> Path:
    """Where the file grows: by its hash, so that what belongs to another revision is never gone on with."""
    return place / f"{file.path}.{file.digest[:12]}.part"


def _part_size(file: RemoteFile, place: Path) -> int:
    try:
        return min(_part(file, place).stat().st_size, file.size)
    except FileNotFoundError:
        return 0


def _digest(path: Path, file: RemoteFile) -> str:
    """The hash by which the hub knows the content of `path`: LFS's, or that of a git blob."""
    digest = hashlib.sha256() if file.large else hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """One process at a time: two would write to the same part."""
    with (place / f"{RECORD}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ModelFetchError(f"another process is fetching into {place}", "wait for it, or end it") from error
        yield


@contextmanager
def _writing(model: HubModel, place: Path) -> Iterator[None]:
    """What keeps us from writing to `place`, in our words."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(model, place, None) from error
        raise ModelFetchError(
            f"{model.repository} cannot be written to {place}: {error.strerror or error}",
            "let this user write there, or choose another folder: `models` in voxtrunk.yml, or VOXTRUNK_MODELS",
        ) from error


def _disk_full(model: HubModel, place: Path, needed: int | None) -> ModelFetchError:
    wanted = f"{needed / 1e9:.1f} GB are missing of {model.repository}, and" if needed else f"{model.repository}:"
    free = shutil.disk_usage(place).free / 1e9
    return ModelFetchError(
        f"the disk is full: {wanted} {free:.1f} GB are free in {place}",
        "free some space, or choose another folder: `models` in voxtrunk.yml, or VOXTRUNK_MODELS",
    )


def _cause(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason) or type(error).__name__
