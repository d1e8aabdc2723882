"""How well the sound of an utterance tells whether it is finished: Smart Turn on telephone speech.

    python -m bench.turns.end_of_turn [--voices slt,en-us] [--sentences 8] [--json FILE]
    python -m bench.turns.end_of_turn --recordings FOLDER --texts FILE [--sentences 60] [--json FILE]

Speech is brought to 8 kHz µ-law over a noisy line and judged 100, 200, 300 and 500 ms after it ended: by all of the
turn, and by its last 1.5 s. It is made of sentences of one and of two parts (a comma between them) by synthetic voices,
or taken from recordings, a WAV file each: of those in FILE (lines `name: text`) that are one whole sentence of at
least five words. Debian's asterisk-core-sounds-en-wav has such files, and asterisk-core-sounds-en their texts.

| kind | what it is |
| --- | --- |
| finished, one part; finished, two parts | whole sentences |
| finished, after the pause | the second part, as it was said in its sentence |
| cut at a pause | a sentence up to where its speaker paused: at the comma, at clauses |
| cut in a phrase | a recording up to a gap of 25 to 80 ms: between words, or where a consonant closes |
| first part, apart | the first part, said as if nothing followed: only its words tell that something will |

`P(finished)`: 10th, 50th and 90th percentile. `at or above`: share of the utterances with such a probability; of
finished ones it should be 100 %, of others 0 %. `AUC`: how often a whole sentence has more of it than one of this kind
(0.5: the model knows nothing).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import wave
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import chain, pairwise, product
from pathlib import Path

import numpy as np

from bench.turns.clips import EDGE_DB, MARGIN_SECONDS, RATE, SPEECH_DBFS, STEP, TURNS, Floats
from bench.voices import spoken
from connector.audio import Audio, Samples
from connector.cli.console import print_table
from connector.codec.g711 import MuLaw
from connector.config.models_cache import default_folder
from connector.host import LocalEngineHost
from connector.interfaces import EngineContext, TurnDetector
from flavors.engines._resample import resample
from flavors.engines.smart_turn import SECONDS, SmartTurnOptions, descriptor

VOICES: Sequence[tuple[str, int]] = (
    ("flite:slt", 150),
    ("flite:rms", 150),
    ("flite:awb", 150),
    ("flite:kal16", 150),
    ("espeak-ng:en-us", 165),
    ("espeak-ng:en-us+f3", 140),
    ("espeak-ng:en-gb", 190),
)
"""Voices and their words per minute, where the program takes them."""

SENTENCES: Sequence[Sequence[str]] = (
    *(parts for _, parts in TURNS),
    ["I am calling about the invoice you sent me,", "because the amount is wrong."],
    ["If it is possible,", "I would like to come a little earlier."],
    ["My name is Peter Miller,", "and I live in Church Street."],
    ["When I called yesterday,", "nobody could tell me anything."],
    ["I need two single rooms,", "one of them with a balcony."],
    ["As far as I remember,", "it was delivered on Monday."],
    ["Before you put me through,", "could you tell me who I will speak to?"],
    ["I have tried it three times,", "but it still does not work."],
    ["The number on the letter is,", "four four two, nine one."],
    ["On the other hand,", "we could also meet in the afternoon."],
    ["Unless you have something cheaper,", "I will take the blue one."],
    ["Well, to be honest,", "I have not decided yet."],
    ["I bought it from you in March,", "and now the display is broken."],
    ["Would you mind telling me,", "how long the delivery takes?"],
    ["You can reach me at home,", "or at the office after five."],
    ["How much does it cost to park there?"],
    ["No, thank you, that was all."],
    ["I would like to speak to someone in accounting."],
    ["My flight was cancelled this morning."],
    ["Please cancel my subscription."],
    ["Is the doctor available tomorrow?"],
)

LINES: Sequence[tuple[float, Sequence[float]]] = ((-66.0, (0.1, 0.2, 0.3, 0.5)), (-40.0, (0.1,)))
"""Level of the line's noise, dBFS (speech has -20), and how long after speech the model is asked, seconds."""

FEEDS: Mapping[str, float | None] = {"turn": None, "last 1.5 s": 1.5}
"""What the model hears: seconds of speech before its end, and the silence after it."""

