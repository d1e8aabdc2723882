"""The real model files that tests use, fetched from PyPI once per machine."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from connector.config import models_cache
from connector.interfaces import ModelFile
from flavors.engines import silero


@cache
def models_folder(model: ModelFile = silero.MODEL) -> Path:
    """The models folder of this machine, with the file of `model` in it."""
    folder = models_cache.default_folder()
    models_cache.fetch(model, folder)
    return folder
