"""`voxtrunk ready`: does the running connector take calls, for health checks and scripts."""

from __future__ import annotations

import typer

from connector.cli.calls import PairName, connector_of
from connector.cli.console import DEFAULT_CONFIG, AsJson, ConfigFile, console, print_json, settings_of

app = typer.Typer(add_completion=False)


@app.command()
def ready(pair: PairName = None, file: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Ask the running connector whether it takes calls. Exit status 1, with the reasons, where it does not."""
    readiness = connector_of(settings_of(file), pair).readiness()
    if as_json:
        print_json(readiness.model_dump(mode="json"))
    else:
        reasons = ["it is stopping"] if readiness.draining else []
        reasons += [readiness.problem] if readiness.problem else []
        reasons += [f"{flavor}: {problem}" for flavor, problem in readiness.flavors.items() if problem]
        console().print("ready" if readiness.ready else f"not ready{''.join(f'; {reason}' for reason in reasons)}")
    if not readiness.ready:
        raise typer.Exit(1)
