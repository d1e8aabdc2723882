"""Engines are found through entry points, and one that is broken is named with what would mend it."""

from __future__ import annotations

from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path

import pytest

from connector.config import engine_descriptors
from connector.config.engines import ENGINES, catalog, packaged_flavor_files
from connector.interfaces import EngineKind


def announced(tmp_path: Path, name: str, value: str) -> EntryPoint:
    """An engine of a third party, installed under `tmp_path`."""
    info = tmp_path / "parrot-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENGINES}]\n{name} = {value}\n")
    (entry,) = Distribution.at(info).entry_points
    return entry


@pytest.mark.parametrize(
    ("value", "cause", "remedy"),
    [
        ("parrot_package:engine [gpu]", "No module named 'parrot_package'", "pip install 'parrot[gpu]'"),
        ("parrot_package:engine", "No module named 'parrot_package'", "pip install 'parrot'"),
        ("connector.errors:no_engine", "has no attribute 'no_engine'", "pip install 'parrot'"),
        ("connector.errors:Problem", "is no EngineDescriptor named parrot", "report it to the authors of parrot"),
        ("tests.fakes.catalog:CATALOG", "is no EngineDescriptor named parrot", "report it to the authors of parrot"),
    ],
)
def test_a_broken_engine_is_named(tmp_path: Path, value: str, cause: str, remedy: str) -> None:
    """With its package, the cause and the extra to install; the other engines work on."""
    ours = next(iter(entry_points(group=ENGINES, name="silero")))
    found = catalog([announced(tmp_path, "parrot", value), ours])
    assert list(found.descriptors) == ["silero"]
    broken = found.broken["parrot"]
    assert "of the package parrot" in broken.cause
    assert cause in broken.cause
    assert broken.remedy == remedy


def test_our_own_engines_are_all_usable() -> None:
    """Every engine that this package announces loads without its extra's packages."""
    kinds = {descriptor.kind for descriptor in engine_descriptors().values()}
    assert kinds == set(EngineKind)
    assert set(engine_descriptors()) == {entry.name for entry in entry_points(group=ENGINES)}


def test_the_shipped_flavors_are_found() -> None:
    """By the entry point of their package."""
    assert {file.stem for file in packaged_flavor_files()} >= {"echo", "offline", "local"}
