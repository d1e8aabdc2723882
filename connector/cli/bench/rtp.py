"""`voxtrunk bench rtp`: legs of plain RTP, for whatever generates it.

Each leg runs a flavor for whoever sends to its port. With `--flavor echo` an RTP generator measures
the media path, with any other a caller simulator the conversation. A leg serves one caller after
another: when RTP stops, it waits for the next.
"""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from connector import config
from connector.app import App, SystemClock, settle
from connector.audio import FRAME_SECONDS
from connector.cli.console import DEFAULT_CONFIG, ConfigFile, settings_of
from connector.cli.logs import logging_to_stderr
from connector.config.model import HttpSettings, RecordSettings, Settings, SipSettings
from connector.errors import EngineError, MediaError
from connector.interfaces import CallInfo, Clock
from connector.leg.plain_rtp import PCMU_TYPE, TELEPHONE_EVENT_TYPE, PlainRtpLeg
from connector.leg.rtp_audio import MediaTarget
from connector.record import CallRecord, Turn
from connector.udp.ports import PortPool

ANYBODY = MediaTarget("0.0.0.0", 0, "PCMU", PCMU_TYPE, TELEPHONE_EVENT_TYPE, learn=True)  # noqa: S104 - nothing is bound
"""Whoever sends first is the caller."""

TIMEOUT_SECONDS = 2.0
"""A caller who sent nothing for this long has gone."""


def rtp(
    flavor: Annotated[str, typer.Option("--flavor", metavar="NAME", help="What each leg runs.")] = "echo",
    calls: Annotated[int, typer.Option("--calls", min=1, max=1000, help="How many legs to open.")] = 1,
    base_port: Annotated[
        int | None,
        typer.Option("--base-port", min=1024, max=65534, help="RTP port of the first leg; the next ones lie 2 apart."),
    ] = None,
    records: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep transcripts and records there (default: none is kept).")
    ] = None,
    file: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Open legs of plain RTP (PCMU, symmetric, 127.0.0.1), print {"ports": [...]} as one line, run until stopped."""
    settings = settings_of(file)
    with (
        tempfile.TemporaryDirectory(prefix="voxtrunk-bench-") as scratch,
        logging_to_stderr(as_json=False, verbose=False),
    ):
        asyncio.run(_serve(only(settings, flavor, calls, records or Path(scratch)), calls, base_port))


def only(settings: Settings, flavor: str, calls: int, records: Path, *, audio: bool = False) -> Settings:
    """`settings` with this one flavor for all calls, on ports that nobody knows; recorded where `audio` says so."""
    return settings.model_copy(
        update={
            "sip": SipSettings(listen="127.0.0.1:0", max_calls=calls),
            "http": HttpSettings(listen="127.0.0.1:0"),
            "records": RecordSettings(directory=records, audio=audio),
            "routes": (),
            "default": config.flavor_named(settings, flavor),
        }
    )


async def _serve(settings: Settings, calls: int, base_port: int | None) -> None:
    clock = SystemClock()
    ends = Ends()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with App(settings, clock, monitors=[ends]) as application:
        if problems := [problem for problem in application.readiness().flavors.values() if problem]:
            raise EngineError("bench", "; ".join(problems))
        pools = _pools(settings, calls, base_port)
        legs = [await _open(application, pool, clock) for pool in pools]
        settle()
        typer.echo(json.dumps({"ports": [leg.rtp.local[1] for leg in legs]}))
        serving = [asyncio.create_task(_one_after_another(application, leg, ends, clock)) for leg in legs]
        await stopped.wait()
        for task in serving:
            task.cancel()
        await asyncio.wait(serving)
        await application.drain(0)


def _pools(settings: Settings, calls: int, base_port: int | None) -> list[PortPool]:
    """Where each leg takes its port from."""
    if base_port is None:
        return [PortPool.from_range(settings.media.ports)] * calls
    first = base_port + base_port % 2
    return [_pair(first + 2 * index) for index in range(calls)]


def _pair(port: int) -> PortPool:
    """One even port and the next, usable again at once."""
    if port + 1 > 65535:
        raise MediaError(
            f"port {port} is above 65535, the highest there is: --base-port is too high for that many calls"
        )
    return PortPool(port, port + 1, quarantine=0)


async def _open(application: App, ports: PortPool, clock: Clock) -> PlainRtpLeg:
    return await PlainRtpLeg.open(
        address="127.0.0.1",
        ports=ports,
        ticker=application.ticker,
        clock=clock,
        timeout=TIMEOUT_SECONDS,
        called="bench",
    )


async def _one_after_another(application: App, leg: PlainRtpLeg, ends: Ends, clock: Clock) -> None:
    """Serves callers on the leg's port until cancelled."""
    port = leg.rtp.local[1]
    try:
        while True:
            await _first_packet(leg, clock)
            over = ends.of(leg.info)
            application.take(leg)
            await over.wait()
            leg = await _open(application, _pair(port), clock)
    finally:
        await leg.hang_up()


async def _first_packet(leg: PlainRtpLeg, clock: Clock) -> None:
    """Listens on the leg's port, and returns when somebody sends."""
    on_timeout, leg.rtp.on_timeout = leg.rtp.on_timeout, None
    leg.rtp.configure(ANYBODY)
    while not leg.rtp.counters["received"]:
        await clock.sleep(FRAME_SECONDS)
    leg.rtp.on_timeout = on_timeout


class Ends:
    """A `CallMonitor` that tells when a call is over."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Event] = {}

    def of(self, info: CallInfo) -> asyncio.Event:
        """Set when the next call with this identity has ended."""
        return self._waiting.setdefault(info.call_id, asyncio.Event())

    def began(self, info: CallInfo) -> None:
        """Of no interest."""

    def answered(self, info: CallInfo, flavor: str) -> None:
        """Of no interest."""

    def turn(self, info: CallInfo, turn: Turn) -> None:
        """Of no interest."""

    def ended(self, info: CallInfo, record: CallRecord) -> None:
        """Its record is written: its port is free."""
        self._waiting.pop(info.call_id).set()
