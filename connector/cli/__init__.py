"""The `voxtrunk` command.

A command is a module of this package with a typer application called `app`; it is imported when
its command runs, so that `voxtrunk --help` starts at once. What all commands share is in
`console`. Exit status: 0 done, 1 a check failed or the work was refused, 2 wrong usage.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

import connector
from connector.errors import VoxtrunkError

COMMANDS = {
    "init": "Write a first voxtrunk.yml.",
    "check": "Check the configuration: every mistake with file, line and what would be right.",
    "doctor": "Find out why it would not work on this machine.",
    "serve": "Take calls.",
    "stack": "Run OpenSIPS, rtpengine and connectors as one.",
    "ready": "Ask the running connector whether it takes calls.",
    "routes": "Show what answers a number, and why.",
    "calls": "Show calls and what went on in them; hang up.",
    "dial": "Call a SIP address: a softphone for tests.",
    "chat": "Talk to a flavor by keyboard.",
    "demo": "Call the demo and talk to it, by itself.",
    "bench": "Measure the media path.",
    "models": "Fetch the models that the flavors in use need.",
    "schema": "Print the JSON Schema of voxtrunk.yml, for editors.",
}
"""Every command with its line in `voxtrunk --help`, in the order shown."""


CONFIG_VARIABLE = "VOXTRUNK_CONFIG"
"""Environment variable that names the configuration file."""


class CommandGroup(typer.core.TyperGroup):
    """Imports a command's module when it is run, and prints documented errors as one message."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # Stand-ins for the list of commands; the command that runs comes from `resolve_command`.
        self.commands = {name: typer.core.TyperCommand(name, help=line) for name, line in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        module = importlib.import_module(f"{__name__}.{name}")
        return name, typer.main.get_command(module.app), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except VoxtrunkError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"voxtrunk {connector.__version__}")
        raise typer.Exit


def _configuration(file: Path | None) -> None:
    """What a command's own `-c` may still overrule."""
    if file:
        os.environ[CONFIG_VARIABLE] = str(file)


app = typer.Typer(cls=CommandGroup, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def voxtrunk(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    file: Annotated[
        Path | None,
        typer.Option(
            "-c",
            "--config",
            metavar="FILE",
            callback=_configuration,
            help="Configuration file; every command that has one takes this option, too.",
        ),
    ] = None,
) -> None:
    """Dial an extension or a trunk number and talk to an AI that runs on your own machine."""


def main() -> None:
    """Entry point of the executable."""
    app(prog_name="voxtrunk")
