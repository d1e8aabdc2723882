"""OpenSIPS and rtpengine as they are installed here: where, and which versions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from connector.errors import StackError
from connector.stack.render import MODULE_FOLDERS

OPENSIPS_RELEASES = ("3.6", "4.0")
"""Release lines of OpenSIPS that the scripts are written for."""

OPENSIPS_HINT = """\
Neither Debian nor Ubuntu carries OpenSIPS 3.6 or 4.0; its own package archive does (apt.opensips.org):

    sudo curl -fsSL https://apt.opensips.org/opensips-org.gpg -o /usr/share/keyrings/opensips-org.gpg
    echo "deb [signed-by=/usr/share/keyrings/opensips-org.gpg] https://apt.opensips.org $(. /etc/os-release; \
echo $VERSION_CODENAME) 3.6-releases" | sudo tee /etc/apt/sources.list.d/opensips.list
    sudo apt-get update && sudo apt-get install opensips opensips-auth-modules

One that is installed elsewhere is named with OPENSIPS_BIN=/path/to/sbin/opensips."""
"""How OpenSIPS gets here. opensips-auth-modules holds uac_auth, which b2b_entities needs."""

RTPENGINE_HINT = """\
Debian and Ubuntu carry it:

    sudo apt-get install --no-install-recommends rtpengine-daemon

One that is installed elsewhere is named with RTPENGINE_BIN=/path/to/rtpengine."""

VERSION_SECONDS = 30.0
"""How long a program may take to say its version."""


@dataclass(frozen=True, slots=True)
class Program:
    """An installed program and its version, such as `3.6.8`."""

    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class OpenSips(Program):
    """`modules`: folders where its modules are."""

    modules: tuple[Path, ...]


def find_opensips(environment: Mapping[str, str] = os.environ) -> OpenSips:
    """The OpenSIPS that $OPENSIPS_BIN names, or the one of the PATH.

    Raises StackError that says how to install one, or that this one is too old.
    """
    return opensips_at(_find("opensips", "OPENSIPS_BIN", OPENSIPS_HINT, environment))


def opensips_at(path: Path) -> OpenSips:
    """The OpenSIPS at `path`. Raises StackError where it is none of `OPENSIPS_RELEASES`."""
    version = _version([str(path), "-V"], r"version: opensips ([0-9.]+)")
    if ".".join(version.split(".")[:2]) not in OPENSIPS_RELEASES:
        raise StackError(
            f"{path} is OpenSIPS {version}; {' or '.join(OPENSIPS_RELEASES)} is needed.\n\n{OPENSIPS_HINT}"
        )
    prefix = path.resolve().parent.parent
    beside = [*prefix.glob("lib64/opensips/modules"), *prefix.glob("lib/opensips/modules")]
    beside += prefix.glob("lib/*/opensips/modules")
    return OpenSips(path, version, tuple(beside) or MODULE_FOLDERS)


def find_rtpengine(environment: Mapping[str, str] = os.environ) -> Program:
    """The rtpengine that $RTPENGINE_BIN names, or the one of the PATH. Raises StackError: how to install one."""
    path = _find("rtpengine", "RTPENGINE_BIN", RTPENGINE_HINT, environment)
    return Program(path, _version([str(path), "--version"], r"Version: ([0-9.]+)"))


def _find(name: str, variable: str, hint: str, environment: Mapping[str, str]) -> Path:
    named = environment.get(variable)
    # Debian has daemons in folders that only root has in its PATH.
    search = os.pathsep.join((environment.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
    path = shutil.which(named or name, path=search)
    if path is None:
        raise StackError(
            f"${variable} names {named}, which is no program." if named else f"{name} is not installed. {hint}"
        )
    return Path(path)


def _version(command: list[str], pattern: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=VERSION_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"{command[0]} does not run: {error}") from error
    match = re.search(pattern, done.stdout + done.stderr)
    if match is None:
        raise StackError(f"{' '.join(command)} does not say its version")
    return match[1].rstrip(".")
