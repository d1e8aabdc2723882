"""`voxtrunk stack`: OpenSIPS, rtpengine and connectors as one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from connector import config
from connector.app import SystemClock
from connector.cli.console import DEFAULT_CONFIG, AsJson, ConfigFile, console, print_json, print_table
from connector.cli.doctor.findings import Verdict
from connector.cli.doctor.machine import check_port
from connector.cli.serve import run_until_stopped
from connector.config.model import Settings
from connector.errors import StackError
from connector.stack import running
from connector.stack.components import components, opensips_of
from connector.stack.logview import LogView
from connector.stack.ports import nftables
from connector.stack.ports import ports as stack_ports
from connector.stack.programs import find_opensips, find_rtpengine
from connector.stack.render import MODULE_FOLDERS
from connector.stack.status import status as stack_status
from connector.stack.supervisor import Component, Supervisor

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Run OpenSIPS, rtpengine and connectors as one.")


@app.callback()
def stack() -> None:
    """Run OpenSIPS, rtpengine and connectors as one."""


@app.command()
def up(
    file: ConfigFile = DEFAULT_CONFIG,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this program, such as edge, ua-a, rtpengine or connector-a."),
    ] = None,
) -> None:
    """Start rtpengine, OpenSIPS and the connectors, show their logs, and restart what dies, until stopped.

    SIGTERM (and Ctrl-C) stops them in order, and connectors let calls in progress end; the second
    one hurries. Logs are kept in the run folder too.
    """
    settings = config.load(file)
    opensips = find_opensips()
    wanted = components(settings, opensips, find_rtpengine(), SystemClock())
    chosen = [component for component in wanted if not only or component.name in only]
    unknown = set(only or ()) - {component.name for component in wanted}
    if unknown:
        names = ", ".join(component.name for component in wanted)
        raise StackError(f"there is no {', '.join(sorted(unknown))}; there are {names}")
    run = opensips_of(settings).run
    with contextlib.nullcontext() if only else running.exclusive(run):
        running.render_into(settings, opensips.modules)
        if not only:
            _check_ports(settings)
        asyncio.run(_up(settings, chosen))


async def _up(settings: Settings, chosen: Sequence[Component]) -> None:
    names = [component.name for component in chosen]
    async with LogView(opensips_of(settings).run / "log", names, sys.stdout) as view:
        supervisor = Supervisor(chosen, view)
        starting = asyncio.create_task(supervisor.start())

        async def failure() -> None:
            await asyncio.shield(starting)
            await asyncio.Event().wait()

        async def drain() -> None:
            starting.cancel()
            await asyncio.wait([starting])
            await supervisor.stop()

        try:
            await run_until_stopped(failure, drain)
        finally:
            starting.cancel()
            await asyncio.wait([starting])
            await supervisor.stop(0)


def _check_ports(settings: Settings) -> None:
    """Raises StackError that names who has a port that we need."""
    findings = []
    for port in stack_ports(settings):
        if port.ports.isdigit():
            kind = socket.SOCK_DGRAM if port.transport == "udp" else socket.SOCK_STREAM
            findings.append(check_port(port.purpose, port.setting, kind, port.address, int(port.ports)))
    failed = [finding for finding in findings if finding.verdict is Verdict.FAILED]
    if failed:
        raise StackError("\n".join(f"{finding.check}: {finding.cause}: {finding.remedy}" for finding in failed))


@app.command()
def render(file: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Write what OpenSIPS and rtpengine read into the run folder, and start nothing."""
    settings = config.load(file)
    try:
        modules = find_opensips().modules
    except StackError:
        # They may run elsewhere, in containers for instance.
        modules = MODULE_FOLDERS
    changed = running.render_into(settings, modules)
    _print_changes(settings, changed, as_json=as_json)


@app.command()
def reload(file: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Render, and have the running edge take up who may call, the pairs and the rate limit. No call is touched."""
    settings = config.load(file)
    try:
        modules = find_opensips().modules
    except StackError:
        modules = MODULE_FOLDERS
    changed = running.render_into(settings, modules)
    asyncio.run(running.reload(settings, SystemClock()))
    _print_changes(settings, changed, as_json=as_json)


def _print_changes(settings: Settings, changed: Sequence[str], *, as_json: bool) -> None:
    run = opensips_of(settings).run
    restart = running.needing_restart(changed)
    if as_json:
        print_json({"run": str(run), "changed": list(changed), "restart": restart})
        return
    console().print(f"{run}: {', '.join(changed)}" if changed else f"{run}: nothing changed", soft_wrap=True)
    if restart:
        console().print(f"Takes effect when restarted: {', '.join(restart)}", soft_wrap=True)


@app.command()
def status(file: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Ask each program how it is. Exit status 1 where one does not work."""
    found = asyncio.run(stack_status(config.load(file), SystemClock()))
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        print_table(
            ("program", "state", "", "facts"),
            [
                (
                    one.name,
                    "ok" if one.problem is None else "failed",
                    one.problem or "",
                    ", ".join(f"{key.replace('_', ' ')}: {_words(value)}" for key, value in one.facts.items()),
                )
                for one in found
            ],
        )
    if any(one.problem for one in found):
        raise typer.Exit(1)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={member}" for key, member in value.items())
    return "many" if value is None else str(value)


@app.command()
def ports(file: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """Show every port, who must reach it, and the firewall rules for that (nftables)."""
    found = stack_ports(config.load(file))
    if as_json:
        print_json({"ports": [asdict(port) for port in found], "nftables": nftables(found)})
        return
    print_table(
        ("port", "address", "what", "for", "setting"),
        [(f"{port.ports}/{port.transport}", port.address, port.purpose, port.peers, port.setting) for port in found],
    )
    console().print(f"\n{nftables(found)}", soft_wrap=True)
