"""`voxtrunk models`: fetch and list the models that the engines in use need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from connector import config
from connector.cli.console import DEFAULT_CONFIG, AsJson, ConfigFile, console, print_json, print_table, settings_of
from connector.config import hub, models_cache
from connector.config.model import SPARED, EngineChoice, Flavor
from connector.interfaces import EngineKind, HubModel, ModelFile

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Fetch the models that the flavors in use need.")

Model = ModelFile | HubModel

STEP_PERCENT = 10
"""Where there is no terminal, progress is told in such steps."""

Named = Annotated[
    list[str] | None,
    typer.Option(
        "--hub",
        metavar="ORGANISATION/NAME[:PATTERN,...]",
        help="A model of the Hugging Face hub, for a server such as vLLM, and no other. May be repeated.",
    ),
]


@app.command()
def fetch(file: ConfigFile = DEFAULT_CONFIG, named: Named = None, as_json: AsJson = False) -> None:
    """Fetch what is missing, proven by hash. What is there already is left alone, what broke off goes on.

    Models of the hub, and turn detectors: of the flavors that a number leads to. Other files from PyPI: of every
    flavor; without a configuration file, of those that come with voxtrunk.
    """
    folder, models = _needed(file, named or ())
    results = []
    for model in models:
        with _progress(f"{_name(model)} from {_source(model)}", _name(model)) as progress:
            fetched = _fetch(model, folder, progress)
        results.append((model, "fetched" if fetched else "present"))
        if not as_json:
            console().print(f"{folder / _name(model)}: {results[-1][1]}")
    if as_json:
        print_json({"folder": str(folder), "models": [_row(model, state) for model, state in results]})


@app.command("list")
def list_models(file: ConfigFile = DEFAULT_CONFIG, named: Named = None, as_json: AsJson = False) -> None:
    """List the models that the configuration needs, and whether they are there. Exit status 1 where one is missing."""
    folder, models = _needed(file, named or ())
    states = [(model, "present" if _is_present(model, folder) else "missing") for model in models]
    if as_json:
        print_json({"folder": str(folder), "models": [_row(model, state) for model, state in states]})
    else:
        rows = [(str(folder / _name(model)), state, _source(model)) for model, state in states]
        print_table(("model", "state", "from"), rows)
    if any(state == "missing" for _, state in states):
        raise typer.Exit(1)


# --------------------------------------------------------------------------------------- both kinds of models


def _name(model: Model) -> str:
    """Where it lies in the models folder."""
    return model.name if isinstance(model, ModelFile) else str(model.folder(Path()))


def _source(model: Model) -> str:
    return f"{model.package} {model.version}" if isinstance(model, ModelFile) else f"the hub, {model.revision}"


def _row(model: Model, state: str) -> dict[str, str]:
    if isinstance(model, ModelFile):
        return {"name": model.name, "state": state, "package": model.package, "version": model.version}
    return {"name": _name(model), "state": state, "repository": model.repository, "revision": model.revision}


def _is_present(model: Model, folder: Path) -> bool:
    if isinstance(model, ModelFile):
        return models_cache.is_present(model, folder)
    return hub.is_present(model, folder)


def _fetch(model: Model, folder: Path, progress: models_cache.Progress) -> bool:
    if isinstance(model, ModelFile):
        return models_cache.fetch(model, folder, progress)
    return hub.fetch(model, folder, progress)


# --------------------------------------------------------------------------------------- which are needed


def _needed(file: Path, named: Sequence[str]) -> tuple[Path, tuple[Model, ...]]:
    """The models folder; those that are `named`, or else what the flavors of `file` need."""
    settings = settings_of(file)
    if named:
        return settings.models, tuple(map(hub.hub_model, named))
    descriptors = config.engine_descriptors()
    needed: list[Model] = []
    for kind, choice in _rungs(settings.flavors.values()):
        if kind not in SPARED:
            needed += descriptors[choice.engine].models(choice.options)
    for _, choice in _rungs(flavor for _, flavor in settings.answering):
        needed += descriptors[choice.engine].models(choice.options)
        needed += descriptors[choice.engine].hub(choice.options)
    return settings.models, tuple(dict.fromkeys(needed))


def _rungs(flavors: Iterable[Flavor]) -> Iterator[tuple[EngineKind, EngineChoice]]:
    return (rung for flavor in flavors for rung in flavor.rungs)


# --------------------------------------------------------------------------------------- progress


@contextmanager
def _progress(description: str, name: str) -> Iterator[models_cache.Progress]:
    """On standard error: a bar on a terminal, lines elsewhere, such as in a container's log."""
    stderr = console(stderr=True)
    if not stderr.is_terminal:
        yield _lines(name, stderr.print)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(name: str, show: Callable[[str], None]) -> models_cache.Progress:
    """Progress that shows a line for each step of `STEP_PERCENT`; none where the size is unknown."""
    told = -1

    def progress(done: int, total: int | None) -> None:
        nonlocal told
        step = 100 * done // total // STEP_PERCENT if total else -1
        if step > told:
            told = step
            show(f"{name}: {step * STEP_PERCENT} % of {(total or 0) / 1e9:.1f} GB")

    return progress
