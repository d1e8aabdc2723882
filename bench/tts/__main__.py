"""Speech by Chatterbox: ours, streamed and shared, beside upstream's `generate()`, one request after the other.

    python -m bench.tts                                             the micro model, on the CPU
    python -m bench.tts --size full --device cuda --limits gpu      true size, random weights

See README.md for what each figure means. Exit status 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import logging
import random
import statistics
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

SERVICE = Path(__file__).parents[2] / "flavors/services/chatterbox"
# It is a project of its own, and need not be installed to be measured: what imports it comes after this line (E402).
sys.path.insert(0, str(SERVICE))

import torch  # noqa: E402
from chatterbox_service.chatterbox import ChatterboxEngine  # noqa: E402
from chatterbox_service.engine import Request, SpeechError  # noqa: E402
from chatterbox_service.guards import Bounds  # noqa: E402
from chatterbox_service.models import Model, choose_device  # noqa: E402

from bench.tts.material import REPLY, SIZES, make_model  # noqa: E402

MOST_STREAMS = 512
"""Real time is not looked for beyond."""
ENDLESS = 4000
"""Speech tokens of a stream that somebody closes."""
CLOSED_OF = 8
"""Streams of which one is closed, where the engine takes as many."""
CLOSED = 20
"""So many times."""
MOMENT = 0.5
"""Seconds, at most, after the first audio of the stream that came last."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One request, in seconds from when it was made."""

    first: float
    whole: float
    audio: float
    """Length of the speech."""
    gaps: float
    """Silence that a listener heard who began at once: speech came too late by so much, in all."""

    @property
    def rtf(self) -> float:
        """Real-time factor: time until all of it was there, by its length."""
        return self.whole / self.audio


@dataclass(frozen=True, slots=True)
class Row:
    """So many requests at the same moment; seconds."""

    system: str
    streams: int
    first_median: float
    first_worst: float
    rtf_median: float
    rtf_worst: float
    speed: float
    """Seconds of speech made per second, by all together."""
    gaps: float
    """The most silence that any listener heard."""
    cpu: float
    """Processor time for each second of speech, of all threads."""


@dataclass(frozen=True, slots=True)
class Alone:
    """What one request costs upstream; seconds."""

    requests: int
    seconds: float
    audio: float
    cpu: float

    def row(self, streams: int) -> Row:
        """So many requests one after the other: the k-th has waited for those before it."""
        return Row(
            system="upstream",
            streams=streams,
            first_median=self.seconds * (streams + 1) / 2,
            first_worst=self.seconds * streams,
            rtf_median=self.seconds * (streams + 1) / 2 / self.audio,
            rtf_worst=self.seconds * streams / self.audio,
            speed=self.audio / self.seconds,
            gaps=0.0,
            cpu=self.cpu,
        )


