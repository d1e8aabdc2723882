"""Where the hub has Whisper's models in CTranslate2's format, by the names that faster-whisper gives them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from connector.interfaces import HubModel

_SIZES = (
    "tiny.en", "tiny", "base.en", "base", "small.en", "small", "medium.en", "medium",
    "large-v1", "large-v2", "large-v3",
)  # fmt: skip
_DISTILLED = ("large-v2", "medium.en", "small.en", "large-v3")

REPOSITORIES: Mapping[str, str] = {
    **{size: f"Systran/faster-whisper-{size}" for size in _SIZES},
    **{f"distil-{size}": f"Systran/faster-distil-whisper-{size}" for size in _DISTILLED},
    "distil-large-v3.5": "distil-whisper/distil-large-v3.5-ct2",
    "large": "Systran/faster-whisper-large-v3",
    "large-v3-turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
    "turbo": "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
}
"""As `faster_whisper.utils` has them, which cannot be asked where the package is not installed."""

FILES = ("config.json", "preprocessor_config.*", "model.bin", "tokenizer.json", "vocabulary.*")
"""What faster-whisper takes of a repository."""


def hub_model(name: str) -> HubModel | None:
    """The hub's model that `name` stands for: a name of faster-whisper's or a repository; None for a folder."""
    repository = REPOSITORIES.get(name, name)
    is_repository = repository.count("/") == 1 and not repository.startswith(("/", ".", "~"))
    if not is_repository or Path(name).is_dir():
        return None
    return HubModel(repository, FILES)
