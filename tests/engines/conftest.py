"""The real engines: servers, micro checkpoints, and where they are not there, a skip that says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import servers
from tests.engines.checkpoints import store

HERE = Path(__file__).parent


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
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """vLLM with the micro Llama; it takes most of a minute to start."""
    yield from servers.vllm(tmp_path_factory.mktemp("vllm") / "log")


@pytest.fixture(scope="session")
def chatterbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """Our speech server with the micro Chatterbox Turbo."""
    yield from servers.chatterbox(tmp_path_factory.mktemp("chatterbox") / "log")
