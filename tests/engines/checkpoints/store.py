"""The micro checkpoints there are, and where they lie: made once for each state of their recipe. Needs only Python."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a checkpoint is made: by `function` of the first of `files`, all of which decide what it is."""

    function: str
    files: tuple[str, ...]

    @property
    def module(self) -> str:
        """The module that makes it; needs the packages of requirements-speech.txt."""
        return f"tests.engines.checkpoints.{Path(self.files[0]).stem}"

    @property
    def fingerprint(self) -> str:
        """Changes whenever one of `files` does."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update((Path(__file__).parent / file).read_bytes())
        return digest.hexdigest()[:12]


RECIPES: Mapping[str, Recipe] = {
    "llama": Recipe("make", ("llama.py", "conversation.py")),
    "whisper": Recipe("make", ("whisper.py", "takes.py", "conversation.py")),
    "chatterbox-turbo": Recipe("make_turbo", ("chatterbox.py",)),
    "chatterbox": Recipe("make_standard", ("chatterbox.py",)),
    "chatterbox-multilingual": Recipe("make_multilingual", ("chatterbox.py",)),
}


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """What `scripts/engines` makes: environments and checkpoints.

    $VOXTRUNK_ENGINES, else the voxtrunk folder of the user's cache (XDG base directories).
    """
    if chosen := environ.get("VOXTRUNK_ENGINES"):
        return Path(chosen).expanduser()
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path("~/.cache").expanduser()) / "voxtrunk"


def folder(name: str) -> Path:
    """The folder of the checkpoint `name`, one of `RECIPES`; it is there once the checkpoint is made, and whole."""
    return home() / "micro" / f"{name}-{RECIPES[name].fingerprint}"