GAP_DB = -30.0
"""A gap lies so far below the level of the speech."""
COMMA_SECONDS = 0.06
"""The shortest pause of a synthetic voice at a comma: flite's."""
PAUSE_SECONDS = 0.1
"""The shortest of a person's."""
PHRASE_SECONDS = (0.025, 0.08)
"""Gaps within a phrase."""
WORDS = 5
"""Recordings with fewer are left out: they may well be a part of something."""
RECORDING_SECONDS = (1.0, 10.0)

FINISHED = "finished"
"""Beginning of the kinds that are."""

THRESHOLDS = (0.1, 0.2, 0.5, 0.7, 0.85, 0.95)


@dataclass(frozen=True)
class Judged:
    """One probability. `line`: dBFS. `after`: seconds of silence since the end of speech. `feed`: see `FEEDS`."""

    kind: str
    voice: str
    text: str
    line: float
    after: float
    feed: str
    probability: float


@dataclass(frozen=True)
class Utterance:
    """`speech`: from the beginning of the turn to its end, ±1.0 at 8 kHz."""

    kind: str
    voice: str
    text: str
    speech: Floats


def synthetic(voice: str, pace: int, parts: Sequence[str]) -> Iterator[Utterance]:
    """All that `voice` makes of one sentence."""
    text = " ".join(parts)
    whole = _levelled(spoken(voice, text, RATE, pace) / 32768)
    if len(parts) == 1:
        yield Utterance("finished, one part", voice, text, whole)
        return
    yield Utterance("finished, two parts", voice, text, whole)
    longest = max(gaps(whole), key=lambda gap: gap[1] - gap[0], default=(0, 0))
    if longest[1] - longest[0] >= COMMA_SECONDS * RATE:
        yield Utterance("finished, after the pause", voice, parts[1], whole[longest[1] :])
        yield Utterance("cut at a pause", voice, parts[0], whole[: longest[0]])
    yield Utterance("first part, apart", voice, parts[0], _levelled(spoken(voice, parts[0], RATE, pace) / 32768))


def recorded(file: Path, text: str) -> Iterator[Utterance]:
    """All that is made of one recording: none where it is too short or too long."""
    with wave.open(str(file)) as recording:
        rate = recording.getframerate()
        samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2").astype(np.int16)
    whole = _levelled(resample(Audio(samples, rate), RATE) / 32768)
    shortest, longest = RECORDING_SECONDS
    if not shortest <= len(whole) / RATE <= longest:
        return
    voice = file.parent.name
    yield Utterance("finished, one part", voice, text, whole)
    cuts = [(start, (end - start) / RATE) for start, end in gaps(whole) if start >= shortest * RATE]
    for start in [start for start, seconds in cuts if seconds >= PAUSE_SECONDS][:1]:
        yield Utterance("cut at a pause", voice, text, whole[:start])
    lower, upper = PHRASE_SECONDS
    for start in [start for start, seconds in cuts if lower <= seconds < upper][:1]:
        yield Utterance("cut in a phrase", voice, text, whole[:start])


