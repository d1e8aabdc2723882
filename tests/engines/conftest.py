"""The real engines: servers, micro checkpoints, and where they are not there, a skip that says so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.engines import servers
from tests.engines.checkpoints import store

HERE = Path(__file__).parent

SERVERS = {"vllm": servers.vllm, "chatterbox": servers.chatterbox, "whisper": servers.whisper}

Launched = Mapping[str, servers.Server]
"""Those of `SERVERS` that are starting, or serve."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests of this folder outside of `make test-engines`, which makes what they need and sets its place."""
    if "VOXTRUNK_ENGINES" not in os.environ:
        for item in items:
            if item.path.is_relative_to(HERE):
                item.add_marker(pytest.mark.skip(reason="needs real engines: run by `make test-engines`"))


@pytest.fixture(scope="session")
def whisper_model() -> Path:
    """The micro Whisper, in CTranslate2's format."""
    return store.folder("whisper")


@pytest.fixture(scope="session")
def launched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """The servers that this run asks for, started together: the slowest takes most of a minute."""
    asked = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    started = {name: make(tmp_path_factory.mktemp(name) / "log") for name, make in SERVERS.items() if name in asked}
    for server in started.values():
        server.launch()
    yield started
    for server in started.values():
        server.stop()


@pytest.fixture(scope="session")
def vllm(launched: Launched) -> servers.Server:
    """vLLM with the micro Llama."""
    launched["vllm"].wait()
    return launched["vllm"]


@pytest.fixture(scope="session")
def chatterbox(launched: Launched) -> servers.Server:
    """Our speech server with the micro Chatterbox Turbo."""
    launched["chatterbox"].wait()
    return launched["chatterbox"]


@pytest.fixture(scope="session")
def whisper(launched: Launched) -> servers.Server:
    """Our transcription server with the micro Whisper."""
    launched["whisper"].wait()
    return launched["whisper"]
