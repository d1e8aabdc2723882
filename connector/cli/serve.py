"""`voxtrunk serve`: take calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from connector import config
from connector.app import App, settle
from connector.cli.console import DEFAULT_CONFIG, AsJson, ConfigFile, console, print_table
from connector.cli.doctor.findings import Verdict
from connector.cli.doctor.machine import check_port
from connector.cli.logs import logging_to_stderr, printable
from connector.cli.notify import service
from connector.cli.turns import print_turns
from connector.config.model import Settings
from connector.errors import MediaError
from connector.interfaces import CallInfo
from connector.leg.embedded import listen_address
from connector.record import CallRecord, Disk, Turn
from connector.routing import shadowed
from connector.sip.message import hostport

log = logging.getLogger(__name__)

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    file: ConfigFile = DEFAULT_CONFIG,
    listen: Annotated[
        str | None, typer.Option(metavar="ADDRESS:PORT", help="Where to listen for SIP, instead of sip.listen.")
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Serve this pair (opensips.pairs) instead of the first one."),
    ] = None,
    drain: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="On SIGTERM, calls in progress may go on for so long.")
    ] = 30.0,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log JSON lines to standard error.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take calls until stopped.

    SIGTERM (and Ctrl-C) lets calls in progress end and refuses new ones; the second one hangs up.
    With --json, standard output has one line for each call: its record.
    """
    settings = config.of_pair(config.load(file, {} if listen is None else {"sip.listen": listen}), pair)
    with logging_to_stderr(as_json=log_json, verbose=verbose):
        for warning in (*settings.warnings, *shadowed(settings)):
            log.warning("configuration", extra={"warning": str(warning)})
        try:
            asyncio.run(_serve(settings, drain, as_json=as_json))
        except MediaError as error:
            raise MediaError("\n".join((str(error), *_obstacles(settings)))) from error


def _obstacles(settings: Settings) -> list[str]:
    """What keeps us from listening where we should, and who, and what to do about it."""
    sip = ("sip.listen", settings.sip.listen) if settings.pair is None else ("opensips.pairs", settings.pair.events)
    sockets = ((sip[0], socket.SOCK_DGRAM, sip[1]), ("http.listen", socket.SOCK_STREAM, settings.http.listen))
    findings = [check_port(key, key, kind, *listen_address(listen)) for key, kind, listen in sockets]
    return [
        f"{finding.check}: {finding.cause}: {finding.remedy}"
        for finding in findings
        if finding.verdict is Verdict.FAILED
    ]


async def _serve(settings: Settings, drain: float, *, as_json: bool) -> None:
    output = Disk()
    reporter = Reporter(output, settings.records.directory, as_json=as_json)
    try:
        async with App(settings, monitors=[reporter]) as application:
            settle()
            if not as_json:
                _print_what_to_dial(application)
            async with service():
                await run_until_stopped(application.failure, partial(application.drain, drain))
    finally:
        await output.aclose()


async def run_until_stopped(failure: Callable[[], Awaitable[None]], drain: Callable[[], Awaitable[None]]) -> None:
    """Waits for SIGTERM or SIGINT and then for `drain`, or for a second signal; raises what `failure` does."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[None] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, None)
    try:
        await _first(failure(), signals.get())
        await _first(failure(), drain(), signals.get())
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _first(*waits: Awaitable[None]) -> None:
    """Returns or raises as the first of `waits` does; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    for task in done:
        task.result()


def _print_what_to_dial(application: App) -> None:
    local, http = application.local, application.http
    if local is None or http is None:
        return
    settings = application.settings
    ready = f"http://{hostport(http)}/readyz"
    if settings.opensips is None or settings.pair is None:
        address = hostport(local)
        console().print(f"Listening for SIP on {address} (UDP); {ready}")
    else:
        address = settings.opensips.edge.listen[0].partition(":")[2]
        ua = f"the UA at {hostport(local)}, MI at {settings.pair.mi}"
        console().print(f"Pair {settings.pair.name} behind OpenSIPS: {ua}; {ready}")
    rows = [
        (
            f"sip:{route.number}@{address}" if route.number is not None else str(route),
            route.flavor.name,
            application.problem(route.flavor) or "ready",
        )
        for route in settings.routes
    ]
    if settings.default is not None:
        rows.append(("any other number", settings.default.name, application.problem(settings.default) or "ready"))
    print_table(("dial", "flavor", "state"), rows)


class Reporter:
    """A `CallMonitor` that prints each call at its end: a table of its turns, or its record as JSON.

    The thread of `output` writes: whoever reads standard output and stops reading holds up no call.
    """

    def __init__(self, output: Disk, records: Path, *, as_json: bool) -> None:
        self._output = output
        self._records = records
        self._as_json = as_json

    def began(self, info: CallInfo) -> None:
        """Logged by the call itself."""

    def answered(self, info: CallInfo, flavor: str) -> None:
        """Logged by the call itself."""

    def turn(self, info: CallInfo, turn: Turn) -> None:
        """Logged by the call itself."""

    def ended(self, info: CallInfo, record: CallRecord) -> None:
        if self._as_json:
            self._output.post(partial(typer.echo, record.json_line()))
        else:
            self._output.post(partial(print_call, record, self._records))


def print_call(record: CallRecord, records: Path) -> None:
    """Prints one call: who, how it ended, the table of its turns, and its files in the folder `records`."""
    who = f"{record.calling or 'unknown'} → {record.called}"
    how = f"{record.disposition.value}, ended by {record.ended_by.value}: {record.reason}"
    console().print(f"\n{printable(who)}: {printable(how)}, {record.duration_seconds:.1f} s")
    print_turns(record.turns)
    for name in (record.files.recording, record.files.transcript):
        if name is not None:
            console().print(str(records / name))
