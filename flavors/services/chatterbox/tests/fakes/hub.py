"""A Hugging Face hub with one repository, as far as `huggingface_hub` needs one to download from."""

from __future__ import annotations

import hashlib
from typing import Self

from aiohttp import web

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Listens on a free port of loopback. Its public attributes are the script, and what was asked of it."""

    def __init__(self, repository: str, files: dict[str, bytes]) -> None:
        self._repository = repository
        self._files = files
        self.token: str | None = None
        """Where set, the repository is gated: it is for this token alone."""
        self.break_after: int | None = None
        """The connection breaks after so many bytes of a file."""
        self.ranges: dict[str, list[str | None]] = {}
        """The `Range` of each download, by file."""
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get(f"/api/models/{self._repository}/revision/{{revision}}", self._revision)
        app.router.add_get(f"/api/models/{self._repository}/tree/{{revision}}", self._tree)
        app.router.add_route("*", f"/{self._repository}/resolve/{{revision}}/{{file}}", self._file)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner:
            await self._runner.cleanup()

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.token is None or request.headers.get("Authorization") == f"Bearer {self.token}":
            return None
        return web.Response(status=403, headers={"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})

    async def _revision(self, request: web.Request) -> web.Response:
        if refused := self._refusal(request):
            return refused
        siblings = [{"rfilename": name} for name in self._files]
        return web.json_response({"id": self._repository, "sha": COMMIT, "siblings": siblings})

    async def _tree(self, request: web.Request) -> web.Response:
        if refused := self._refusal(request):
            return refused
        return web.json_response(
            [
                {"type": "file", "path": name, "size": len(content), "oid": _object_id(content)}
                for name, content in self._files.items()
            ]
        )

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refusal(request):
            return refused
        name = request.match_info["file"]
        content = self._files[name]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_object_id(content)}"', "Accept-Ranges": "bytes"}
        wanted = request.headers.get("Range")
        begin = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        if request.method == "HEAD":
            return web.Response(headers=headers | {"Content-Length": str(len(content))})
        self.ranges.setdefault(name, []).append(wanted)
        if wanted:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        response = web.StreamResponse(status=206 if wanted else 200, headers=headers)
        response.content_length = len(content) - begin
        await response.prepare(request)
        end = len(content) if self.break_after is None else begin + self.break_after
        await response.write(content[begin:end])
        if end < len(content):
            assert request.transport is not None
            request.transport.close()
        return response


def _object_id(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
