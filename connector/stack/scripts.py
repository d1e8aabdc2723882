"""The fixed scripts of OpenSIPS and rtpengine: in a checkout beside this package, else where its wheel put them."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import connector
from connector.errors import StackError

FOLDERS = {"edge.cfg": "opensips", "ua.cfg": "opensips", "rtpengine.conf": "rtpengine"}
"""Folder of each script."""


def script(name: str) -> str:
    """Text of the script `name`. Raises StackError where the installation lacks it."""
    beside = Path(connector.__file__).parent.parent / FOLDERS[name] / name
    installed = importlib.metadata.files("voxtrunk") or ()
    candidates = [beside, *(Path(str(file.locate())) for file in installed if file.name == name)]
    for path in candidates:
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise StackError(f"{name} is missing from this installation: install voxtrunk again")
