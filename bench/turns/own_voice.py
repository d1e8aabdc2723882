"""How well the agent knows its own voice when the line returns it (`connector.turn.own_voice`), and what asking costs.

    python -m bench.turns.own_voice [--calls N] [--seed N] [--json]

The agent speaks at -20 dBFS, in one voice per call; other voices are its callers. A loudspeaker that distorts, a room
(exponential decay of 50, 100 or 200 ms reverberation time, the direct sound 0 to 6 dB above the rest), 20 to 250 ms,
the telephone band and mu-law twice return it; then comes the line's noise. The question is asked every 32 ms.

* echo: nobody else is there. `windows`: those of 0.1 s whose newest 30 ms are 7 dB above the noise and less than 18 dB
  below the echo's loud parts, from 0.1 s after the first on; `echo`: those called echo, in percent, and `echo_160` the
  same with windows of 0.16 s; `longest`: windows of 0.1 s in a row that were not; `stops`: rows of five or more, which
  is as long as an interruption takes
* caller: somebody begins to speak. `after_60`, `after_100`, `after_160`: calls in which the window of 0.1 s that ends
  so many ms after his onset is not called echo, in percent; `louder`: the same after 100 ms, of those calls in which he
  is 3 dB above the echo in that window
* both: a caller talks on over the agent, for longer than any agent would let him; `windows` in which he is 3 dB above
  the echo, and those of them that are not called echo, in percent
* noise: the same with coughs and other noises over the agent's voice; `heard`: windows in which one is 3 dB above the
  echo; `not_echo`: percent of them
* cost: medians in µs of this thread's CPU time, per question with windows of 0.1 s, and per frame that is kept
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.turns.noises import noises
from bench.voices import spoken
from connector.audio import FRAME_SECONDS, Frame, Samples
from connector.codec.g711 import MuLaw
from connector.turn.own_voice import Echo, OwnVoice

RATE = 8000
FRAME = 160
FULL_SCALE = 32768
VOICES = ("flite:slt", "flite:rms", "flite:awb", "espeak-ng:en-us", "espeak-ng:en-gb")
TEXTS = Path(__file__).resolve().parents[1] / "out_of_grammar.txt"
SENTENCES = 12
"""Of each voice."""
LOSSES = (15, 20, 25, 30)
DELAYS = (0.02, 0.06, 0.12, 0.25)
REVERBERATIONS = (0.05, 0.1, 0.2)
DIRECT = (0.0, 3.0, 6.0)
"""dB above the reverberation."""
LINE_NOISES = (-66, -50)
STEP = 0.032
WINDOWS = (0.1, 0.16)
LATER = (0.06, 0.1, 0.16)
SECONDS = 6.0
INTERRUPTED = 5
"""Windows in a row, 0.16 s: `barge_in_seconds` as it is by default."""

Floats = NDArray[np.float64]
Random = np.random.Generator


# --------------------------------------------------------------------------------------- sound


def voices() -> Mapping[str, Sequence[Floats]]:
    """Sentences of each voice that is installed, at -20 dBFS."""
    texts = [line for line in TEXTS.read_text().splitlines() if line and line[0] not in "#["]
    found: dict[str, Sequence[Floats]] = {}
    for number, voice in enumerate(VOICES):
        if shutil.which(voice.partition(":")[0]) is None:
            print(f"left out: {voice} (not installed)", file=sys.stderr)
            continue
        chosen = texts[number * SENTENCES : (number + 1) * SENTENCES]
        found[voice] = [levelled(spoken(voice, text, RATE).astype(np.float64), -20.0) for text in chosen]
    if len(found) < 2:
        sys.exit("needs two voices: apt-get install flite espeak-ng")
    return found


def levelled(samples: Floats, level: float) -> Floats:
    """`samples` at `level` dB below full scale, pauses not counted."""
    sounding = samples[np.abs(samples) > 0.02 * np.abs(samples).max()]
    return np.asarray(samples * FULL_SCALE * 10 ** (level / 20) / np.sqrt(np.mean(sounding**2)))


def monologue(sentences: Sequence[Floats], draw: Random) -> Samples:
    """`SECONDS` of them with pauses of 50 to 500 ms, as they leave."""
    pieces = [np.pad(sentences[n], (0, int(draw.uniform(0.05, 0.5) * RATE))) for n in draw.permutation(len(sentences))]
    speech = np.resize(np.concatenate(pieces), int(SECONDS * RATE))
    return coded(speech)


def coded(samples: Floats) -> Samples:
    """What mu-law leaves."""
    codec = MuLaw()
    return codec.decode(codec.encode(np.clip(np.rint(samples), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)))


def echo_of(agent: Samples, loss: float, draw: Random) -> Floats:
    """`agent` as the far end's microphone returns it, `loss` dB quieter, by a path that is drawn."""
    reverberation, delay = draw.choice(REVERBERATIONS), draw.choice(DELAYS)
    times = np.arange(int(reverberation * RATE)) / RATE
    room = draw.normal(0, 1, len(times)) * 10 ** (-3 * times / reverberation)
    room *= 10 ** (-draw.choice(DIRECT) / 20) / np.sqrt(np.sum(room**2))
    room[0] += 1.0
    sound = np.convolve(agent, room / np.sqrt(np.sum(room**2)))[: len(agent)] / FULL_SCALE
    distorted = np.tanh(2 * sound) / 2 * FULL_SCALE
    late = np.concatenate([np.zeros(int(delay * RATE)), telephone_band(distorted)])[: len(agent)]
    return np.asarray(late * 10 ** (-loss / 20))


