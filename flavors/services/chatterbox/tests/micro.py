"""The micro Chatterbox checkpoints of `tests/engines/checkpoints`, in the real classes; a skip where there are none."""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

CHECKPOINTS = Path(__file__).parents[4] / "tests/engines/checkpoints"

torch = pytest.importorskip("torch", reason="runs in the environment of Chatterbox: see `make test-engines`")
torch.set_num_threads(1)


@cache
def model(kind: str) -> Any:
    """`turbo`, `standard` or `multilingual`, as our engine loads it."""
    from chatterbox_service.models import KINDS, Model

    name = "chatterbox" if kind == "standard" else f"chatterbox-{kind}"
    folder = _module("store").folder(name)
    if not folder.is_dir():
        pytest.skip(f"there is no micro checkpoint {name}: made by `make test-engines`")
    _module("chatterbox").shrink()
    return Model.load(KINDS[kind], "cpu", folder)


@cache
def engine(kind: str = "turbo", capacity: int = 8) -> Any:
    """One for all tests of a run: a test leaves no stream behind."""
    from chatterbox_service.chatterbox import ChatterboxEngine

    return ChatterboxEngine(model(kind), "cpu", capacity)


def speech_tokens(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(6561, size=count).tolist()


@cache
def _module(name: str) -> ModuleType:
    spec = spec_from_file_location(f"micro_{name}", CHECKPOINTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
