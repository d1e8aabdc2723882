"""`voxtrunk doctor`: why it would not work on this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from connector import config
from connector.app import SystemClock
from connector.cli.console import DEFAULT_CONFIG, AsJson, ConfigFile, console, print_json, print_table
from connector.cli.doctor.engines import check_engines, engines_in_use
from connector.cli.doctor.findings import Finding, Verdict
from connector.cli.doctor.gpu import check_gpu_box
from connector.cli.doctor.machine import check_codecs, check_media, check_port, check_python, check_records
from connector.cli.doctor.running import check_running
from connector.cli.doctor.softswitch import check_softswitch
from connector.config.model import Settings
from connector.errors import ConfigError

app = typer.Typer(add_completion=False)


@app.command()
def doctor(
    file: ConfigFile = DEFAULT_CONFIG,
    seconds: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds that an engine may take to be ready.")
    ] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Check the configuration, the machine and every engine in use, and name the cause of what is wrong.

    Exit status 1 where a check failed.
    """
    findings = list(_examine(file, seconds))
    ok = all(finding.verdict is not Verdict.FAILED for finding in findings)
    rows = [(one.check, one.verdict.value, one.cause, one.remedy) for one in findings]
    if as_json:
        keys = ("check", "verdict", "cause", "remedy")
        print_json({"ok": ok, "checks": [dict(zip(keys, row, strict=True)) for row in rows]})
    else:
        print_table(("check", "verdict", "cause", "remedy"), rows)
    if not ok:
        raise typer.Exit(1)


def _examine(file: Path, seconds: float) -> Iterator[Finding]:
    """Every check in turn; those that need a configuration are left out where it is wrong."""
    yield check_python()
    try:
        settings = config.load(file)
    except ConfigError as error:
        for problem in error.problems:
            cause = f"{problem.file}:{problem.line}: {problem.key}: {problem.message}"
            yield Finding("configuration", Verdict.FAILED, cause, problem.hint)
        yield Finding("ports, disk, engines", Verdict.SKIPPED, "they need a configuration without problems")
        return
    yield Finding("configuration", Verdict.OK, str(file))
    for warning in settings.warnings:
        cause = f"{warning.file}:{warning.line}: {warning.key}: {warning.message}"
        yield Finding("configuration", Verdict.WARNING, cause, warning.hint)
    if settings.opensips is None:
        yield check_port("SIP port", "sip.listen", socket.SOCK_DGRAM, *settings.sip.address)
        yield check_media(settings.media, settings.sip.address[0])
        yield check_port("HTTP port", "http.listen", socket.SOCK_STREAM, *settings.http.address)
    else:
        yield from check_softswitch(settings, settings.opensips)
        yield from asyncio.run(check_running(settings, settings.opensips, SystemClock()))
    yield check_codecs(settings.media)
    yield check_records(settings.records)
    yield from _examine_engines(settings, seconds)


def _examine_engines(settings: Settings, seconds: float) -> list[Finding]:
    used = engines_in_use(settings, config.engine_descriptors())
    findings = list(check_gpu_box(settings, used))
    names = ", ".join(engine.descriptor.name for engine in used)
    with console(stderr=True).status(f"starting {names}"):
        return findings + asyncio.run(check_engines(settings, used, seconds))
