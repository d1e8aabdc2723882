"""Configuration: files in, immutable `Settings` out, or a `ConfigError` with every mistake.

`load` reads voxtrunk.yml, the flavors beside it and those that packages bring; `engine_descriptors`
lists the installed engines; `json_schema` describes the files for editors.
"""

from __future__ import annotations

from connector.config.engines import EngineCatalog, engine_descriptors
from connector.config.loader import Surroundings, builtin_settings, flavor_named, load, parse
from connector.config.model import Settings
from connector.config.pairs import of_pair
from connector.config.schema import flavor_schema, json_schema

__all__ = [
    "EngineCatalog",
    "Settings",
    "Surroundings",
    "builtin_settings",
    "engine_descriptors",
    "flavor_named",
    "flavor_schema",
    "json_schema",
    "load",
    "of_pair",
    "parse",
]
