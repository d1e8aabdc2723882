"""`voxtrunk schema`: the JSON Schema of the configuration."""

from __future__ import annotations

from typing import Annotated

import typer

from connector import config
from connector.cli.console import print_json

app = typer.Typer(add_completion=False)


@app.command()
def schema(
    flavor: Annotated[bool, typer.Option("--flavor", help="The schema of a flavor file instead.")] = False,
) -> None:
    """Print the JSON Schema of voxtrunk.yml, with the options of every installed engine.

    Editors check against it when the first line of the file is `# yaml-language-server: $schema=FILE`.
    """
    print_json(config.flavor_schema() if flavor else config.json_schema())
