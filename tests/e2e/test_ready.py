"""`voxtrunk ready` against `voxtrunk serve`: what health checks and scripts go by."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e import command


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(folder: Path, flavor: str) -> AsyncIterator[None]:
    """`voxtrunk serve` with one flavor, once it is asked over HTTP."""
    (folder / "voxtrunk.yml").write_text(
        f'sip: {{listen: "127.0.0.1:0"}}\nhttp: {{listen: "127.0.0.1:{free_port()}"}}\n'
        f'flavors: {{desk: {flavor}}}\nroutes: [{{number: "1000", flavor: desk}}]\n'
    )
    process = await command.start("serve", "--drain", "0", cwd=folder)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert b"Listening" in await process.stdout.readline()
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def test_ready(tmp_path: Path) -> None:
    async with serving(tmp_path, "{pipeline: echo}"):
        asked = await command.run("ready", cwd=tmp_path)
    assert (asked.status, asked.output) == (0, "ready\n")


async def test_not_ready_and_why(tmp_path: Path) -> None:
    """A flavor whose language model does not answer."""
    flavor = (
        "{vad: {engine: silero}, stt: {engine: pocketsphinx}, tts: {engine: flite}, "
        'llm: {engine: openai-chat, base_url: "http://127.0.0.1:9/v1", model: llama}}'
    )
    async with serving(tmp_path, flavor):
        for_people = await command.run("ready", cwd=tmp_path)
        for_programs = await command.run("ready", "--json", cwd=tmp_path)
    assert for_people.status == for_programs.status == 1
    assert for_people.output.startswith("not ready; desk: openai-chat: ")
    assert json.loads(for_programs.output)["ready"] is False


async def test_nobody_there(tmp_path: Path) -> None:
    (tmp_path / "voxtrunk.yml").write_text(
        f'http: {{listen: "127.0.0.1:{free_port()}"}}\nroutes: [{{number: "1000", flavor: echo}}]\n'
    )
    asked = await command.run("ready", cwd=tmp_path)
    assert asked.status == 1
    assert "no connector answers" in asked.errors
