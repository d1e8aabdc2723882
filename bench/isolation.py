"""What engine work, garbage collection and JSON do to the packets of calls beside them.

    python -m bench.isolation [--seconds 20] [--only whisper,gc] [--json]

The connector's own ticker runs alone on its event loop, and beside it something works without pause, a row each:
engines in a thread, in a process, or as a program; full garbage collections among many objects; big JSON documents.
`late` is how long after its time a tick ran: so much too late every packet of that tick leaves. `own` is what of it the
event loop did not spend in the kernel's queue for a core (schedstat): the wait for Python's lock, and for what ran on
the loop. The rest is the machine's, as is all of it in the first rows, which have no work. Each row is a program of its
own, with every core (at most two) or with one. `rounds`: how often the work was done, and how long one took.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np

from connector import config
from connector.app import SystemClock, settle
from connector.audio import Audio
from connector.cli.console import print_json, print_table
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext, Placement, SpeechToText, TextToSpeech, TurnDetector, Vad, Worker
from connector.udp.ticker import Ticker
from tests.fakes.whisper import BASE, TINY, build

WARM_UP_SECONDS = 1.0
CORES = 2
"""At most: the connector's and one more, as on the smallest machine that one would rent."""
SIZES = {"tiny": TINY, "base": BASE}
SENTENCE = "what time do you open tomorrow"
UTTERANCE_SECONDS = 5.0
OBJECTS = 200_000
"""In the heap while it is collected: a connector has that many once its engines are loaded."""
MODELS = Path.home() / ".cache" / "voxtrunk" / "models"
"""Where `voxtrunk models fetch` keeps them."""
STREAMS = 64
"""Windows of one batch for the VAD: calls that speak at once."""

Round = Callable[[], Awaitable[object]]
"""Does the work once."""


@dataclass(frozen=True)
class Row:
    """One measurement: `work`, where it runs, and on how many cores."""

    work: str
    where: str = "event loop"
    cores: int = CORES
    switch_interval: float | None = None
    """`sys.setswitchinterval`, seconds; None for Python's 5 ms."""

    def __str__(self) -> str:
        interval = "" if self.switch_interval is None else f", switching after {1000 * self.switch_interval:g} ms"
        return f"{self.work}, {self.where}{interval}, {self.cores} cores"


@dataclass(frozen=True)
class Spread:
    """Milliseconds."""

    p50: float
    p99: float
    p999: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(*(round(float(value), 3) for value in (*np.percentile(values, (50, 99, 99.9)), max(values))))

    def __str__(self) -> str:
        return " / ".join(f"{value:.2f}" for value in (self.p50, self.p99, self.p999, self.maximum))


@dataclass(frozen=True)
class Result:
    """`skipped`: ticks that never ran. `round_ms`: median."""

    row: Row
    ticks: int
    late: Spread
    own: Spread
    skipped: int
    rounds: int
    round_ms: float


def rows() -> list[Row]:
    """All of them."""
    found = [Row("nothing"), Row("nothing", cores=1)]
    for work in ("whisper tiny", "whisper base", "silero", "smart-turn", "pocketsphinx"):
        for where in ("thread", "process", "process, usual priority"):
            found += [Row(work, where, cores) for cores in (CORES, 1)]
    found += [Row(work, "program", cores) for work in ("flite", "espeak-ng") for cores in (CORES, 1)]
    found += [
        Row(work, "thread", CORES, interval) for work in ("whisper base", "silero") for interval in (0.001, 0.0002)
    ]
    found += [Row("gc all"), Row("gc frozen")]
    found += [Row(f"json {size}", where) for size in ("10 kB", "100 kB", "1 MB") for where in ("event loop", "thread")]
    return found


# ------------------------------------------------------------------------------------ what works


class Host:
    """Starts workers where the row says, whatever the engine asks for."""

    def __init__(self, host: LocalEngineHost, where: str) -> None:
        self._host = host
        self._where = where

    async def start(self, factory: Callable[[], Callable[..., Any]], placement: Placement, name: str) -> Worker:
        placement = Placement.THREAD if self._where == "thread" else Placement.PROCESS
        if self._where == "process, usual priority":
            factory = partial(_with_usual_priority, factory)
        return await self._host.start(factory, placement, name)


