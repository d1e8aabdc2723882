"""A server that answers as the Hugging Face hub does, and fails as a test tells it to.

`/api/models/REPO/revision/REV?blobs=true` and `/REPO/resolve/COMMIT/FILE`; large files (those of Git LFS) come from
another host, as on the real hub, which is another port here.
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = 1000
"""Bytes from which on a file is one of Git LFS."""


@dataclass
class FakeHub:
    """What it holds and how it fails: public, to be changed between requests.

    `models`: files by repository. `gated`: repositories that want the licence accepted; `token`: of the account that
    has. `breaks`: after so many bytes the connection ends, one for each of the next answers with a large file; under
    `tls`, which the host of large files then speaks, with a record that nobody can decrypt. `refusal`: the status with
    which that host answers. `asked`: path and headers of every request, `elsewhere`: of those to that host.
    """

    models: dict[str, dict[str, bytes]]
    gated: frozenset[str] = frozenset()
    token: str = ""
    commit: str = "c0ffee"
    breaks: deque[int] = field(default_factory=deque)
    ranges: bool = True
    tls: ssl.SSLContext | None = None
    refusal: int | None = None
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    elsewhere: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    endpoint: str = ""
    storage: str = ""


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """`hub`, at `hub.endpoint`."""

    class Storage(_Answers):
        def do_GET(self) -> None:
            hub.elsewhere.append((self.path, dict(self.headers)))
            if hub.refusal is not None:
                self.answer(hub.refusal, b"")
                return
            _, repository, name, path = unquote(urlsplit(self.path).path).split("/", 3)
            content = hub.models[f"{repository}/{name}"][path]
            start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if hub.ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : start + hub.breaks[0]] if hub.breaks else content[start:])
            if hub.breaks and hub.breaks.popleft() and hub.tls is not None:
                os.write(self.connection.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))  # RFC 8446 section 5.2

    class Hub(_Answers):
        def do_GET(self) -> None:
            hub.asked.append((self.path, dict(self.headers)))
            path = unquote(urlsplit(self.path).path).removeprefix("/")
            if path.startswith("api/models/"):
                organisation, name, *what = path.removeprefix("api/models/").split("/")
                self._api(f"{organisation}/{name}", what)
            else:
                organisation, name, _, _, file = path.split("/", 4)
                self._resolve(f"{organisation}/{name}", file)

        def _api(self, repository: str, what: list[str]) -> None:
            if repository not in hub.models:
                self.refuse(401, "RepoNotFound")
            elif what[1] not in ("main", hub.commit):
                self.refuse(404, "RevisionNotFound")
            else:
                files = [_described(path, content) for path, content in hub.models[repository].items()]
                self.answer(200, json.dumps({"sha": hub.commit, "siblings": files}).encode())

        def _resolve(self, repository: str, file: str) -> None:
            content = hub.models[repository][file]
            if not self.admitted(repository):
                return
            if len(content) < LARGE:
                self.answer(200, content)
            else:
                self.send_response(302)
                self.send_header("Location", f"{hub.storage}/{repository}/{file}?Signature=s3cret")
                self.end_headers()

        def admitted(self, repository: str) -> bool:
            bearer = self.headers.get("Authorization", "")
            welcome = repository not in hub.gated or (bool(hub.token) and bearer == f"Bearer {hub.token}")
            if not welcome:
                self.refuse(403 if bearer else 401, "GatedRepo")
            return welcome

        def refuse(self, status: int, code: str) -> None:
            self.answer(status, b"{}", {"X-Error-Code": code})

    with ExitStack() as stack:
        hub.endpoint = stack.enter_context(_served(Hub))
        hub.storage = stack.enter_context(_served(Storage, hub.tls))
        yield hub


class _Answers(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass

    def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def _served(handler: type[_Answers], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _described(path: str, content: bytes) -> dict[str, object]:
    """A file as `?blobs=true` has it."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    described: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": blob}
    if len(content) >= LARGE:
        described["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return described
