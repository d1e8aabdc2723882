"""How well speech is understood after loss and jitter: our receive path beside others, on the very same packets.

    python -m bench.speech [--quick] [--systems voxtrunk,zero-fill,pjsua2,aiortc] [--json]
                           [--loss 0,1,3,5,10] [--jitter 0,20,40,80] [--seeds 2] [--first-seed 1]

See README.md for what is compared and how it is scored. Exit status 1 if ours is not ahead of each peer in every row
with loss, or adds too much delay on a clean line.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import pairwise, product

import numpy as np
from rich.console import Console
from rich.progress import track

from bench.speech.kept import score
from bench.speech.material import VOICES, Material, material
from bench.speech.network import Impairment, Trace, trace
from bench.speech.report import Result, as_json, show
from bench.speech.scores import Recogniser, Score
from bench.speech.systems import SYSTEMS, clean_delays, missing
from bench.speech.verdict import Row, comparisons
from bench.voices import PROGRAMS

OURS = next(iter(SYSTEMS))
LOSSES, JITTERS, SEEDS, SENTENCES = "0,1,3,5,10", "0,20,40,80", 2, 40
QUICK_SENTENCES = 12
QUICK = (
    Impairment(0.05),
    Impairment(0.10),
    Impairment(0.05, bursty=True),
    Impairment(0.10, bursty=True),
    Impairment(jitter=0.04),
    Impairment(0.03, jitter=0.02),
    Impairment(0.05, jitter=0.04),
    Impairment(0.05, bursty=True, jitter=0.08),
)
"""Rows of a quick run."""

PIPED_WIDTH = 120
"""Columns of the table where no terminal tells them."""
CLEAN_PHASES, CLEAN_SECONDS, CLEAN_SETTLED = 25, 8.0, 3.0
"""Of the clean line: so many phases between packets and ticks, so long, figures from then on."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.speech", description="Measure speech after loss and jitter.")
    parser.add_argument("--systems", help=f"comma list (default: those installed of {','.join(SYSTEMS)})")
    parser.add_argument("--quick", action="store_true", help="fewer rows and sentences, one seed")
    parser.add_argument("--loss", default=LOSSES, help="percent, random and bursty (default: %(default)s)")
    parser.add_argument("--jitter", default=JITTERS, help="ms (default: %(default)s)")
    parser.add_argument("--seeds", type=int, help=f"traces per row (default: {SEEDS}; 1 with --quick)")
    parser.add_argument("--first-seed", type=int, default=1, help="of them (default: %(default)s)")
    parser.add_argument("--sentences", type=int, help=f"default: {SENTENCES}; {QUICK_SENTENCES} with --quick")
    parser.add_argument("--voices", default=",".join(VOICES), help="program:voice, ... (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    absent = [name for name in SYSTEMS if missing(name)]
    systems = options.systems.split(",") if options.systems else [name for name in SYSTEMS if name not in absent]
    if unknown := [name for name in systems if name not in SYSTEMS]:
        parser.error(f"no system {', '.join(unknown)} (there are {', '.join(SYSTEMS)})")
    voices = tuple(options.voices.split(","))
    if wrong := [voice for voice in voices if voice.partition(":")[0] not in PROGRAMS]:
        parser.error(f"no voice {', '.join(wrong)} (there are those of {', '.join(PROGRAMS)}: {VOICES[0]})")
    if not options.systems and absent:
        print(f"left out: {', '.join(absent)} (pip install 'voxtrunk[bench,phone]')", file=sys.stderr)
    varied = (options.loss, options.jitter) != (LOSSES, JITTERS)
    result = measure(
        list(rows(percents(options.loss), percents(options.jitter, 1000))) if varied or not options.quick else QUICK,
        systems,
        seeds=range(options.first_seed, options.first_seed + (options.seeds or (1 if options.quick else SEEDS))),
        sentences=options.sentences or (QUICK_SENTENCES if options.quick else SENTENCES),
        voices=voices,
        jobs=options.jobs,
    )
    if options.json:
        print(json.dumps(as_json(result), indent=2))
    else:
        console = Console()
        show(result, console if console.is_terminal else Console(width=PIPED_WIDTH))
    sys.exit(not result.good)


def percents(text: str, scale: float = 100) -> list[float]:
    """Numbers of a comma list, as shares (or whatever `scale` makes of them)."""
    return [float(number) / scale for number in text.split(",")]


def rows(losses: Sequence[float], jitters: Sequence[float]) -> Iterator[Impairment]:
    """Every loss, random and bursty, with every jitter."""
    for jitter, bursty, loss in product(jitters, (False, True), losses):
        if loss or not bursty:
            yield Impairment(loss, bursty, jitter)


def measure(
    impairments: Sequence[Impairment],
    systems: Sequence[str],
    *,
    seeds: Sequence[int],
    sentences: int,
    voices: tuple[str, ...],
    jobs: int,
) -> Result:
    """Runs everything."""
    spoken = material(sentences, voices)
    console = Console(stderr=True)
    tasks = list(product(impairments, seeds))
    with ProcessPoolExecutor(jobs) as pool:
        ran = pool.map(partial(run, sentences, voices, tuple(systems)), tasks)
        shown = track(ran, "listening", len(tasks), console=console, transient=True, disable=not console.is_terminal)
        scored = dict(zip(tasks, shown, strict=True))
    found = []
    for impairment in impairments:
        traces = [trace(impairment, len(spoken.payloads), seed) for seed in seeds]
        found.append(
            Row(
                impairment,
                packets=sum(one.count for one in traces),
                lost=sum(one.count - len(one.arrivals) for one in traces),
                reordered=sum(map(overtaken, traces)),
                scores={name: [scored[impairment, seed][name] for seed in seeds] for name in systems},
            )
        )
    packets = round(CLEAN_SECONDS * 50)
    payloads = [spoken.payloads[index % len(spoken.payloads)] for index in range(packets)]
    clean = clean_delays(payloads, [trace(Impairment(), packets, seed) for seed in range(CLEAN_PHASES)], CLEAN_SETTLED)
    p50, p95 = np.percentile(clean, (50, 95))
    return Result(
        sentences=sentences,
        voices=voices,
        speech_seconds=spoken.speech_seconds,
        seeds=seeds,
        rows=found,
        clean_p50=float(p50),
        clean_p95=float(p95),
        comparisons=comparisons(found, OURS),
    )


def overtaken(one: Trace) -> int:
    """Packets that came after one that had left later."""
    return sum(later.packet < earlier.packet for earlier, later in pairwise(one.arrivals))


def run(
    sentences: int, voices: tuple[str, ...], systems: Sequence[str], task: tuple[Impairment, int]
) -> dict[str, Score]:
    """Every system's score on one trace, in a process of the pool."""
    impairment, seed = task
    spoken, recogniser = listening(sentences, voices)
    packets = trace(impairment, len(spoken.payloads), seed)
    return {name: score(spoken, packets, SYSTEMS[name](spoken.payloads, packets), recogniser) for name in systems}


@cache
def listening(sentences: int, voices: tuple[str, ...]) -> tuple[Material, Recogniser]:
    """What a process makes once."""
    return material(sentences, voices), Recogniser()


if __name__ == "__main__":
    main()
