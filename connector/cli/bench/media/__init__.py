"""`voxtrunk bench media`: what a call costs and how evenly its packets leave, beside plain echoes.

Three processes: the connector under test (`system`) on one core, the generator of all calls on another,
and this one, which watches. Figures and their meaning: `figures`; how they are taken: `run`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from connector.cli.bench.media.disturbance import DISTURBANCES
from connector.cli.bench.media.report import print_report
from connector.cli.bench.media.run import Announce, Bench, Options
from connector.cli.bench.media.voices import MOST_CALLERS
from connector.cli.console import DEFAULT_CONFIG, AsJson, ConfigFile, console, print_json
from connector.codec.registry import CODECS, make_codec

NONE = "none"


def media(
    calls: Annotated[int, typer.Option(min=1, max=MOST_CALLERS, help="Calls that the limits hold for.")] = 100,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long each measurement takes.")] = 30.0,
    settle: Annotated[float, typer.Option(min=0, max=60, help="Seconds of calls before each of them.")] = 3.0,
    ramp: Annotated[
        str, typer.Option(metavar="N,N,...", help="Numbers of calls to measure the cost at; empty for none.")
    ] = "10,50,100,200",
    codec: Annotated[str, typer.Option(metavar="|".join(CODECS), help="What callers speak.")] = "PCMU",
    vad: Annotated[bool, typer.Option("--vad/--no-vad", help="Voice activity detection of every call.")] = True,
    recording: Annotated[bool, typer.Option("--recording/--no-recording", help="A recording of every call.")] = True,
    disturb: Annotated[
        list[str] | None,
        typer.Option(metavar="|".join((NONE, *DISTURBANCES)), help="Measure once more beside this. Repeatable."),
    ] = None,
    churn: Annotated[int, typer.Option(min=0, help="Short calls after which nothing may be left; 0 for none.")] = 1000,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Measure an asyncio and a C echo too.")] = True,
    core: Annotated[int | None, typer.Option(help="Core of the connector (default: the last one).")] = None,
    generator_core: Annotated[int | None, typer.Option(help="Core of the callers (default: the first).")] = None,
    whisper: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Of --disturb whisper (default: one of base.en's cost).")
    ] = None,
    limit_cpu: Annotated[float, typer.Option(help="Percent of a core per call.")] = 0.5,
    limit_p99: Annotated[float, typer.Option(help="Of the pacing, milliseconds.")] = 2.0,
    limit_p999: Annotated[float, typer.Option(help="Likewise.")] = 5.0,
    limit_disturbed: Annotated[float, typer.Option(help="99th percentile beside a disturbance.")] = 4.0,
    limit_leak: Annotated[float, typer.Option(help="KiB that may be left of each call of the churn.")] = 2.0,
    log: Annotated[Path, typer.Option(metavar="FILE", help="Keep what the processes say.")] = Path(os.devnull),
    file: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Measure what a call costs and how evenly its packets leave. Exit status 1 where a limit is missed.

    Every call is an echo with VAD and recording, on a socket and with a tone of its own.
    """
    disturbances = [name for name in disturb or () if name != NONE]
    if unknown := [name for name in disturbances if name not in DISTURBANCES]:
        raise typer.BadParameter(f"{unknown[0]}: none of {', '.join((NONE, *DISTURBANCES))}", param_hint="--disturb")
    make_codec(codec)
    options = Options(
        config=file,
        calls=calls,
        seconds=seconds,
        settle=settle,
        ramp=_numbers(ramp),
        codec=codec,
        vad=vad,
        recording=recording,
        disturb=disturbances,
        churn=churn,
        peers=peers,
        cores=_cores(core, generator_core),
        whisper=whisper,
        log=log,
        cpu=limit_cpu,
        p99=limit_p99,
        p999=limit_p999,
        disturbed_p99=limit_disturbed,
        leak_kib=limit_leak,
    )
    with _progress() as announce:
        report = asyncio.run(Bench(options, announce).run())
    if as_json:
        print_json(report.as_json())
    else:
        print_report(report)
    if not report.ok:
        raise typer.Exit(1)


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(word) for word in text.split(",") if word]
    except ValueError:
        numbers = [0]
    if any(not 1 <= number <= MOST_CALLERS for number in numbers):
        raise typer.BadParameter(f"{text!r}: numbers of 1 to {MOST_CALLERS} calls are wanted", param_hint="--ramp")
    return numbers


def _cores(connector: int | None, generator: int | None) -> tuple[int, int]:
    """Where connector and generator run: apart, where there are two cores."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[-1] if connector is None else connector, allowed[0] if generator is None else generator)


@contextmanager
def _progress() -> Iterator[Announce]:
    """A line on a terminal's standard error that tells what goes on; nothing elsewhere."""
    stderr = console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    seldom = 2  # times a second: it is drawn on the generator's core
    with Progress(
        *columns, console=stderr, transient=True, disable=not stderr.is_terminal, refresh_per_second=seldom
    ) as bar:
        task = bar.add_task("")
        yield lambda what, seconds: bar.reset(task, description=f"{what} ({seconds:.0f} s)", total=None)
