"""`voxtrunk routes`: what answers a number, and why."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from connector import config
from connector.cli.console import DEFAULT_CONFIG, AsJson, ConfigFile, console, print_json, print_table
from connector.config.model import Route
from connector.errors import UnknownNumber
from connector.routing import Consideration, Router
from connector.sip.identity import e164

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Show what answers a number, and why.")


@app.callback()
def routes() -> None:
    """Show what answers a number, and why."""


@app.command()
def explain(
    number: Annotated[str, typer.Argument(help="The number called, as the phone or trunk would send it.")],
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show every route as it is considered for NUMBER, and the flavor that answers.

    Exit status 1 where nothing answers.
    """
    settings = config.load(file)
    router = Router(settings)
    called_number = e164(number, settings.identity.region)
    considered = router.explain(number, called_number)
    try:
        decision = router.resolve(number, called_number)
    except UnknownNumber:
        decision = None
    route = decision.route if decision else None
    if as_json:
        print_json(
            {
                "number": number,
                "called_number": called_number,
                "flavor": decision.flavor.name if decision else None,
                "reason": decision.reason if decision else "no route matches, and there is no default",
                "overrides": route.overrides if route else {},
                "considered": [_row(one) for one in considered],
            }
        )
    else:
        print_table(
            ("", "route", "flavor", "with", "outcome", "line"),
            [
                (
                    "->" if one.chosen else "",
                    str(one.route),
                    one.route.flavor.name,
                    _changed(one.route),
                    one.reason,
                    f"{one.route.file}:{one.route.line}",
                )
                for one in considered
            ],
        )
        shown = f"{number} ({called_number})" if called_number not in ("", number) else number
        if decision is None:
            console().print(f"\n{shown}: nothing answers (404 Not Found): no route matches, and there is no default")
        else:
            overrides = f", with {_changed(route)}" if _changed(route) else ""
            console().print(f"\n{shown}: the flavor {decision.flavor.name} answers ({decision.reason}){overrides}")
    if decision is None:
        raise typer.Exit(1)


def _changed(route: Route | None) -> str:
    """The overrides of `route` on one line."""
    return ", ".join(f"{key} = {value}" for key, value in route.overrides.items()) if route else ""


def _row(one: Consideration) -> dict[str, Any]:
    route = one.route
    return {
        "number": route.number,
        "prefix": route.prefix,
        "regex": route.regex.pattern if route.regex else None,
        "flavor": route.flavor.name,
        "overrides": route.overrides,
        "matched": one.matched,
        "chosen": one.chosen,
        "reason": one.reason,
        "file": route.file,
        "line": route.line,
    }
