"""Whisper for live calls: from the last sample to the text, the engine `faster-whisper` beside plain faster-whisper.

    python -m bench.stt [--sizes tiny,base] [--seconds 1,3,5] [--calls 1,10,50] [--json]
    python -m bench.stt --sizes turbo --device cuda --compute-type float16 --limits gpu      large-v3-turbo's size

So many callers finish an utterance at the same instant; how long does each of them wait, and what does an utterance
cost? Ours is the engine as the connector runs it, in a process of its own; plain is `WhisperModel.transcribe`, which
each caller calls in a thread of his own, with the settings that serve live calls best (README.md has them). Models are
of the true size with random weights, which multiply as slowly as learnt ones, and say three tokens for each second of
the utterance. Exit status 1 where a limit is missed, or a text differs.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from connector.audio import Audio
from connector.cli.bench.media.whisper import BASE, Size, build
from connector.cli.console import print_json, print_table
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext
from flavors.engines._resample import resample
from flavors.engines.faster_whisper import FasterWhisper, FasterWhisperOptions

SIZES = {
    "tiny": Size(4, 6, 384),
    "base": BASE,
    "small": Size(12, 12, 768),
    "turbo": Size(32, 20, 1280, decoder_layers=4, mels=128),
}
"""Of tiny.en, base.en and small.en (Radford et al. 2022, table 1), and of large-v3-turbo (its config.json)."""
LIMIT_COST = 4.0
"""On a CPU: so many times less than plain costs an utterance of `JUDGED_SECONDS`."""
LIMIT_WAITS = {1: 60.0, 50: 200.0}
"""On a GPU: milliseconds until the median caller has his text, by the calls that end at once."""
TOKENS_PER_SECOND = 3
"""Of an utterance: two and a half words a second while somebody speaks, and the pauses at either end."""
TELEPHONE_RATE, WHISPER_RATE = 8000, 16000
JUDGED_SECONDS = 3.0
"""Length of the utterance whose cost is limited."""

Recognise = Callable[[Audio], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one burst: milliseconds until the median and the last caller had the text; core-milliseconds per utterance."""

    median_ms: float
    last_ms: float
    cost_ms: float


