"""Makes the micro checkpoints that are not made yet: `python -m tests.engines.checkpoints [NAME...]`.

They are trained on one thread, from fixed seeds, for a fixed number of steps, so that they come out the same; one that
did not learn is not kept.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from tests.engines.checkpoints import store

Report = Callable[[str], None]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.engines.checkpoints", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(store.RECIPES)}; default: all")
    parser.add_argument("--where", action="store_true", help="print where they lie, and make nothing")
    options = parser.parse_args()
    names = options.names or list(store.RECIPES)
    if unknown := set(names) - set(store.RECIPES):
        parser.error(f"no checkpoint is called {', '.join(sorted(unknown))}; there are {', '.join(store.RECIPES)}")
    for name in names:
        folder = store.folder(name)
        if options.where:
            print(name, folder)
        elif not folder.is_dir():
            _make(name, folder)


def _make(name: str, folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the libraries' own deprecations
    start = time.monotonic()

    def report(what: str) -> None:
        print(f"{name:<16} {time.monotonic() - start:4.0f} s  {what}", file=sys.stderr, flush=True)

    recipe = store.RECIPES[name]
    make: Callable[[Path, Report], None] = getattr(importlib.import_module(recipe.module), recipe.function)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    report("begins")
    try:
        make(partial, report)
    except ValueError as error:
        sys.exit(f"{name}: {error}")
    for former in folder.parent.glob(f"{name}-{'?' * len(recipe.fingerprint)}"):
        shutil.rmtree(former)
    partial.rename(folder)
    report(f"made: {folder}")


if __name__ == "__main__":
    main()