def telephone_band(samples: Floats) -> Floats:
    """300 to 3,400 Hz."""
    taps = np.arange(-32, 33) / RATE
    band = (6800 / RATE * np.sinc(6800 * taps) - 600 / RATE * np.sinc(600 * taps)) * np.hamming(len(taps))
    return np.convolve(samples, band)[32 : 32 + len(samples)]


def line(samples: Floats, noise: float, draw: Random) -> Samples:
    """`samples` after the far end's codec, the line's `noise` (dB below full scale) and ours."""
    return coded(coded(samples) + draw.normal(0, FULL_SCALE * 10 ** (noise / 20), len(samples)))


def level(samples: Samples | Floats, end: float, seconds: float) -> float:
    """dB below full scale of the `seconds` that end at `end`."""
    piece = samples[max(0, round((end - seconds) * RATE)) : round(end * RATE)].astype(np.float64)
    return 10 * float(np.log10(np.mean(piece**2) + 1e-3)) - 20 * float(np.log10(FULL_SCALE))


# --------------------------------------------------------------------------------------- calls


def answers(
    agent: Samples, heard: Samples, window: float, wanted: Callable[[float], bool]
) -> Iterator[tuple[float, Echo]]:
    """What is said at each step that is `wanted`, with its time."""
    own_voice = OwnVoice()
    asked = STEP
    for number in range(len(heard) // FRAME):
        piece = slice(number * FRAME, (number + 1) * FRAME)
        begin, end = number * FRAME_SECONDS, (number + 1) * FRAME_SECONDS
        own_voice.spoken(Frame(agent[piece], RATE, begin), end)
        own_voice.heard(Frame(heard[piece], RATE, begin), end)
        if end >= asked:
            asked += STEP
            if wanted(end):
                yield end, own_voice.echo(window)


def audible(heard: Samples, noise: float) -> Callable[[float], bool]:
    """Whether something is heard at a time, as a voice activity detection would say it."""
    loud = np.percentile([level(heard, end, 0.03) for end in np.arange(0.03, SECONDS, 0.01)], 90)
    return lambda end: level(heard, end, 0.03) > max(noise + 7, loud - 18)


@dataclass(frozen=True, slots=True)
class EchoRow:
    """Percent, and counts."""

    loss: int
    noise: int
    windows: int
    echo: float
    echo_160: float
    longest: int
    stops: int


def echo_rows(speech: Mapping[str, Sequence[Floats]], calls: int, draw: Random) -> Iterator[EchoRow]:
    for loss in LOSSES:
        for noise in LINE_NOISES:
            found: dict[float, list[bool]] = {window: [] for window in WINDOWS}
            longest = stops = 0
            for number in range(calls):
                agent = monologue(speech[list(speech)[number % len(speech)]], draw)
                heard = line(echo_of(agent, loss, draw), noise, draw)
                for window in WINDOWS:
                    first, last, row = np.inf, 0.0, 0
                    for end, answer in answers(agent, heard, window, audible(heard, noise)):
                        first = min(first, end)
                        if end < first + 0.1:
                            continue
                        found[window].append(answer.is_echo)
                        if window == WINDOWS[0]:
                            row = 0 if answer.is_echo else row + 1 if end - last < 2 * STEP else 1
                            longest, stops, last = max(longest, row), stops + (row == INTERRUPTED), end
            short, long = (found[window] for window in WINDOWS)
            yield EchoRow(-loss, noise, len(short), percent(short), percent(long), longest, stops)


@dataclass(frozen=True, slots=True)
class CallerRow:
    """Percent."""

    echo: int | None
    caller: int
    after_60: float
    after_100: float
    after_160: float
    louder: float
    calls: int


def caller_rows(speech: Mapping[str, Sequence[Floats]], calls: int, draw: Random) -> Iterator[CallerRow]:
    for loss in (None, *LOSSES):
        for loudness in (-20, -30):
            found: dict[float, list[bool]] = {late: [] for late in LATER}
            louder: list[bool] = []
            for _ in range(calls):
                mine, theirs = draw.permutation(list(speech))[:2]
                agent = monologue(speech[mine], draw)
                echo = np.zeros(len(agent)) if loss is None else echo_of(agent, loss, draw)
                sentence = telephone_band(speech[theirs][int(draw.integers(SENTENCES))]) * 10 ** ((loudness + 20) / 20)
                caller = np.zeros(len(agent))
                begin = int(draw.uniform(0.5, 4.0) * RATE)
                caller[begin : begin + len(sentence)] = sentence[: len(agent) - begin]
                heard = line(echo + caller, -66, draw)
                onset = begin / RATE + sounding_from(sentence)
                own_voice = OwnVoice()
                for number in range(int((onset + LATER[-1]) / FRAME_SECONDS) + 1):
                    piece = slice(number * FRAME, (number + 1) * FRAME)
                    at, end = number * FRAME_SECONDS, (number + 1) * FRAME_SECONDS
                    own_voice.spoken(Frame(agent[piece], RATE, at), end)
                    own_voice.heard(Frame(heard[piece], RATE, at), end)
                    due = [late for late in LATER if at < onset + late <= end]
                    if due or (number % 3 == 0 and level(heard, end, 0.03) > -52):
                        answer = own_voice.echo(WINDOWS[0])
                        for late in due:
                            found[late].append(not answer.is_echo)
                            if late == 0.1 and level(caller, end, 0.1) > level(echo, end, 0.1) + 3:
                                louder.append(not answer.is_echo)
            after_60, after_100, after_160 = (percent(found[late]) for late in LATER)
            yield CallerRow(
                None if loss is None else -loss, loudness, after_60, after_100, after_160, percent(louder), calls
            )


def sounding_from(sentence: Floats) -> float:
    """Seconds until it comes within 22 dB of its loudest 20 ms."""
    levels = [level(sentence, end, 0.02) for end in np.arange(0.01, len(sentence) / RATE, 0.01)]
    return 0.01 * next(number for number, one in enumerate(levels) if one > max(levels) - 22)


@dataclass(frozen=True, slots=True)
class BothRow:
    """`not_echo`: percent."""

    echo: int | None
    windows: int
    not_echo: float


def both_rows(speech: Mapping[str, Sequence[Floats]], calls: int, draw: Random) -> Iterator[BothRow]:
    for loss in (None, *LOSSES):
        found: list[bool] = []
        for _ in range(calls):
            mine, theirs = draw.permutation(list(speech))[:2]
            agent = monologue(speech[mine], draw)
            echo = np.zeros(len(agent)) if loss is None else echo_of(agent, loss, draw)
            caller = telephone_band(monologue(speech[theirs], draw).astype(np.float64))
            caller[: 0 if loss is None else RATE] = 0
            heard = line(echo + caller, -66, draw)
            for end, answer in answers(agent, heard, WINDOWS[0], audible(heard, -66)):
                if level(caller, end, 0.1) > max(-50, level(echo, end, 0.1) + 3):
                    found.append(not answer.is_echo)
        yield BothRow(None if loss is None else -loss, len(found), percent(found))


@dataclass(frozen=True, slots=True)
class NoiseRow:
    """Percent."""

    sound: str
    echo: int | None
    heard: int
    not_echo: float


def noise_rows(speech: Mapping[str, Sequence[Floats]], calls: int, draw: Random) -> Iterator[NoiseRow]:
    for loss in (None, 20):
        found: dict[str, list[bool]] = {}
        for name, sound in noises(calls):
            agent = monologue(speech[draw.choice(list(speech))], draw)
            echo = np.zeros(len(agent)) if loss is None else echo_of(agent, loss, draw)
            over = np.zeros(len(agent))
            begin = int(draw.uniform(1, 4) * RATE)
            over[begin : begin + len(sound)] = FULL_SCALE * sound
            heard = line(echo + over, -66, draw)
            for end, answer in answers(agent, heard, WINDOWS[0], audible(heard, -66)):
                if level(over, end, 0.1) > max(-50, level(echo, end, 0.1) + 3):
                    found.setdefault(name, []).append(not answer.is_echo)
        for name, right in found.items():
            yield NoiseRow(name, None if loss is None else -loss, len(right), percent(right))


@dataclass(frozen=True, slots=True)
class CostRow:
    """µs."""

    rate: int
    echo_known: float
    searching: float
    frame: float


def cost_rows(speech: Mapping[str, Sequence[Floats]], draw: Random) -> Iterator[CostRow]:
    mine, theirs = list(speech)[:2]
    agent = monologue(speech[mine], draw)
    echo, caller = line(echo_of(agent, 20, draw), -66, draw), monologue(speech[theirs], draw)
    for rate in (8000, 16000, 48000):
        known, _ = cost(agent, echo, rate)
        searching, frame = cost(agent, caller, rate)
        yield CostRow(rate, known, searching, frame)


def cost(agent: Samples, heard: Samples, rate: int) -> tuple[float, float]:
    """Of asking, and of keeping a frame."""
    own_voice, asked, kept = OwnVoice(), [], []
    ours, theirs = (np.repeat(one, rate // RATE).reshape(-1, rate // 50) for one in (agent, heard))
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        at = number * FRAME_SECONDS
        frames = Frame(mine, rate, at), Frame(other, rate, at)
        begin = time.thread_time()
        own_voice.spoken(frames[0], at)
        own_voice.heard(frames[1], at)
        between = time.thread_time()
        kept.append((between - begin) / 2)
        if number % 2:
            own_voice.echo(WINDOWS[0])
            asked.append(time.thread_time() - between)
    return round(1e6 * float(np.median(asked[40:])), 1), round(1e6 * float(np.median(kept)), 2)


def percent(right: Sequence[bool]) -> float:
    return round(100 * float(np.mean(right)), 1) if right else float("nan")


# --------------------------------------------------------------------------------------- the command


def main() -> None:
    """Prints every row as soon as it is found, or all of them as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.turns.own_voice", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--calls", type=int, default=40, help="per row (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    draw = np.random.default_rng(arguments.seed)
    speech = voices()
    parts: Mapping[str, Iterator[EchoRow | CallerRow | BothRow | NoiseRow | CostRow]] = {
        "echo": echo_rows(speech, arguments.calls, draw),
        "caller": caller_rows(speech, arguments.calls, draw),
        "both": both_rows(speech, arguments.calls, draw),
        "noise": noise_rows(speech, arguments.calls, draw),
        "cost": cost_rows(speech, draw),
    }
    found: dict[str, list[dict[str, object]]] = {}
    for part, rows in parts.items():
        found[part] = []
        for row in rows:
            fields = asdict(row)
            if not arguments.json and not found[part]:
                print(part, "  ".join(f"{name:>12}" for name in fields), sep="\n")
            if not arguments.json:
                print("  ".join(f"{'none' if value is None else value!s:>12}" for value in fields.values()), flush=True)
            found[part].append(fields)
    if arguments.json:
        json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
