"""`voxtrunk demo`: a caller dials the offline flavor over real SIP and RTP, talks to it, and checks what happened.

The server is `voxtrunk serve` in a process of its own on free loopback ports; the caller measures on
his own side of the line and believes no event of the server's; only what was understood is read
from the call's record.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Annotated

import aiohttp
import typer
import yaml

from connector import config
from connector.api import Readiness
from connector.app import SystemClock
from connector.audio import Samples
from connector.cli.answering import answering
from connector.cli.console import AsJson, console, print_json, print_table
from connector.cli.init import TEMPLATE
from connector.cli.phone import PhoneKind, open_phone, resolve
from connector.cli.phone.caller import Caller, CallOver, Spurt
from connector.cli.phone.plan import Line, draw, knowledge
from connector.cli.phone.speech import say as synthesise
from connector.cli.turns import print_latency
from connector.config.model import Settings
from connector.errors import CallFailed, VoxtrunkError
from connector.interfaces import Clock, Leg
from connector.record import CallRecord, Turn

app = typer.Typer(add_completion=False)

FLAVOR = "offline"
NUMBER = "1000"
READY_SECONDS = 30.0
GREETING_SECONDS = 1.0
"""A greeting lasts at least this long."""
QUIET_SECONDS = 0.7
"""The agent has finished when it has been quiet for this long."""
PATIENCE_SECONDS = 30.0
ANSWER_SECONDS = 6.0
"""An answer begins within this time."""
INTERRUPT_AFTER = 1.2
"""The caller interrupts when the agent has spoken for this long."""
STOP_SECONDS = 1.0
"""An interrupted agent is silent within this time."""


class StepFailed(VoxtrunkError):
    """A step of the demonstration did not happen."""


@dataclass
class Said:
    """One line as it was spoken: when (clock time), and what the caller measured."""

    line: Line
    spurt: Spurt
    v2v: float | None = None
    stopped: float | None = None
    """Seconds from the caller's first sound to the agent's last, where he interrupted."""


@dataclass
class Outcome:
    """The call: what was said, what failed, and the record that the server left."""

    call_id: str = ""
    answered: float = 0.0
    said: list[Said] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    record: CallRecord | None = None
    recording: Path | None = None


@dataclass(frozen=True)
class Row:
    """One turn of the answer: `voxtrunk demo --json` gives exactly these keys."""

    said: str
    heard: str
    reply: str
    intent_ok: bool
    v2v_ms: int | None
    interrupted: bool


@app.command()
def demo(
    seed: Annotated[
        int | None, typer.Option(help="Draws what is said, and in which order; default: another each time.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep recording, transcript and record there (default: a new temporary folder)."
        ),
    ] = None,
    phone: Annotated[PhoneKind, typer.Option(help="The caller's user agent.")] = PhoneKind.AUTO,
    as_json: AsJson = False,
) -> None:
    """Call the offline flavor and talk to it. Exit status 1 where a step did not happen or an intent was wrong."""
    seed = Random().randrange(1_000_000) if seed is None else seed
    folder = (keep or Path(tempfile.mkdtemp(prefix="voxtrunk-demo-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    narrator = console(stderr=as_json)
    kind = resolve(phone)
    narrator.print(f"seed {seed}; the caller's phone: {kind.value}")
    try:
        outcome = asyncio.run(_demonstrate(seed, folder, kind, narrator.print))
    except asyncio.CancelledError as stopped:
        raise typer.Exit(128 + signal.SIGTERM) from stopped
    rows = rows_of(outcome)
    failures = failures_of(outcome, rows)
    recording = str(outcome.recording) if outcome.recording else None
    if as_json:
        errors = outcome.record.errors if outcome.record is not None else []
        turns = [asdict(row) for row in rows]
        print_json({"turns": turns, "recording": recording, "errors": errors, "ok": not failures})
    else:
        _print(rows, outcome)
    for failure in failures:
        typer.echo(f"failed: {failure}", err=True)
    if failures:
        raise typer.Exit(1)


async def _demonstrate(seed: int, folder: Path, kind: PhoneKind, narrate: Callable[[str], None]) -> Outcome:
    outcome = Outcome()
    this = asyncio.current_task()
    if this is not None:  # so that the server stops too
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    try:
        settings = await asyncio.to_thread(_configure, folder)
        async with answering(config.flavor_named(settings, FLAVOR), settings) as model:
            lines = draw(await knowledge(model.model), Random(seed))
        speech = await synthesise([line.text for line in lines])
        async with _serving(settings, narrate):
            await _call(settings, kind, lines, speech, outcome, narrate)
            await _collect(settings.records.directory, outcome)
    except CallFailed as error:
        outcome.failures.append(f"the call was not answered: {error}")
    except VoxtrunkError as error:
        outcome.failures.append(str(error))
    return outcome


# ------------------------------------------------------------------------------------ the server


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _configure(folder: Path) -> Settings:
    """Writes the configuration that `voxtrunk init` would, on free loopback ports."""
    rtp = _free_port(socket.SOCK_DGRAM) // 2 * 2
    document = yaml.safe_load(TEMPLATE)
    document["sip"]["listen"] = f"127.0.0.1:{_free_port(socket.SOCK_DGRAM)}"
    document["http"]["listen"] = f"127.0.0.1:{_free_port(socket.SOCK_STREAM)}"
    document["media"]["ports"] = f"{rtp}-{min(rtp + 19, 65535)}"
    # Even on a machine that is busy: the caller takes what it hears first for the answer.
    document["routes"] = [{"number": NUMBER, "flavor": FLAVOR, "with": {"fillers": []}}]
    file = folder / "voxtrunk.yml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return config.load(file)


@asynccontextmanager
async def _serving(settings: Settings, narrate: Callable[[str], None]) -> AsyncIterator[None]:
    """Runs `voxtrunk serve`; returns when it is ready. Raises `StepFailed` where it does not get so far."""
    command = ("serve", "-c", str(settings.file))
    narrate(f"starting voxtrunk {' '.join(command)}")
    output = settings.file.parent / "serve.log"
    with output.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "connector.cli", *command, stdout=log, stderr=log
        )
    try:
        await _ready(f"http://{settings.http.listen}/readyz", process, output)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        status = await process.wait()
    if status:
        raise StepFailed(f"voxtrunk serve ended with status {status}: see {output}")


async def _ready(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    """Returns when the server can take calls. Raises `StepFailed` with the engines' errors, or the end of its log."""
    try:
        async with asyncio.timeout(READY_SECONDS), aiohttp.ClientSession() as http:
            while process.returncode is None:
                readiness = await _readiness(http, url)
                if readiness is not None and readiness.ready:
                    return
                if readiness is not None and (errors := [engine.error for engine in readiness.engines if engine.error]):
                    raise StepFailed("voxtrunk serve cannot take calls: " + "; ".join(errors))
                await asyncio.sleep(0.1)
    except TimeoutError:
        pass
    lines = await asyncio.to_thread(log.read_text)
    raise StepFailed("voxtrunk serve did not get ready:\n" + "\n".join(lines.splitlines()[-20:]))