def texts_of(file: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every recording that is one sentence."""
    for line in file.read_text().splitlines():
        name, _, text = line.partition(":")
        text = text.strip()
        if len(text.split()) >= WORDS and re.fullmatch(r"[^.?!;\[(<]+[.?!]", text):
            yield name, text


def gaps(speech: Floats) -> list[tuple[int, int]]:
    """Quiet stretches between a fifth and nine tenths of it: the first sample of each, and the one after its last."""
    loud = np.flatnonzero(_levels(speech) > _active(speech) * 10 ** (GAP_DB / 20))
    found = [((int(before) + 1) * STEP, int(after) * STEP) for before, after in pairwise(loud)]
    return [gap for gap in found if gap[1] > gap[0] and 0.2 < gap[0] / len(speech) < 0.9]


def _levels(speech: Floats) -> Floats:
    steps = speech[: len(speech) // STEP * STEP].reshape(-1, STEP)
    levels: Floats = np.sqrt((steps**2).mean(axis=1))
    return levels


def _active(speech: Floats) -> float:
    """Level of what is loud in it."""
    levels = _levels(speech)
    return float(np.sqrt((levels[levels > levels.max() / 10] ** 2).mean()))


def _levelled(sound: Floats) -> Floats:
    """The speech in `sound`, from its first to its last moment, as loud as telephone speech."""
    active = _active(sound)
    loud = np.flatnonzero(_levels(sound) > active * 10 ** (EDGE_DB / 20))
    levelled: Floats = sound[loud[0] * STEP : (loud[-1] + 1) * STEP] * 10 ** (SPEECH_DBFS / 20) / active
    return np.clip(levelled, -0.99, 0.99)


def over_line(speech: Floats, noise_dbfs: float, after: float) -> Samples:
    """`speech` with silence before and after it (seconds), and noise, through G.711 µ-law."""
    sound = np.concatenate((np.zeros(round(MARGIN_SECONDS * RATE)), speech, np.zeros(round(after * RATE))))
    sound += np.random.default_rng(1).standard_normal(len(sound)) * 10 ** (noise_dbfs / 20)
    codec = MuLaw()
    return codec.decode(codec.encode(np.clip(sound * 32767, -32768, 32767).astype(np.int16)))


async def judge(detector: TurnDetector, utterance: Utterance) -> list[Judged]:
    """What `detector` says of it over every line, after every silence, fed in every way."""
    judged = []
    for noise, delays in LINES:
        for after, (feed, seconds) in product(delays, FEEDS.items()):
            heard = over_line(utterance.speech, noise, after)
            if seconds is not None:
                heard = heard[-round((seconds + after) * RATE) :]
            probability = await detector.probability(Audio(heard, RATE))
            judged.append(Judged(utterance.kind, utterance.voice, utterance.text, noise, after, feed, probability))
    return judged


def rows(judged: Sequence[Judged]) -> Iterator[Sequence[str]]:
    """A line of the table for each line, delay, feed and kind."""
    for noise, delays in LINES:
        for after, feed in product(delays, FEEDS):
            same = [one for one in judged if (one.line, one.after, one.feed) == (noise, after, feed)]
            whole = np.array([one.probability for one in same if one.kind.startswith(FINISHED)])
            for kind in sorted({one.kind for one in same}, key=lambda kind: (not kind.startswith(FINISHED), kind)):
                values = np.array([one.probability for one in same if one.kind == kind])
                above = np.mean(whole[:, np.newaxis] > values)
                yield (
                    kind,
                    f"{noise:g}",
                    f"{1000 * after:.0f}",
                    feed,
                    str(len(values)),
                    " / ".join(f"{value:.2f}" for value in np.percentile(values, (10, 50, 90))),
                    " / ".join(f"{100 * np.mean(values >= threshold):.0f}" for threshold in THRESHOLDS),
                    "" if kind.startswith(FINISHED) else f"{above:.2f}",
                )


@asynccontextmanager
async def smart_turn() -> AsyncIterator[TurnDetector]:
    """The engine, with the model that `voxtrunk models fetch` brought."""
    host = LocalEngineHost()
    detector = descriptor.load(SmartTurnOptions(seconds=SECONDS), EngineContext(host, default_folder()))
    assert isinstance(detector, TurnDetector)
    try:
        await detector.start()
        yield detector
    finally:
        await detector.aclose()
        await host.aclose()


async def _judge_all(utterances: Sequence[Utterance]) -> list[Judged]:
    judged: list[Judged] = []
    async with smart_turn() as detector:
        for number, utterance in enumerate(utterances, 1):
            judged += await judge(detector, utterance)
            if number % 50 == 0:
                print(f"{number} of {len(utterances)} utterances", file=sys.stderr, flush=True)
    return judged


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.turns.end_of_turn", description=__doc__)
    parser.add_argument("--voices", default="", help="those whose name has one of these words: slt,en-us")
    parser.add_argument("--recordings", type=Path, help="folder of WAV files to take instead")
    parser.add_argument("--texts", type=Path, help="what is said in them")
    parser.add_argument("--sentences", type=int, help="the first so many")
    parser.add_argument("--json", type=Path, help="file for every single probability")
    chosen = parser.parse_args(arguments)
    words = [word for word in chosen.voices.split(",") if word]
    if chosen.recordings:
        files = [(chosen.recordings / f"{name}.wav", text) for name, text in texts_of(chosen.texts)]
        found = [recorded(file, text) for file, text in files if file.exists()][: chosen.sentences]
    else:
        voices = [one for one in VOICES if not words or any(word in one[0] for word in words)]
        found = [synthetic(*voice, parts) for voice, parts in product(voices, SENTENCES[: chosen.sentences])]
    judged = asyncio.run(_judge_all(list(chain.from_iterable(found))))
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(one) for one in judged]))
    thresholds = " / ".join(f"{threshold:g}" for threshold in THRESHOLDS)
    columns = ("utterances", "line dBFS", "after ms", "heard", "count", "P(finished)")
    print_table((*columns, f"% at or above {thresholds}", "AUC"), list(rows(judged)))


if __name__ == "__main__":
    main()