@dataclass(frozen=True, slots=True)
class Row:
    """`calls` callers finish utterances of `seconds` at once. `words_equal`: both systems gave each the same text."""

    size: str
    seconds: float
    calls: int
    ours: Figures
    plain: Figures
    words_equal: bool

    @property
    def cost_ratio(self) -> float:
        """How many times more an utterance costs plain."""
        return self.plain.cost_ms / self.ours.cost_ms

    @property
    def wait_ratio(self) -> float:
        """How many times longer the median caller waits for plain."""
        return self.plain.median_ms / self.ours.median_ms


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stt", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default="tiny,base", help=f"of {', '.join(SIZES)} (default: %(default)s)")
    parser.add_argument("--seconds", default="1,3,5", help="of the utterances (default: %(default)s)")
    parser.add_argument("--calls", default="1,10,50", help="that finish at once (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="bursts of each kind; medians (default: %(default)s)")
    parser.add_argument("--window", type=float, default=10.0, help="ours: window_seconds (default: %(default)s)")
    parser.add_argument("--max-batch", type=int, help="ours (default: as the engine)")
    parser.add_argument("--threads", type=int, default=min(4, os.cpu_count() or 1), help="of each (%(default)s)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compute-type", default="int8", help="of both (default: %(default)s)")
    parser.add_argument("--limits", choices=("cpu", "gpu", "none"), default="cpu", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    options = parser.parse_args()
    rows = asyncio.run(measured(options))
    if options.json:
        print_json([asdict(row) | {"cost_ratio": row.cost_ratio, "wait_ratio": row.wait_ratio} for row in rows])
    else:
        table(rows)
    missed = [line for row in rows for line in faults(row, options.limits)]
    sys.exit("\n".join(missed) or None)


def faults(row: Row, limits: str) -> Iterator[str]:
    """What `row` should not be, by the limits of a `cpu`, a `gpu`, or `none`."""
    what = f"{row.size}, {row.seconds:g} s, {row.calls} calls"
    if limits == "cpu" and row.seconds == JUDGED_SECONDS and row.cost_ratio < LIMIT_COST:
        yield f"missed: {what}: an utterance costs {row.cost_ratio:.1f} times less than plain (at least {LIMIT_COST:g})"
    limit = LIMIT_WAITS.get(row.calls) if limits == "gpu" else None
    if limit is not None and row.ours.median_ms > limit:
        yield f"missed: {what}: the median caller waits {row.ours.median_ms:.0f} ms (at most {limit:g})"
    if not row.words_equal:
        yield f"missed: {what}: the texts differ"


async def measured(options: argparse.Namespace) -> list[Row]:
    """A row for each size, length and number of calls."""
    rows = []
    for size in options.sizes.split(","):
        for seconds in map(float, options.seconds.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                tokens = round(seconds * TOKENS_PER_SECOND)
                await asyncio.to_thread(build, Path(folder), SIZES[size], tokens)
                chosen: dict[str, Any] = {
                    "device": options.device,
                    "compute_type": options.compute_type,
                    "cpu_threads": options.threads,
                }
                async with (
                    ours(folder, options.window, options.max_batch, chosen) as our_recognise,
                    plain(folder, chosen) as plain_recognise,
                ):
                    for calls in map(int, options.calls.split(",")):
                        row = await compared(size, seconds, calls, our_recognise, plain_recognise, options.repeat)
                        print(row, file=sys.stderr)
                        rows.append(row)
    return rows


async def compared(size: str, seconds: float, calls: int, ours: Recognise, plain: Recognise, repeat: int) -> Row:
    """Bursts of `calls`, in turn by one and the other, so that the machine's moods meet both."""
    random = np.random.default_rng(1)
    said = [
        Audio(random.normal(0, 3000, round(seconds * TELEPHONE_RATE)).astype(np.int16), TELEPHONE_RATE)
        for _ in range(calls)
    ]
    taken: dict[str, list[Figures]] = {"ours": [], "plain": []}
    texts: dict[str, list[str]] = {}
    for _ in range(repeat):
        for name, recognise in (("ours", ours), ("plain", plain)):
            figures, texts[name] = await burst(recognise, said)
            taken[name].append(figures)
    return Row(size, seconds, calls, typical(taken["ours"]), typical(taken["plain"]), texts["ours"] == texts["plain"])


async def burst(recognise: Recognise, said: Sequence[Audio]) -> tuple[Figures, list[str]]:
    """All that was `said` ends now."""
    began, cost = time.perf_counter(), cpu_seconds()

    async def one(utterance: Audio) -> tuple[float, str]:
        text = await recognise(utterance)
        return time.perf_counter() - began, text

    heard = await asyncio.gather(*map(one, said))
    waits = [wait for wait, _ in heard]
    cost = (cpu_seconds() - cost) / len(said)
    return Figures(1000 * median(waits), 1000 * max(waits), 1000 * cost), [text for _, text in heard]


def typical(figures: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    return Figures(
        median(figure.median_ms for figure in figures),
        median(figure.last_ms for figure in figures),
        median(figure.cost_ms for figure in figures),
    )


@asynccontextmanager
async def ours(folder: str, window: float, max_batch: int | None, chosen: dict[str, Any]) -> AsyncIterator[Recognise]:
    """The engine, as the connector runs it."""
    host = LocalEngineHost()
    options = FasterWhisperOptions(model=folder, window_seconds=window, max_batch=max_batch, **chosen)
    engine = FasterWhisper(options, EngineContext(host, Path(folder)))

    async def recognise(utterance: Audio) -> str:
        return (await engine.transcribe(utterance)).text

    try:
        await engine.start()
        yield recognise
    finally:
        await engine.aclose()
        await host.aclose()


@asynccontextmanager
async def plain(folder: str, chosen: dict[str, Any]) -> AsyncIterator[Recognise]:
    """`WhisperModel.transcribe` in a thread for each caller, as short as it can be made for live utterances."""
    from faster_whisper import WhisperModel

    model = await asyncio.to_thread(WhisperModel, folder, **chosen)
    threads = ThreadPoolExecutor(max_workers=64)

    def transcribed(samples: np.ndarray[Any, np.dtype[np.float32]]) -> str:
        segments, _ = model.transcribe(
            samples,
            language="en",
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
            compression_ratio_threshold=None,
            log_prob_threshold=None,
            no_speech_threshold=None,
        )
        return " ".join(segment.text.strip() for segment in segments)

    async def recognise(utterance: Audio) -> str:
        samples = resample(utterance, WHISPER_RATE).astype(np.float32) / np.float32(32768)
        return await asyncio.get_running_loop().run_in_executor(threads, transcribed, samples)

    try:
        await recognise(Audio(np.full(TELEPHONE_RATE, 1000, np.int16), TELEPHONE_RATE))
        yield recognise
    finally:
        threads.shutdown()


def cpu_seconds() -> float:
    """Of this process and the engine's, so far (/proc/PID/task/TID/schedstat)."""
    engines = (Path(f"/proc/{process.pid}/task") for process in multiprocessing.active_children())
    threads = (thread / "schedstat" for engine in engines for thread in engine.iterdir())
    return time.process_time() + sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def table(rows: Sequence[Row]) -> None:
    """Prints `rows`."""
    columns = [
        "model", "seconds", "calls", "ours: median", "last", "cost", "plain: median", "last", "cost", "cost ratio",
        "words",
    ]  # fmt: skip
    print_table(
        columns,
        [
            [
                row.size,
                f"{row.seconds:g}",
                str(row.calls),
                *(f"{value:.0f} ms" for figures in (row.ours, row.plain) for value in asdict(figures).values()),
                f"{row.cost_ratio:.1f}",
                "equal" if row.words_equal else "DIFFERENT",
            ]
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
