"""The real model files that tests use, fetched from PyPI once per machine."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from connector.config import models_cache
from flavors.engines import silero


@cache
def models_folder() -> Path:
    """The models folder of this machine, with Silero's file in it."""
    folder = models_cache.default_folder()
    models_cache.fetch(silero.MODEL, folder)
    return folder
