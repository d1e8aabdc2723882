"""The models' files, from the Hugging Face hub: once, with progress shown, and on from where it was cut off."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import cast

log = logging.getLogger(__name__)

_TURBO = "ResembleAI/chatterbox-turbo"
_CHATTERBOX = "ResembleAI/chatterbox"
_SOURCES: dict[str, tuple[str, tuple[str, ...]]] = {
    "turbo": (_TURBO, ("*.safetensors", "*.json", "*.txt", "*.pt", "*.model")),
    "standard": (
        _CHATTERBOX,
        ("ve.safetensors", "t3_cfg.safetensors", "s3gen.safetensors", "tokenizer.json", "conds.pt"),
    ),
    "multilingual": (
        _CHATTERBOX,
        (
            "ve.pt",
            "t3_mtl23ls_v2.safetensors",
            "s3gen.pt",
            "grapheme_mtl_merged_expanded_v1.json",
            "conds.pt",
            "Cangjie5_TC.json",
        ),
    ),
}
"""Repository and files of each model, as chatterbox-tts 0.1.7 asks for them."""


class ModelUnavailable(Exception):
    """The model cannot be had, and what would help."""


def model_folder(model: str, *, download: bool = True) -> Path:
    """The folder with the model's files, in the Hugging Face cache (HF_HOME); what is missing is downloaded.

    Files that are there are used when the hub is out of reach. Raises `ModelUnavailable`.
    """
    # Here, and not above: it takes a second.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    # OSError, and the base of all errors of the HTTP client, which is not the same in all versions.
    failures = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)
    repository, files = _SOURCES[model]
    token = os.environ.get("HF_TOKEN") or False
    log.info("looking for the model's files repository=%s download=%s", repository, download)
    try:
        folder = snapshot_download(repository, allow_patterns=[*files], token=token, local_files_only=not download)
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise ModelUnavailable(
            f"the hub does not give {repository} to you: set HF_TOKEN to a token that may read it,"
            f" and accept its terms at https://huggingface.co/{repository}"
        ) from error
    except LocalEntryNotFoundError as error:
        reason = "and the hub cannot be reached" if download else "and --no-download was given"
        raise ModelUnavailable(
            f"the files of {repository} are not in the cache, {reason}: check the network, or name a --folder with them"
        ) from error
    except failures as error:
        raise ModelUnavailable(f"downloading {repository} failed; start again to go on: {error}") from error
    return Path(folder)
