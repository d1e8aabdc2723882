"""What the commands share: common options, and output for people or for programs.

Standard output holds what was asked for: text, or with `--json` one JSON document. Errors go to
standard error. Colours appear on terminals only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from connector import config
from connector.cli import CONFIG_VARIABLE
from connector.config.model import Settings

ConfigFile = Annotated[
    Path, typer.Option("-c", "--config", metavar="FILE", envvar=CONFIG_VARIABLE, help="Configuration file.")
]
"""`-c FILE`; give it the default `DEFAULT_CONFIG`."""

DEFAULT_CONFIG = Path("voxtrunk.yml")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
"""`--json`; give it the default False."""

PIPE_WIDTH = 200
"""Columns of a table that is not printed on a terminal."""

STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}
"""Colours of the verdicts that tables show."""


def console(*, stderr: bool = False) -> Console:
    """A console for text without markup: what a file or a caller wrote is printed as it is."""
    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    return made if made.is_terminal else Console(stderr=stderr, markup=False, highlight=False, width=PIPE_WIDTH)


def counted(number: int, noun: str) -> str:
    """`1 call`, `2 calls`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def settings_of(file: Path) -> Settings:
    """What `file` says; the built-in settings where it is the default one and not there. Raises ConfigError."""
    return config.builtin_settings() if file == DEFAULT_CONFIG and not file.exists() else config.load(file)


def print_json(value: Any) -> None:
    """Prints `value` as one JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table; cells that are verdicts are coloured."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in row))
    console().print(table)
