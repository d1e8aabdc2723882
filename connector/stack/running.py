"""A run folder has one stack, and a running one takes up what changed in voxtrunk.yml."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from connector.config.model import Settings
from connector.errors import StackError
from connector.interfaces import Clock
from connector.stack.components import opensips_of
from connector.stack.control import mi_of
from connector.stack.render import MODULE_FOLDERS, render, write

LOCK = "lock"
"""File of the run folder that its supervisor holds; the kernel lets go of it, however that ends."""

READ_AT_START = {"modules.cfg": "OpenSIPS", "edge-site.cfg": "the edge", "rtpengine.conf": "rtpengine"}
"""What a running program does not read again."""


@contextmanager
def exclusive(run: Path) -> Iterator[None]:
    """Holds the run folder. Raises StackError where another supervisor does."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = (run / LOCK).open("a")
    except OSError as error:
        raise StackError(f"{error.filename}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(
                f"another `voxtrunk stack up` runs in {run}: stop it, or name another folder as opensips.run"
            ) from error
        yield


def render_into(settings: Settings, modules: Sequence[Path] = MODULE_FOLDERS) -> list[str]:
    """Writes what `settings` ask for into the run folder; the names of the files that are new or other than before.

    Raises StackError.
    """
    site = opensips_of(settings)
    files = render(site, modules)
    changed = [name for name, text in files.items() if _read(site.run / name) != text]
    write(site.run, files)
    return changed


def needing_restart(changed: Sequence[str]) -> list[str]:
    """Programs that take up the files `changed` only when they start again, in words."""
    named: Mapping[str, str] = READ_AT_START
    uas = [f"the UA in {name.partition('/')[0]}" for name in changed if name.endswith("/ua-site.cfg")]
    return [*(named[name] for name in changed if name in named), *uas]


async def reload(settings: Settings, clock: Clock) -> None:
    """Has the edge read its tables again, and the limit of calls per second; calls in progress go on.

    Raises MediaError and MiError.
    """
    edge = opensips_of(settings).edge
    async with mi_of(edge.mi, clock) as mi:
        await mi.call("address_reload")
        await mi.call("ds_reload")
        await mi.call("shv_set", name="calls_per_second", type="int", value=edge.calls_per_second)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None
