"""`${NAME}`, `${NAME:-default}` and `${file:/path}` in the text of a configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from connector.config.report import Unusable, shown

LONGEST_FILE = 65_536
"""Bytes of a file that `${file:PATH}` may bring in."""

_REFERENCE = r"\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?)\}"
_DOLLAR = re.compile(rf"(?P<escaped>\$\$\{{)|{_REFERENCE}|(?P<broken>\$\{{)")


def is_reference(text: str) -> bool:
    """True where the value is in the environment or in a file, and no part of it in `text`."""
    match = re.fullmatch(_REFERENCE, text)
    return match is not None and not match["default"]


class References:
    """What references lead to: the environment `variables`, and files; a relative path begins at `folder`."""

    def __init__(self, variables: Mapping[str, str], folder: Path) -> None:
        self._variables = variables
        self._folder = folder

    def resolve(self, text: str) -> str:
        """`text` with its references replaced, and `$${` by `${`. Raises Unusable."""
        return _DOLLAR.sub(self._replacement, text)

    def _replacement(self, match: re.Match[str]) -> str:
        if match["escaped"]:
            return "${"
        if match["broken"]:
            raise Unusable(
                "${ begins no reference",
                "write ${NAME}, ${NAME:-default} or ${file:/path}, and $${ for the characters themselves",
            )
        if match["file"]:
            return self._content(self._folder / match["file"])
        name, default = match["name"], match["default"]
        value = self._variables.get(name, default)
        if value is None:
            raise Unusable(f"the environment variable {name} is not set", f"set it, or write ${{{name}:-default}}")
        # As in a shell, `:-` also stands in for a variable that is set and empty.
        return value or default or ""

    def _content(self, path: Path) -> str:
        hint = "name a file that holds the value alone"
        try:
            if path.exists() and not path.is_file():
                raise Unusable(f"{shown(str(path))} is no regular file", hint)
            with path.open("rb") as file:
                return file.read(LONGEST_FILE).decode().rstrip("\r\n")
        except OSError as error:
            raise Unusable(f"{shown(str(path))} cannot be read: {error.strerror}", hint) from error
        except ValueError as error:
            raise Unusable(f"{shown(str(path))} does not hold text in UTF-8", hint) from error
