"""What noise suppression and echo cancellation (engine `webrtc-apm`) do for the conversation, and what they cost.

    python -m bench.audio_processing [--lines N] [--seed N] [--json]

Everything goes through mu-law at 8 kHz and then through the engine as in a call, 20 ms at a time; the judges are
those of a conversation: `silero` with the turn-taking's default settings, `pocketsphinx` with the phrases of
flavors/offline.yml.

* noise: callers (flite) say the flavor's sentences at -20 dB in white noise, mains hum, and the babble of eight
  voices. wer: word errors of the recogniser. refused: sentences with another meaning, or none, after recognition.
  speech: share of the noise alone that is taken for speech
* echo: the agent (flite) speaks at -20 dB for a minute, and the line returns it at an echo return loss (`loss`, dB)
  and after a delay. erle: echo return loss enhancement, dB, from the third second on. false: interruptions per minute,
  with nobody there. Callers then say sentences at -20 dB while the agent speaks: heard: those that interrupt within a
  second of their beginning (a turn that the echo has begun hides them); after: how late, median; wer: of what was said
  over the agent's voice
* cost: of a batch that holds a frame of each call, as the service hands it over, µs per frame: `process` is the whole
  way there and back, `loop` the event loop's own time

Delay `moves`: it by 20 or 40 ms every five seconds, as it does when jitter buffers adapt.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.offline_rejection import known_lines, script, speak, strange_lines
from connector.audio import Audio, Frame, Samples
from connector.codec.g711 import MuLaw
from connector.config import models_cache
from connector.config.model import TurnSettings
from connector.host import LocalEngineHost
from connector.interfaces import Captured, EngineContext
from connector.turn.endpointing import Endpointing, SpeechStarted
from flavors.engines import silero
from flavors.engines._resample import resample
from flavors.engines.intents import Intents
from flavors.engines.pocketsphinx import PocketSphinxOptions, Recogniser, words_of
from flavors.engines.webrtc_apm import WebRtcApm, WebRtcApmOptions

RATE = 8000
FRAME = 160
LEVEL = -20.0
"""Root mean square of speech, dB below full scale."""
CALLERS = ("rms", "kal16", "awb")
AGENT = "slt"
SETTLING = 2.0
"""Seconds of noise before an utterance: in a call, the noise was there before the caller spoke."""
AROUND = 0.4
"""Seconds around an utterance that go to the recogniser with it."""

Floats = NDArray[np.float64]
Variants = Mapping[str, WebRtcApmOptions | None]

NOISES = ("white", "hum", "babble")
SNRS = (20, 10, 5, 0)
ALONE = 60.0
NOISE_VARIANTS: Variants = {
    "as it is": None,
    "noise suppression": WebRtcApmOptions(noise_suppression=True),
}
ECHO_VARIANTS: Variants = {
    "as it is": None,
    "echo cancellation": WebRtcApmOptions(echo_cancellation=True),
    "echo and noise": WebRtcApmOptions(echo_cancellation=True, noise_suppression=True),
}
ECHOES = ((90, 0), (10, 150), (20, 40), (20, 150), (20, 300), (20, 450), (20, 600), (30, 150))
"""Echo return loss in dB, and delay in ms; the first is no echo at all."""
MOVING = (20, 150)


# --------------------------------------------------------------------------------------- sound


def at_level(samples: Floats, level: float) -> Floats:
    """`samples` with the root mean square `level`, dB below full scale; of speech, where there is speech."""
    loudness = np.abs(samples)
    sounding = samples[loudness > 0.02 * loudness.max()]
    return np.asarray(samples * (32768 * 10 ** (level / 20) / np.sqrt(np.mean(sounding**2))))


def said(text: str, voice: str) -> Floats:
    """`text` at 8 kHz and the usual level."""
    return at_level(resample(speak(text, voice), RATE).astype(np.float64), LEVEL)


def telephone(samples: Floats) -> Samples:
    """What mu-law leaves of `samples`, in whole frames."""
    padded = np.pad(samples, (0, -len(samples) % FRAME))
    codec = MuLaw()
    return codec.decode(codec.encode(np.clip(padded, -32768, 32767).astype(np.int16)))


def noise(kind: str, seconds: float, draw: np.random.Generator) -> Floats:
    """Noise with a root mean square of 1."""
    count = int(seconds * RATE)
    if kind == "white":
        samples = draw.normal(0, 1, count)
    elif kind == "hum":
        times = np.arange(count) / RATE + draw.uniform(0, 1)
        samples = sum(np.sin(2 * np.pi * 50 * n * times) / n for n in (1, 2, 3, 5, 7, 9)) + draw.normal(0, 0.05, count)
    else:
        voices = ("slt", "rms", "kal16", "awb")
        samples = np.zeros(count)
        for number in range(8):
            texts = draw.permutation([line.text for line in strange_lines()])[:6]
            voice = np.concatenate([said(text, voices[number % 4]) for text in texts])
            samples += np.resize(np.roll(voice, draw.integers(len(voice))), count)
    return np.asarray(samples / np.sqrt(np.mean(samples**2)))


def echo_of(agent: Samples, loss: float, delays: Sequence[int], draw: np.random.Generator) -> Floats:
    """`agent` as a phone in a small room returns it, delayed by each of `delays` (ms) for five seconds in turn."""
    room = draw.normal(0, 1, 160) * np.exp(-np.arange(160) / 30)
    room[0] = 2.0
    reflected = np.convolve(agent.astype(np.float64), room / np.sqrt(np.sum(room**2)))[: len(agent)]
    echo = np.zeros(len(agent))
    stretch = 5 * RATE
    for start, delay in zip(range(0, len(agent), stretch), itertools.cycle(delays), strict=False):
        shift = delay * RATE // 1000
        piece = np.arange(start, min(start + stretch, len(agent))) - shift
        echo[piece[piece >= 0] + shift] = reflected[piece[piece >= 0]]
    return np.asarray(echo * 10 ** (-loss / 20) + draw.normal(0, 10, len(agent)))


# --------------------------------------------------------------------------------------- judges


@dataclass
class Judges:
    """The engines of a conversation."""

    host: LocalEngineHost
    vad: silero.Silero
    recogniser: Recogniser
    desk: Intents

    @classmethod
    @asynccontextmanager
    async def ready(cls) -> AsyncIterator[Judges]:
        models = models_cache.default_folder()
        models_cache.fetch(silero.MODEL, models)
        host = LocalEngineHost()
        vad = silero.Silero(EngineContext(host, models))
        await vad.start()
        recogniser = Recogniser(PocketSphinxOptions())
        try:
            yield cls(host, vad, recogniser, Intents(script()))
        finally:
            await host.aclose()

    async def heard(
        self, captured: Sequence[Samples], rendered: Sequence[Samples] | None, options: WebRtcApmOptions | None
    ) -> tuple[list[Samples], float]:
        """What the pipeline hears of each call, and the delay in seconds."""
        if options is None:
            return list(captured), 0.0
        engine = WebRtcApm(options, EngineContext(self.host, Path()))
        await engine.start()
        try:
            parts: list[list[Samples]] = [[] for _ in captured]
            for start in range(0, max(map(len, captured)), FRAME):
                piece = slice(start, start + FRAME)
                numbers = [number for number, samples in enumerate(captured) if len(samples[piece])]
                batch = [
                    Captured(
                        number,
                        Frame(captured[number][piece], RATE, start / RATE),
                        () if rendered is None else (Frame(rendered[number][piece], RATE, start / RATE),),
                    )
                    for number in numbers
                ]
                for number, samples in zip(numbers, await engine.process(batch), strict=True):
                    parts[number].append(samples)
        finally:
            await engine.aclose()
        return [np.concatenate(part) for part in parts], engine.delay(RATE)

    async def speech_share(self, samples: Samples) -> float:
        """Share of the windows that are taken for speech."""
        judged = [probability >= TurnSettings().speech_probability async for _, [probability] in self._judge([samples])]
        return round(float(np.mean(judged)), 3)

    async def starts(self, calls: Sequence[Samples], needed: float) -> list[list[float]]:
        """When turns begin in each call, in seconds, where they take `needed` seconds of speech."""
        turns = [Endpointing(TurnSettings()) for _ in calls]
        found: list[list[float]] = [[] for _ in calls]
        async for end, probabilities in self._judge(calls):
            for turn, times, probability in zip(turns, found, probabilities, strict=True):
                if isinstance(turn.feed(end, self.vad.window / RATE, probability, needed), SpeechStarted):
                    times.append(end)
        return found

    async def _judge(self, calls: Sequence[Samples]) -> AsyncIterator[tuple[float, list[float]]]:
        """The end in seconds of each window, and its probability in each of `calls`, all as long as the first."""
        window = self.vad.window
        audio = np.stack(calls).astype(np.float32) / np.float32(32768)
        states = np.stack([self.vad.initial_state()] * len(calls))
        for end in range(window, audio.shape[1] + 1, window):
            probabilities, states = await self.vad.probabilities(audio[:, end - window : end], states)
            yield end / RATE, [float(probability) for probability in probabilities]

    def understood(self, samples: Samples, text: str, intent: str) -> tuple[int, int, bool]:
        """Words of `text`, word errors, and whether the meaning was found."""
        phrases = tuple(self.desk.phrases)
        self.recogniser.prepare(phrases)
        heard = self.recogniser(Audio(samples, RATE), phrases).text
        match = self.desk.match(heard)
        wanted = words_of(text)
        return len(wanted), distance(wanted, words_of(heard)), match is not None and match.intent.name == intent


def distance(wanted: Sequence[str], heard: Sequence[str]) -> int:
    """Words to insert, delete or replace (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for count, word in enumerate(wanted, 1):
        previous, row[0] = row[0], count
        for index, other in enumerate(heard, 1):
            previous, row[index] = row[index], min(row[index] + 1, row[index - 1] + 1, previous + (word != other))
    return row[-1]


# --------------------------------------------------------------------------------------- noise


@dataclass(frozen=True, slots=True)
class NoiseRow:
    """Shares, 0 to 1."""

    noise: str
    snr: int
    variant: str
    wer: float
    refused: float
    speech: float


async def noise_rows(judges: Judges, lines: int, seed: int) -> AsyncIterator[NoiseRow]:
    """A row for each noise, level and variant."""
    draw = np.random.default_rng(seed)
    chosen = known_lines(seed, 1)[:lines]
    utterances = [(line, said(line.text, voice)) for line in chosen for voice in CALLERS]
    backgrounds = {kind: noise(kind, ALONE, draw) for kind in NOISES}
    for kind, snr in itertools.product(NOISES, SNRS):
        background = backgrounds[kind] * (32768 * 10 ** ((LEVEL - snr) / 20))
        calls = []
        for _, speech in utterances:
            whole = np.pad(speech, (int(SETTLING * RATE), RATE))
            offset = int(draw.integers(len(background) - len(whole)))
            calls.append(telephone(whole + background[offset : offset + len(whole)]))
        for variant, options in NOISE_VARIANTS.items():
            heard, delay = await judges.heard([*calls, telephone(background)], None, options)
            results = []
            for (line, speech), samples in zip(utterances, heard, strict=False):
                start = int((SETTLING - AROUND + delay) * RATE)
                utterance = samples[start : start + len(speech) + int(2 * AROUND * RATE)]
                results.append(judges.understood(utterance, line.text, line.intent))
            speech_share = await judges.speech_share(heard[-1])
            wer = sum(errors for _, errors, _ in results) / sum(count for count, _, _ in results)
            refused = sum(not right for _, _, right in results) / len(results)
            yield NoiseRow(kind, snr, variant, round(wer, 3), round(refused, 3), speech_share)


# --------------------------------------------------------------------------------------- echo


@dataclass(frozen=True, slots=True)
class EchoRow:
    """`erle`: dB. `false`: interruptions per minute. `heard`, `wer`: shares. `after`: seconds."""

    loss: int
    delay: str
    variant: str
    erle: float
    false: float
    heard: float
    after: float | None
    wer: float


async def echo_rows(judges: Judges, lines: int, seed: int) -> AsyncIterator[EchoRow]:
    """A row for each path of the echo and variant."""
    draw = np.random.default_rng(seed)
    texts = [line.text for line in strange_lines()]
    pause = np.zeros(RATE // 4)
    agent = np.concatenate([part for text in texts[:40] for part in (said(text, AGENT), pause)])[: int(ALONE * RATE)]
    emitted = telephone(agent)
    speech = [
        (line, said(line.text, voice)) for line, voice in zip(known_lines(seed, 1)[:lines], itertools.cycle(CALLERS))
    ]
    paths = [(loss, [delay], f"{delay} ms") for loss, delay in ECHOES]
    loss, delay = MOVING
    paths.append((loss, [delay, delay + 40, delay + 20, delay - 20], "moves"))
    for loss, delays, name in paths:
        echo = echo_of(emitted, loss, delays, draw)
        calls = [telephone(echo)]
        begins = []
        for _, caller in speech:
            begin = int(draw.uniform(6, ALONE - 8) * RATE)
            both = echo.copy()
            both[begin : begin + len(caller)] += caller
            begins.append(begin)
            calls.append(telephone(both))
        for variant, options in ECHO_VARIANTS.items():
            heard, late = await judges.heard(calls, [emitted] * len(calls), options)
            starts = await judges.starts(heard, TurnSettings().barge_in_seconds)
            results, waits = [], []
            for (line, caller), begin, samples, times in zip(speech, begins, heard[1:], starts[1:], strict=True):
                waits += [time - begin / RATE for time in times if 0 <= time - begin / RATE <= 1][:1]
                start = begin + int((late - AROUND) * RATE)
                utterance = samples[start : start + len(caller) + int(2 * AROUND * RATE)]
                results.append(judges.understood(utterance, line.text, line.intent))
            settled = slice(2 * RATE, len(calls[0]))
            count = sum(count for count, _, _ in results)
            yield EchoRow(
                loss,
                name,
                variant,
                round(power(calls[0][settled]) - power(heard[0][settled]), 1),
                len(starts[0]) * 60 / ALONE,
                round(len(waits) / len(speech), 3),
                round(float(np.median(waits)), 3) if waits else None,
                round(sum(errors for _, errors, _ in results) / count, 3),
            )


def power(samples: Samples) -> float:
    """dB below full scale."""
    return 10 * float(np.log10(np.mean(np.square(samples.astype(np.float64))) + 1e-3)) - 90.3


# --------------------------------------------------------------------------------------- cost


@dataclass(frozen=True, slots=True)
class CostRow:
    """Per 20 ms frame of a call, in µs: `process` of the engine's process, `loop` of the connector's event loop."""

    rate: int
    variant: str
    process: float
    loop: float


async def cost_rows(calls: int = 50, ticks: int = 100) -> AsyncIterator[CostRow]:
    """Medians over batches of `calls` frames of noise."""
    for rate, (variant, options) in itertools.product((8000, 16000), ECHO_VARIANTS.items() | NOISE_VARIANTS.items()):
        if options is None:
            continue
        host = LocalEngineHost()
        engine = WebRtcApm(options, EngineContext(host, Path()))
        await engine.start()
        sound = [np.random.default_rng(n).normal(0, 1000, rate // 50).astype(np.int16) for n in range(16)]
        walls, loops = [], []
        for tick in range(ticks):
            frames = [Frame(sound[(tick + n) % 16], rate, 0.0) for n in range(calls)]
            batch = [Captured(n, frame, (frames[-1 - n],)) for n, frame in enumerate(frames)]
            wall, loop = time.perf_counter(), time.thread_time()
            await engine.process(batch)
            walls.append(time.perf_counter() - wall)
            loops.append(time.thread_time() - loop)
        await host.aclose()
        scale = 1e6 / calls
        process, loop = (round(float(np.median(times)) * scale, 1) for times in (walls, loops))
        yield CostRow(rate, variant, process, loop)


# --------------------------------------------------------------------------------------- the command


async def measure(lines: int, seed: int, *, as_json: bool) -> None:
    """Prints every row as soon as it is found, or all of them as JSON."""
    found: dict[str, list[dict[str, object]]] = {}
    async with Judges.ready() as judges:
        parts: Mapping[str, AsyncIterator[NoiseRow | EchoRow | CostRow]] = {
            "noise": noise_rows(judges, lines, seed),
            "echo": echo_rows(judges, lines, seed),
            "cost": cost_rows(),
        }
        for part, rows in parts.items():
            found[part] = []
            async for row in rows:
                fields = asdict(row)
                if not as_json and not found[part]:
                    print(part, "  ".join(f"{name:>17}" for name in fields), sep="\n")
                if not as_json:
                    print("  ".join(f"{value!s:>17}" for value in fields.values()), flush=True)
                found[part].append(fields)
    if as_json:
        json.dump(found, sys.stdout, indent=1)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--lines", type=int, default=8, help="sentences; in noise, each in every caller's voice")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.lines, arguments.seed, as_json=arguments.json))


if __name__ == "__main__":
    main()