def _with_usual_priority(factory: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """Runs in the worker. Only root may take back what the engine host gave away."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 0)
    return factory()


@asynccontextmanager
async def work_of(row: Row, folder: Path) -> AsyncIterator[Round]:
    """What the row does; loaded, and ended at the end."""
    kind, _, detail = row.work.partition(" ")
    async with AsyncExitStack() as stack:
        match kind:
            case "nothing":
                yield partial(asyncio.sleep, 1.0)
            case "whisper":
                options = {"model": str(folder / detail), "device": "cpu", "compute_type": "int8"}
                recogniser = cast(SpeechToText, await _engine(stack, "faster-whisper", row.where, options))
                yield partial(recogniser.transcribe, _noise())
            case "pocketsphinx":
                recogniser = cast(SpeechToText, await _engine(stack, "pocketsphinx", row.where, {}))
                yield partial(recogniser.transcribe, _noise(), (SENTENCE, "good morning", "goodbye"))
            case "silero":
                vad = cast(Vad, await _engine(stack, "silero", row.where, {}))
                states = np.tile(vad.initial_state(), (STREAMS, 1))
                windows = np.random.default_rng(1).normal(0, 0.1, (STREAMS, vad.window)).astype(np.float32)
                yield partial(vad.probabilities, windows, states)
            case "smart-turn":
                detector = cast(TurnDetector, await _engine(stack, "smart-turn", row.where, {}))
                yield partial(detector.probability, _noise())
            case "flite" | "espeak-ng":
                yield _speaking(cast(TextToSpeech, await _engine(stack, kind, row.where, {})))
            case "gc":
                heap = [{"number": n, "list": [n]} for n in range(OBJECTS)]
                if "frozen" in detail:
                    settle()
                yield _collecting(heap)
            case "json":
                document = json.dumps(_chunks(detail))
                yield partial(_on_loop if row.where == "event loop" else asyncio.to_thread, _parse_and_build, document)
            case _:
                raise ValueError(row.work)


async def _engine(stack: AsyncExitStack, name: str, where: str, options: dict[str, Any]) -> Any:
    descriptor = config.engine_descriptors()[name]
    host = LocalEngineHost()
    stack.push_async_callback(host.aclose)
    context = EngineContext(Host(host, where), MODELS)
    engine: Any = descriptor.load(descriptor.options.model_validate(options), context)
    await engine.start()
    stack.push_async_callback(engine.aclose)
    return engine


def _noise() -> Audio:
    noise = np.random.default_rng(1).normal(0, 3000, round(8000 * UTTERANCE_SECONDS))
    return Audio(noise.astype(np.int16), 8000)


def _speaking(voice: TextToSpeech) -> Round:
    numbers = count()

    async def speak() -> None:
        # A number, so that the voice's own memory does not know the sentence.
        async for _ in voice.synthesize(f"Your ticket has the number {next(numbers)}, please wait a moment."):
            pass

    return speak


def _collecting(heap: list[Any]) -> Round:
    async def collect() -> None:
        assert heap
        gc.collect()
        await asyncio.sleep(0.1)

    return collect


def _chunks(size: str) -> list[Any]:
    """A document of about that size: what a language model streams."""
    octets = {"10 kB": 10_000, "100 kB": 100_000, "1 MB": 1_000_000}[size]
    chunk = {"id": "chatcmpl-0123456789", "choices": [{"index": 0, "delta": {"content": " word"}, "logprob": -0.25}]}
    return [chunk] * (octets // len(json.dumps(chunk)))


def _parse_and_build(document: str) -> None:
    json.dumps(json.loads(document))


async def _on_loop(function: Callable[[str], None], argument: str) -> None:
    function(argument)
    await asyncio.sleep(0.01)


# ------------------------------------------------------------------------------------ measuring


class Queue:
    """How long this thread has been ready to run and had no core (Documentation/scheduler/sched-stats.rst)."""

    def __init__(self) -> None:
        self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        self._before = 0.0

    def waited(self) -> float:
        """Milliseconds since the last call."""
        now = int(os.pread(self._file, 80, 0).split()[1]) / 1e6
        since, self._before = now - self._before, now
        return since


async def measure(row: Row, seconds: float, folder: Path) -> Result:
    """Runs the row in this process. `folder`: of checkpoints, see `_checkpoints`."""
    clock = SystemClock()
    ticker = Ticker(clock)
    queue = Queue()
    late: list[float] = []
    own: list[float] = []
    took: list[float] = []

    def tick(due: float) -> None:
        behind = 1000 * (clock.now() - due)
        late.append(behind)
        own.append(max(0.0, behind - queue.waited()))

    async def work(once: Round) -> None:
        while True:
            began = clock.now()
            await once()
            took.append(clock.now() - began)

    if row.switch_interval is not None:
        sys.setswitchinterval(row.switch_interval)
    async with work_of(row, folder) as once:
        tasks = [asyncio.create_task(work(once)), asyncio.create_task(ticker.run())]
        if not row.work.startswith("gc"):
            settle()
        await clock.sleep(WARM_UP_SECONDS)
        took.clear()
        remove = ticker.add(tick, first=True)
        await clock.sleep(seconds)
        remove()
        skipped = ticker.skipped
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    round_ms = 1000 * float(np.median(took)) if took else 0.0
    return Result(row, len(late), Spread.of(late), Spread.of(own), skipped, len(took), round(round_ms, 2))


def measure_apart(row: Row, seconds: float, folder: Path) -> Result:
    """Runs the row in a process of its own, on its number of cores."""
    options = ["--seconds", str(seconds), "--row", json.dumps(asdict(row)), "--folder", str(folder)]
    command = [sys.executable, "-m", "bench.isolation", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{row}: {done.stderr}")
    told = json.loads(done.stdout)
    return Result(**{**told, "row": row, "late": Spread(**told["late"]), "own": Spread(**told["own"])})


def _checkpoints(folder: Path) -> None:
    """Whisper of two sizes, which takes as long as the real one and always understands the same."""
    for name, size in SIZES.items():
        build(folder / name, SENTENCE, size=size)


def _row(text: str, seconds: float, folder: Path) -> None:
    row = Row(**json.loads(text))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: row.cores])
    # A clean start: everything of this process, engines and their threads too, inherits these cores.
    print(json.dumps(asdict(asyncio.run(measure(row, seconds, folder)))))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.isolation", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each row (20)")
    parser.add_argument("--only", default="", help="rows whose text has one of these words: whisper,gc")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.row:
        _row(chosen.row, chosen.seconds, chosen.folder)
        return
    words = [word for word in chosen.only.split(",") if word]
    asked = [row for row in rows() if not words or any(word in str(row) for word in words)]
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="isolation-") as name:
        folder = Path(name)
        if any(row.work.startswith("whisper") for row in asked):
            _checkpoints(folder)
        for row in asked:
            print(f"{row} ...", file=sys.stderr, flush=True)
            results.append(measure_apart(row, chosen.seconds, folder))
    if chosen.json:
        machine = {"python": sys.version.split()[0], "cores": os.cpu_count(), "load": os.getloadavg()[0]}
        print_json({"machine": machine, "seconds": chosen.seconds, "rows": [asdict(result) for result in results]})
    else:
        print_table(
            ("work", "where", "cores", "late ms p50 / p99 / p99.9 / max", "own ms", "skipped", "rounds", "ms each"),
            [_cells(result) for result in results],
        )


def _cells(result: Result) -> list[str]:
    row = result.row
    where = row.where if row.switch_interval is None else f"{row.where}, switch {1000 * row.switch_interval:g} ms"
    figures = (str(result.late), str(result.own), str(result.skipped), str(result.rounds), f"{result.round_ms:.1f}")
    return [row.work, where, str(row.cores), *figures]


if __name__ == "__main__":
    main()