async def _readiness(http: aiohttp.ClientSession, url: str) -> Readiness | None:
    """What the server tells about itself; None while nobody answers."""
    try:
        async with http.get(url) as response:
            return Readiness.model_validate_json(await response.read())
    except aiohttp.ClientConnectionError:
        return None


async def _collect(records: Path, outcome: Outcome) -> None:
    """Puts what the server left of the call into `outcome`. Raises `StepFailed` where something is missing."""
    outcome.record = await _record(records, outcome.call_id)
    if outcome.record is None:
        raise StepFailed("the server left no call detail record")
    recording = outcome.record.files.recording
    if recording is None or not await asyncio.to_thread((records / recording).exists):
        raise StepFailed("the recording is missing")
    outcome.recording = records / recording


async def _record(records: Path, call_id: str) -> CallRecord | None:
    """The record of that call, once the server has written it."""

    def find() -> CallRecord | None:
        found = (CallRecord.model_validate_json(path.read_text()) for path in records.glob("**/*.cdr.json"))
        return next((record for record in found if record.call_id == call_id), None)

    for _ in range(50):
        if record := await asyncio.to_thread(find):
            return record
        await asyncio.sleep(0.1)
    return None


# ------------------------------------------------------------------------------------ the caller


async def _call(
    settings: Settings,
    kind: PhoneKind,
    lines: Sequence[Line],
    speech: Sequence[Samples],
    outcome: Outcome,
    narrate: Callable[[str], None],
) -> None:
    """Dials and talks; what went wrong in the call is in `outcome`. Raises `CallFailed` and what a phone raises."""
    clock = SystemClock()
    uri = f"sip:{NUMBER}@{settings.sip.listen}"
    async with open_phone(kind, clock) as phone:
        narrate(f"dialling {uri}")
        leg = await phone.dial(uri)
        try:
            await _converse(leg, lines, speech, outcome, clock, narrate)
        except (StepFailed, CallOver) as error:
            outcome.failures.append(str(error))