@dataclass(frozen=True, slots=True)
class Shared:
    """What our engine did."""

    capacity: int
    """Streams that it measured by itself that it can take."""
    rows: Mapping[int, Row]
    """By the number of streams."""
    closed: Sequence[float]
    """Seconds until the place of a stream that was closed was free."""

    @property
    def real_time(self) -> tuple[int, int | None]:
        """The most streams that were all faster than real time, and the fewest that were not."""
        slower = min((count for count, row in self.rows.items() if row.rtf_worst >= 1), default=None)
        faster = [count for count in self.rows if slower is None or count < slower]
        return max(faster, default=0), slower


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tts", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=("turbo", "standard"), nargs="+", default=["turbo"])
    parser.add_argument("--size", choices=SIZES, default="micro")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--streams", default="1,4,8,16,32,64", help="comma list (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=250, help="speech tokens of each request (default: %(default)s)")
    parser.add_argument("--alone", type=int, default=3, help="upstream's requests: their median counts (%(default)s)")
    parser.add_argument("--attention", choices=("cells", "full"), default="cells")
    parser.add_argument("--limits", choices=("cpu", "gpu", "none"), default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    streams = [int(count) for count in options.streams.split(",")]
    device, name = choose_device(options.device)
    kept, missed = {}, False
    for kind in options.model:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # Upstream is noisy.
            model = make_model(kind, options.size, device)
            alone = upstream(model, options.tokens, options.alone)
            ours = asyncio.run(shared(model, name, options.tokens, streams, options.attention))
        print(f"{options.size} {kind} on {name}: {options.tokens} tokens each")
        print(table([row for count in sorted(ours.rows) for row in (alone.row(count), ours.rows[count])]))
        print("\n".join(remarks(alone, ours)))
        for line, held in verdicts(options.limits, alone, ours):
            print(f"{'holds ' if held else 'MISSED'} {line}")
            missed |= not held
        print(flush=True)
        kept[kind] = {"upstream": asdict(alone), "voxtrunk": asdict(ours), "real_time": ours.real_time}
    if options.json:
        options.json.write_text(json.dumps({"device": name, "size": options.size, "tokens": options.tokens, **kept}))
    sys.exit(missed)


def upstream(model: Model, tokens: int, requests: int) -> Alone:
    """`generate()` as a server calls it, one request after the other."""
    t3 = model.t3
    stop, t3.hp.stop_speech_token = t3.hp.stop_speech_token, -1
    generate_tokens = {name: getattr(t3, name) for name in ("inference", "inference_turbo")}
    # The public call has no length: that of the loops below it is set.
    t3.inference = lambda **named: generate_tokens["inference"](**{**named, "max_new_tokens": tokens})
    t3.inference_turbo = lambda **named: generate_tokens["inference_turbo"](**named, max_gen_len=tokens - 1)
    speak: Any = model.upstream.generate
    times, seconds = [], 0.0
    speak(REPLY)
    cpu = process_time()
    for _ in range(requests):
        began = perf_counter()
        seconds = speak(REPLY).shape[1] / model.rate
        times.append(perf_counter() - began)
    cpu = (process_time() - cpu) / (seconds * requests)
    t3.hp.stop_speech_token = stop
    del t3.inference, t3.inference_turbo
    return Alone(requests, statistics.median(times), seconds, cpu)


async def shared(model: Model, device: str, tokens: int, streams: Sequence[int], attention: Any) -> Shared:
    """Our engine: all requests at the same moment, and more of them until real time has ended."""

    def length(text: str) -> Bounds:
        count = tokens if text == REPLY else ENDLESS
        return Bounds(count, count, count)

    engine = ChatterboxEngine(model, device, attention=attention, length_of=length)
    capacity, engine.capacity = engine.capacity, max(MOST_STREAMS, *streams)
    try:
        await together(engine, 1)  # Warms up.
        rows = {count: await together(engine, count) for count in streams}
        await look_for_real_time(rows, lambda count: together(engine, count))
        closed = await close(engine, min(CLOSED_OF, capacity), CLOSED)
    finally:
        await engine.aclose()
    return Shared(capacity, rows, closed)


async def look_for_real_time(rows: dict[int, Row], measure: Callable[[int], Awaitable[Row]]) -> None:
    """Measure more numbers of streams, until the one where real time ends is known to a sixteenth."""
    while True:
        fast, slow = Shared(0, rows, ()).real_time
        if slow is None and fast < MOST_STREAMS:
            count = min(2 * fast, MOST_STREAMS)
        elif slow is not None and slow - fast > max(1, fast // 16):
            count = (fast + slow) // 2
        else:
            return
        try:
            rows[count] = await measure(count)
        except SpeechError:  # The device's memory has ended first.
            return


async def together(engine: ChatterboxEngine, count: int) -> Row:
    """So many requests at the same moment."""
    began, cpu = perf_counter(), process_time()
    heard = await asyncio.gather(*(listen(engine, seed) for seed in range(count)))
    wall, cpu = perf_counter() - began, process_time() - cpu
    audio = sum(one.audio for one in heard)
    return Row(
        system="voxtrunk",
        streams=count,
        first_median=statistics.median(one.first for one in heard),
        first_worst=max(one.first for one in heard),
        rtf_median=statistics.median(one.rtf for one in heard),
        rtf_worst=max(one.rtf for one in heard),
        speed=audio / wall,
        gaps=max(one.gaps for one in heard),
        cpu=cpu / audio,
    )


async def listen(engine: ChatterboxEngine, seed: int) -> Heard:
    began = perf_counter()
    first, audio, gaps, dry = 0.0, 0.0, 0.0, 0.0
    async with aclosing(engine.speak(Request(REPLY, seed=seed))) as chunks:
        async for chunk in chunks:
            now = perf_counter() - began
            if not audio:
                first = dry = now
            gaps += max(0.0, now - dry)
            dry = max(dry, now) + len(chunk) / engine.rate
            audio += len(chunk) / engine.rate
    return Heard(first, perf_counter() - began, audio, gaps)


async def close(engine: ChatterboxEngine, streams: int, times: int) -> list[float]:
    """Seconds from when a listener goes, one of so many, until his place in the batch is free."""

    async def opened(seed: int) -> Any:
        stream = engine.speak(Request("This goes on until somebody hangs up.", seed=seed))
        await anext(stream)
        return stream

    moments = random.Random(1)
    listening = list(await asyncio.gather(*(opened(seed) for seed in range(streams))))
    seconds = []
    for number in range(times):
        await asyncio.sleep(moments.uniform(0, MOMENT))  # In the midst of anything.
        began, taken = perf_counter(), engine.taken
        await listening.pop(0).aclose()
        seconds.append(await asyncio.to_thread(until_free, engine, taken) - began)
        listening.append(await opened(streams + number))
    for stream in listening:
        await stream.aclose()
    return seconds


def until_free(engine: ChatterboxEngine, taken: int) -> float:
    """When fewer places than `taken` are."""
    while engine.taken >= taken:
        sleep(0.0005)
    return perf_counter()


def table(rows: Iterable[Row]) -> str:
    lines = [
        "system    streams  first audio, ms, median / worst  RTF, median / worst  speed, x real time  gap, ms  CPU, s/s"
    ]
    lines += [
        f"{row.system:<9} {row.streams:>7}  {row.first_median * 1e3:>16.0f} / {row.first_worst * 1e3:<12.0f} "
        f"{row.rtf_median:>10.2f} / {row.rtf_worst:<7.2f} {row.speed:>19.2f} {row.gaps * 1e3:>8.0f} {row.cpu:>9.3f}"
        for row in rows
    ]
    return "\n".join(lines)


def remarks(alone: Alone, ours: Shared) -> list[str]:
    """What the table does not say."""
    fast, slow = ours.real_time
    end = f"{slow} are not" if slow else "more were not measured"
    worst, median = max(ours.closed), statistics.median(ours.closed)
    measured = f"upstream: {alone.requests} requests were measured, {alone.seconds:.2f} s each"
    real_time = f"real time: {fast} streams at once are all faster, {end}"
    places = min(CLOSED_OF, ours.capacity)
    closed = f"a closed stream's place, of {places}: free after {median * 1e3:.0f} ms, at worst {worst * 1e3:.0f} ms"
    return [
        f"{measured}; the rows of several streams are computed from it, one request after the other",
        f"{real_time}; the engine by itself takes {ours.capacity}",
        f"{closed} ({len(ours.closed)} times)",
    ]


def verdicts(limits: str, alone: Alone, ours: Shared) -> list[tuple[str, bool]]:
    """What must hold, and whether it does."""
    if limits == "none":
        return []
    worst = max(ours.closed)
    found = [(f"a closed stream's place is free after {worst * 1e3:.0f} ms (at most 100)", worst <= 0.1)]
    if limits == "cpu":
        if 1 in ours.rows:
            ratio = alone.seconds / ours.rows[1].first_worst
            found.append((f"first audio of 1 stream {ratio:.1f} times earlier than upstream (at least 5)", ratio >= 5))
        if 8 in ours.rows:
            ratio = ours.rows[8].speed / alone.row(8).speed
            found.append((f"8 streams together {ratio:.1f} times as fast as one by one (at least 2)", ratio >= 2))
    else:
        for count, most in ((1, 0.12), (32, 0.3)):
            if count in ours.rows:
                row = ours.rows[count]
                line = f"first audio of {count} streams after {row.first_worst * 1e3:.0f} ms (at most {most * 1e3:.0f})"
                found.append((line, row.first_worst <= most))
                found.append((f"{count} streams faster than real time: RTF {row.rtf_worst:.2f}", row.rtf_worst < 1))
    return found


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
