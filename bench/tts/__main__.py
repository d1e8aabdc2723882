"""Speech by Chatterbox: ours, streamed and shared, beside upstream's `generate()`, one request after the other.

    python -m bench.tts                                        the micro model, on the CPU
    python -m bench.tts --size full --device cuda --limits gpu the true size, random weights

See README.md for what each figure means. Exit status 1 where a limit is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import logging
import statistics
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

SERVICE = Path(__file__).parents[2] / "flavors/services/chatterbox"
# It is a project of its own, and need not be installed to be measured: what imports it comes after this line (E402).
sys.path.insert(0, str(SERVICE))

import torch  # noqa: E402
from chatterbox_service.chatterbox import ChatterboxEngine  # noqa: E402
from chatterbox_service.engine import Request  # noqa: E402
from chatterbox_service.guards import Bounds  # noqa: E402
from chatterbox_service.models import Model, choose_device  # noqa: E402

from bench.tts.material import REPLY, SIZES, make_model  # noqa: E402


@dataclass(frozen=True, slots=True)
class Heard:
    """One request, in seconds from when it was made."""

    first: float
    whole: float
    audio: float
    """Length of the speech."""
    gaps: float
    """Silence that a listener heard who began at once: speech came too late by so much, in all."""


@dataclass(frozen=True, slots=True)
class Row:
    """So many requests at the same moment; seconds."""

    system: str
    streams: int
    first_median: float
    first_worst: float
    speed: float
    """Seconds of speech made per second, by all together."""
    slowest: float
    """Real-time factor of the slowest request: time until all of it was there, by its length."""
    gaps: float
    """The most silence that any listener heard."""
    cpu: float
    """Processor time for each second of speech, of all threads."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tts", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=("turbo", "standard"), default="turbo")
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
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # Upstream talks much.
        model = make_model(options.model, options.size, device)
        theirs = upstream(model, options.tokens, options.alone, streams)
        ours, capacity = asyncio.run(shared(model, name, options.tokens, streams, options.attention))
    rows = [row for pair in zip(theirs, ours, strict=True) for row in pair]
    print(f"{options.size} {options.model} on {name}: {options.tokens} tokens each; measured capacity {capacity}")
    print(table(rows))
    missed = [line for line, held in verdicts(options.limits, theirs, ours) if not held]
    for line, held in verdicts(options.limits, theirs, ours):
        print(f"{'holds ' if held else 'MISSED'} {line}")
    if options.json:
        options.json.write_text(json.dumps({"device": name, "capacity": capacity, "rows": list(map(asdict, rows))}))
    sys.exit(bool(missed))


def upstream(model: Model, tokens: int, repeat: int, streams: Sequence[int]) -> list[Row]:
    """`generate()` as a server calls it: a request waits until those before it are done."""
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
    for _ in range(repeat):
        began = perf_counter()
        seconds = speak(REPLY).shape[1] / model.rate
        times.append(perf_counter() - began)
    cpu = (process_time() - cpu) / (seconds * repeat)
    t3.hp.stop_speech_token = stop
    del t3.inference, t3.inference_turbo
    alone = statistics.median(times)
    return [
        Row(
            system="upstream",
            streams=count,
            first_median=alone * (count + 1) / 2,
            first_worst=alone * count,
            speed=seconds / alone,
            slowest=alone * count / seconds,
            gaps=0.0,
            cpu=cpu,
        )
        for count in streams
    ]


async def shared(
    model: Model, device: str, tokens: int, streams: Sequence[int], attention: Any
) -> tuple[list[Row], int]:
    """Our engine: all requests at the same moment."""
    engine = ChatterboxEngine(model, device, attention=attention, length_of=lambda _: Bounds(tokens, tokens, tokens))
    capacity, engine.capacity = engine.capacity, max(streams)
    rows = []
    try:
        for count in (1, *streams):  # The first warms up.
            began, cpu = perf_counter(), process_time()
            heard = await asyncio.gather(*(listen(engine, seed) for seed in range(count)))
            wall, cpu = perf_counter() - began, process_time() - cpu
            audio = sum(one.audio for one in heard)
            rows.append(
                Row(
                    system="voxtrunk",
                    streams=count,
                    first_median=statistics.median(one.first for one in heard),
                    first_worst=max(one.first for one in heard),
                    speed=audio / wall,
                    slowest=max(one.whole / one.audio for one in heard),
                    gaps=max(one.gaps for one in heard),
                    cpu=cpu / audio,
                )
            )
    finally:
        await engine.aclose()
    return rows[1:], capacity


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


def table(rows: Sequence[Row]) -> str:
    lines = [
        "system    streams  first audio, median / worst, ms   speed, x real time   slowest, RTF   gap, ms   CPU, s/s"
    ]
    lines += [
        f"{row.system:<9} {row.streams:>7}  {row.first_median * 1e3:>14.0f} / {row.first_worst * 1e3:<15.0f} "
        f"{row.speed:>20.2f} {row.slowest:>14.2f} {row.gaps * 1e3:>9.0f} {row.cpu:>10.3f}"
        for row in rows
    ]
    return "\n".join(lines)


def verdicts(limits: str, theirs: Sequence[Row], ours: Sequence[Row]) -> list[tuple[str, bool]]:
    """What must hold, and whether it does."""
    pairs = {row.streams: (other, row) for other, row in zip(theirs, ours, strict=True)}
    found = []
    if limits == "cpu":
        if 1 in pairs:
            other, row = pairs[1]
            ratio = other.first_worst / row.first_worst
            found.append((f"first audio of 1 stream {ratio:.1f} times earlier than upstream (at least 5)", ratio >= 5))
        if 8 in pairs:
            other, row = pairs[8]
            ratio = row.speed / other.speed
            found.append((f"8 streams together {ratio:.1f} times as fast as one by one (at least 2)", ratio >= 2))
    elif limits == "gpu":
        for count, most in ((1, 0.12), (32, 0.3)):
            if count in pairs:
                worst = pairs[count][1].first_worst
                line = f"first audio of {count} streams after {worst * 1e3:.0f} ms (at most {most * 1e3:.0f})"
                found.append((line, worst <= most))
        for count, (_, row) in pairs.items():
            found.append((f"{count} streams faster than real time: RTF {row.slowest:.2f}", row.slowest < 1))
    return found


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