async def _converse(
    leg: Leg,
    lines: Sequence[Line],
    speech: Sequence[Samples],
    outcome: Outcome,
    clock: Clock,
    narrate: Callable[[str], None],
) -> None:
    """Says `lines` and measures; fills `outcome`. Raises `StepFailed` and `CallOver`."""
    outcome.call_id, outcome.answered = leg.info.call_id, clock.now()
    async with Caller(leg, clock) as caller:
        await caller.wait_for_speech(ANSWER_SECONDS, after=0.0)
        await caller.wait_for_silence(QUIET_SECONDS, PATIENCE_SECONDS)
        if sum(spurt.seconds for spurt in caller.heard.spurts) < GREETING_SECONDS:
            raise StepFailed("no greeting was heard")
        narrate("heard the greeting")
        for line, samples in zip(lines, speech, strict=True):
            await _speak(caller, line, samples, outcome, narrate)
        if not await caller.wait_for_end(PATIENCE_SECONDS):
            raise StepFailed("the agent did not hang up after the goodbye")
        narrate("the agent hung up")


async def _speak(
    caller: Caller, line: Line, samples: Samples, outcome: Outcome, narrate: Callable[[str], None]
) -> None:
    """Says one line, over the agent's voice where it interrupts, and waits for the answer to begin."""
    if line.interrupts:
        await caller.pause(INTERRUPT_AFTER)
    else:
        await caller.wait_for_silence(QUIET_SECONDS, PATIENCE_SECONDS)
    narrate(f"{'interrupting' if line.interrupts else 'saying'}: {line.text}")
    said = Said(line, await caller.say(samples))
    outcome.said.append(said)
    if line.interrupts:
        said.stopped = caller.stop_delay(said.spurt)
        if said.stopped is None:
            raise StepFailed(f"the agent was silent when it was to be interrupted: {line.text}")
        if said.stopped > STOP_SECONDS:
            raise StepFailed(f"the agent went on for {said.stopped:.1f} s when interrupted")
        narrate(f"the agent stopped after {said.stopped * 1000:.0f} ms")
    if await caller.wait_for_speech(ANSWER_SECONDS, after=said.spurt.end) is None:
        raise StepFailed(f"no answer to: {line.text}")
    said.v2v = caller.answer_delay(said.spurt)


# ------------------------------------------------------------------------------------ the result


def _turn_of(said: Said, outcome: Outcome) -> Turn | None:
    """The record's turn whose speech overlaps with what was said."""
    start, end = said.spurt.start - outcome.answered, said.spurt.end - outcome.answered

    def overlap(turn: Turn) -> float:
        if turn.caller_start is None or turn.caller_end is None:
            return 0.0
        return min(end, turn.caller_end) - max(start, turn.caller_start)

    turns = outcome.record.turns if outcome.record else []
    best = max(turns, key=overlap, default=None)
    return best if best is not None and overlap(best) > 0 else None


def rows_of(outcome: Outcome) -> list[Row]:
    """What was said, beside what the record says that the server made of it."""
    rows = []
    for said in outcome.said:
        turn = _turn_of(said, outcome)
        rows.append(
            Row(
                said=said.line.text,
                heard=turn.heard if turn else "",
                reply=turn.reply if turn else "",
                intent_ok=turn is not None and turn.intent == said.line.intent,
                v2v_ms=None if said.v2v is None else round(said.v2v * 1000),
                interrupted=turn is not None and turn.interrupted,
            )
        )
    return rows


def failures_of(outcome: Outcome, rows: Sequence[Row]) -> list[str]:
    """Everything that should have been otherwise."""
    failures = list(outcome.failures)
    for index, row in enumerate(rows):
        if not row.intent_ok:
            failures.append(f"wrong intent for: {row.said} (heard: {row.heard or 'nothing'})")
        spoken_over = index + 1 < len(rows) and outcome.said[index + 1].line.interrupts
        if spoken_over and not row.interrupted:
            failures.append(f"by the record, the reply to {row.said!r} was heard in full")
        if row.interrupted and not spoken_over:
            failures.append(f"by the record, the reply to {row.said!r} was interrupted, by nobody")
    return failures


def _print(rows: Sequence[Row], outcome: Outcome) -> None:
    print_table(
        ("said", "heard", "reply", "intent", "v2v", "interrupted"),
        [
            (
                row.said,
                row.heard,
                row.reply,
                "ok" if row.intent_ok else "failed",
                "" if row.v2v_ms is None else f"{row.v2v_ms} ms",
                "yes" if row.interrupted else "",
            )
            for row in rows
        ],
    )
    if outcome.record is not None:
        print_latency(outcome.record.turns)
        for error in outcome.record.errors:  # an engine that failed, and who went on, among others
            typer.echo(f"in the record: {error}")
    if outcome.recording is not None:
        typer.echo(f"\nrecording: {outcome.recording}")
