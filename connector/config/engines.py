"""The engines and the packaged flavors that are installed, found through entry points.

A package announces an engine in the group `voxtrunk.engines` (an `EngineDescriptor`) and a folder of
flavor files in the group `voxtrunk.flavors` (a package that holds `*.yml`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path

from connector.interfaces import EngineDescriptor

ENGINES = "voxtrunk.engines"
FLAVORS = "voxtrunk.flavors"


@dataclass(frozen=True, slots=True)
class BrokenEngine:
    """An announced engine whose module cannot be imported. `cause`: why. `remedy`: what to install."""

    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class EngineCatalog:
    """Engines by name: those that can be configured, and those that are announced but broken."""

    descriptors: Mapping[str, EngineDescriptor]
    broken: Mapping[str, BrokenEngine] = field(default_factory=dict)


@cache
def installed_engines() -> EngineCatalog:
    """Every engine that an installed package announces."""
    return catalog(entry_points(group=ENGINES))


def catalog(announced: Iterable[EntryPoint]) -> EngineCatalog:
    """The engines that the entry points `announced` lead to."""
    descriptors: dict[str, EngineDescriptor] = {}
    broken: dict[str, BrokenEngine] = {}
    for entry in sorted(announced, key=lambda entry: entry.name):
        package = entry.dist.name if entry.dist else entry.module
        wanted = f"{package}[{','.join(entry.extras)}]" if entry.extras else package
        try:
            descriptor = entry.load()
        except (ImportError, AttributeError, OSError) as error:  # OSError: a shared library that is missing
            broken[entry.name] = BrokenEngine(
                f"{entry.value} of the package {package} cannot be imported: {error}", f"pip install '{wanted}'"
            )
            continue
        if isinstance(descriptor, EngineDescriptor) and descriptor.name == entry.name:
            descriptors[entry.name] = descriptor
        else:
            broken[entry.name] = BrokenEngine(
                f"{entry.value} of the package {package} is no EngineDescriptor named {entry.name}",
                f"report it to the authors of {package}",
            )
    return EngineCatalog(descriptors, broken)


def engine_descriptors() -> Mapping[str, EngineDescriptor]:
    """Descriptors of the installed engines by name."""
    return installed_engines().descriptors


def packaged_flavor_files() -> tuple[Path, ...]:
    """Flavor files that installed packages bring, by package and name."""
    folders = [Path(str(files(entry.module))) for entry in sorted(entry_points(group=FLAVORS), key=lambda e: e.name)]
    return tuple(path for folder in folders for path in sorted(folder.glob("*.yml")))
