"""`voxtrunk check`: is the configuration right?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import typer

from connector import config
from connector.cli.console import DEFAULT_CONFIG, AsJson, ConfigFile, console, counted, print_json
from connector.cli.doctor.engines import engines_in_use, missing_packages
from connector.config.model import Settings
from connector.errors import ConfigError, Problem
from connector.routing import shadowed

app = typer.Typer(add_completion=False)


@app.command()
def check(file: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Check the configuration: every mistake with file, line, key and what would be right.

    Exit status 1 where something is wrong; warnings alone do not change it.
    """
    settings: Settings | None = None
    warnings: Sequence[Problem] = ()
    try:
        settings = config.load(file)
        problems = _packages(settings)
        warnings = [*settings.warnings, *shadowed(settings)]
    except ConfigError as error:
        problems = error.problems
    if as_json:
        print_json(
            {
                "ok": not problems,
                "problems": [asdict(problem) for problem in problems],
                "warnings": [asdict(warning) for warning in warnings],
            }
        )
    else:
        for warning in warnings:
            console().print(f"warning: {warning}", style="yellow", soft_wrap=True)
        for problem in problems:
            console().print(str(problem), style="red", soft_wrap=True)
        if settings is not None and not problems:
            console().print(_summary(settings))
        else:
            console(stderr=True).print(f"{file}: {counted(len(problems), 'problem')}")
    if problems:
        raise typer.Exit(1)


def _packages(settings: Settings) -> list[Problem]:
    """Engines in use that cannot be loaded, as problems of the routes that lead to them."""
    used = engines_in_use(settings, config.engine_descriptors())
    return [
        Problem(
            str(settings.file),
            1,
            f"flavors.{engine.flavors[0]}.{engine.descriptor.kind.value}",
            error.message,
        )
        for engine, error in missing_packages(settings, used)
    ]


def _summary(settings: Settings) -> str:
    numbers = counted(len(settings.routes), "route")
    default = f"default {settings.default.name}" if settings.default else "no default"
    flavors = counted(len(settings.flavors), "flavor")
    return f"{settings.file}: no problem found; {numbers}, {default}, {flavors} to choose from"
