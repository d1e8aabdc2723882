"""How well the offline flavor tells its own sentences from everything else.

    python bench/offline_rejection.py [--voices slt,rms,...] [--lines N] [--seed N] [--json] [--fit]

Sentences of flavors/offline.yml and of bench/out_of_grammar.txt are spoken by flite and espeak-ng
voices, brought to telephone quality (8 kHz, mu-law, level and line noise drawn per utterance), and
recognised by the engine `pocketsphinx` with the flavor's phrases; its text goes to the engine
`intents`. Counted are, for sentences of the script, the wrongly refused and the wrongly understood;
for strangers, the answered ones: once by the recogniser alone and once as the caller sees it.

Every second sentence tunes and the others test; `--fit` computes the recogniser's weights from the
tuning half in three of the voices and prints them. All voices are synthetic: the figures compare
designs, people vary more.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import json
import random
import subprocess
import sys
import time
import wave
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, astuple, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from connector.audio import Audio
from connector.codec.g711 import MuLaw
from flavors.engines._evidence import Evidence
from flavors.engines._resample import resample
from flavors.engines.intents import Intents, IntentsOptions, sentences
from flavors.engines.pocketsphinx import PocketSphinxOptions, Recogniser, telephone_to_model

ROOT = Path(__file__).resolve().parents[1]
FLAVOR = ROOT / "flavors" / "offline.yml"
STRANGERS = ROOT / "bench" / "out_of_grammar.txt"
VOICES = ("slt", "rms", "kal16", "awb", "en-us", "en-gb")
"""Those with a hyphen are espeak-ng's."""
TUNING_VOICES = ("slt", "rms", "kal16")
"""American, as the model is; the others only test."""
LEVELS = (-32.0, -14.0)
"""Root mean square of the speech, dB below full scale."""
NOISE = (-40.0, -20.0)
"""White line noise, dB below the speech."""
LEAD, TAIL = 0.3, 0.6
"""Seconds of line noise before and after the speech, as turn-taking leaves them."""


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence to say. `intent`: "" for strangers. `section`: where it is from. `tunes`: in the tuning half."""

    text: str
    intent: str
    section: str
    tunes: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a spoken line. `intent`: the flavor's answer, "" for "I did not understand"."""

    voice: str
    line: Line
    phrase: str
    phrase_intent: str
    heard: str
    evidence: Evidence | None
    intent: str
    seconds: float
    computed: float

    @property
    def recognised(self) -> bool:
        """The recogniser takes it for a phrase."""
        return self.evidence is not None and self.evidence.confidence >= PocketSphinxOptions().min_confidence


def script() -> IntentsOptions:
    """The offline flavor's script."""
    options = yaml.safe_load(FLAVOR.read_text())["llm"]
    del options["engine"]
    return IntentsOptions.model_validate(options)


def known_lines(seed: int, per_meaning: int) -> list[Line]:
    """Sentences of the script, up to `per_meaning` of each intent and contact."""
    meanings: dict[tuple[str, str], list[str]] = {}
    for sentence in sentences(script()):
        contact = sentence.contact.names[0] if sentence.contact else ""
        meanings.setdefault((sentence.intent.name, contact), []).append(sentence.text)
    draw = random.Random(seed)
    lines: list[Line] = []
    for (intent, _), texts in meanings.items():
        for text in draw.sample(texts, min(per_meaning, len(texts))):
            lines.append(Line(text, intent, "script", tunes=len(lines) % 2 == 0))
    return lines


def strange_lines() -> list[Line]:
    """Sentences that the script does not answer."""
    lines: list[Line] = []
    section = ""
    for row in STRANGERS.read_text().splitlines():
        if row.startswith("["):
            section = row.strip("[]")
        elif row and not row.startswith("#"):
            lines.append(Line(row, "", section, tunes=len(lines) % 2 == 0))
    return lines


@cache
def speak(text: str, voice: str) -> Audio:
    """`text` in a voice of flite's or espeak-ng's."""
    espeak = ["espeak-ng", "-v", voice, "-s", "150", "--stdout", "--", text]
    flite = ["flite", "-voice", voice, "-t", text, "-o", "/dev/stdout"]
    said = subprocess.run(espeak if "-" in voice else flite, capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(said)) as file:
        rate = file.getframerate()
        return Audio(np.frombuffer(file.readframes(10**9), "<i2").astype(np.int16), rate)


def telephone(speech: Audio, seed: int) -> Audio:
    """`speech` as a call brings it: 8 kHz mu-law at a level and with noise drawn by `seed`, silence around it."""
    draw = np.random.default_rng(seed)
    samples = resample(speech, 8000).astype(np.float64)
    level = 32768 * 10 ** (draw.uniform(*LEVELS) / 20)
    samples *= level / np.sqrt(np.mean(samples**2))
    samples = np.pad(samples, (int(LEAD * 8000), int(TAIL * 8000)))
    samples += draw.normal(0, level * 10 ** (draw.uniform(*NOISE) / 20), len(samples))
    codec = MuLaw()
    return Audio(codec.decode(codec.encode(np.clip(samples, -32768, 32767).astype(np.int16))), 8000)


def measure(lines: Sequence[Line], seed: int, voice: str) -> list[Outcome]:
    """Every line in `voice`."""
    desk = Intents(script())
    recogniser = Recogniser(PocketSphinxOptions())
    phrases = tuple(desk.phrases)
    recogniser.prepare(phrases)
    outcomes = []
    for line in lines:
        line_seed = int.from_bytes(hashlib.sha256(f"{seed} {voice} {line.text}".encode()).digest()[:4])
        utterance = telephone(speak(line.text, voice), line_seed)
        begin = time.perf_counter()
        audio = telephone_to_model(utterance)
        phrase, evidence = recogniser.find(audio, phrases)
        found_at = time.perf_counter()
        heard = recogniser.hear(audio)
        heard_at = time.perf_counter()
        accepted = evidence is not None and evidence.confidence >= PocketSphinxOptions().min_confidence
        outcomes.append(
            Outcome(
                voice,
                line,
                phrase,
                _intent(desk, phrase),
                heard,
                evidence,
                _intent(desk, phrase if accepted else heard),
                utterance.seconds,
                (found_at if accepted else heard_at) - begin,
            )
        )
    return outcomes


def _intent(desk: Intents, text: str) -> str:
    match = desk.match(text)
    return match.intent.name if match else ""


# --------------------------------------------------------------------------------------- rates


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares, 0 to 1. `refused`, `wrong`: of the script's sentences, as the caller sees it. `accepted`: strangers
    that the recogniser took for a phrase; `answered`: strangers that got an answer."""

    known: int
    refused: float
    wrong: float
    strangers: int
    accepted: float
    answered: float


def rates(outcomes: Iterable[Outcome]) -> Rates:
    """The rates over `outcomes`."""
    known: list[Outcome] = []
    strangers: list[Outcome] = []
    for outcome in outcomes:
        (known if outcome.line.intent else strangers).append(outcome)
    return Rates(
        len(known),
        _share([not outcome.intent for outcome in known]),
        _share([bool(outcome.intent) and outcome.intent != outcome.line.intent for outcome in known]),
        len(strangers),
        _share([outcome.recognised for outcome in strangers]),
        _share([bool(outcome.intent) for outcome in strangers]),
    )


def _share(hits: Sequence[bool]) -> float:
    return round(sum(hits) / len(hits), 4) if hits else 0.0


def table(rows: dict[str, Rates]) -> str:
    """`rows` for people."""
    text = [f"{'':24}{'script':>8}{'refused':>9}{'wrong':>8}{'strangers':>11}{'accepted':>10}{'answered':>10}"]
    text += [
        f"{name:24}{r.known:8}{r.refused:9.1%}{r.wrong:8.1%}{r.strangers:11}{r.accepted:10.1%}{r.answered:10.1%}"
        for name, r in rows.items()
    ]
    return "\n".join(text)


# ----------------------------------------------------------------------------------------- fit


def fit(outcomes: Sequence[Outcome], accept: float) -> tuple[list[float], float]:
    """Weights and bias by logistic regression; the bias such that `accept` of the strangers reach 0.5."""
    found = [outcome for outcome in outcomes if outcome.evidence]
    said = np.array([bool(outcome.line.intent) and outcome.phrase_intent == outcome.line.intent for outcome in found])
    values = np.array([astuple(outcome.evidence) for outcome in found if outcome.evidence])
    mean, spread = values.mean(axis=0), values.std(axis=0) + 1e-9
    theta = _newton(np.column_stack([(values - mean) / spread, np.ones(len(values))]), said.astype(np.float64))
    weights = theta[:-1] / spread
    strangers = np.array([not outcome.line.intent for outcome in found])
    bias = -float(np.quantile((values @ weights)[strangers], 1 - accept))
    return [round(float(weight), 3) for weight in weights], round(bias, 3)


def _newton(design: NDArray[np.float64], said: NDArray[np.float64], ridge: float = 1.0) -> NDArray[np.float64]:
    theta = np.zeros(design.shape[1])
    for _ in range(50):
        expected = 1 / (1 + np.exp(-np.clip(design @ theta, -50, 50)))
        slope = design.T @ (said - expected) - ridge * theta
        curve = (design * (expected * (1 - expected))[:, None]).T @ design + ridge * np.eye(len(theta))
        theta = theta + np.linalg.solve(curve, slope)
    return theta


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--voices", default=",".join(VOICES))
    parser.add_argument("--lines", type=int, default=4, help="sentences of the script for each meaning")
    parser.add_argument("--strangers", type=int, default=0, help="how many strangers (0: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="every outcome, too")
    parser.add_argument("--errors", action="store_true", help="list what went wrong")
    parser.add_argument(
        "--fit", type=float, metavar="ACCEPTED", help="print weights that accept this share of strangers"
    )
    arguments = parser.parse_args()
    strangers = strange_lines()
    lines = known_lines(arguments.seed, arguments.lines) + (strangers[: arguments.strangers] or strangers)
    voices = arguments.voices.split(",")
    with ProcessPoolExecutor(arguments.jobs) as pool:
        outcomes = list(itertools.chain(*pool.map(partial(measure, lines, arguments.seed), voices)))
    rows = {f"voice {voice}": rates(o for o in outcomes if o.voice == voice) for voice in voices}
    for section in dict.fromkeys(line.section for line in strangers):
        rows[section] = rates(o for o in outcomes if o.line.section == section)
    american = [outcome for outcome in outcomes if outcome.voice in TUNING_VOICES]
    rows["tuning half"] = rates(o for o in american if o.line.tunes)
    rows["test half"] = rates(o for o in american if not o.line.tunes)
    computed = [outcome.computed for outcome in outcomes]
    understood = [outcome.computed for outcome in outcomes if outcome.recognised]
    summary = {
        "utterance_seconds": round(float(np.mean([outcome.seconds for outcome in outcomes])), 2),
        "understood_ms_median": round(1000 * float(np.median(understood))) if understood else None,
        "computed_ms_median": round(1000 * float(np.median(computed))),
        "computed_ms_p95": round(1000 * float(np.quantile(computed, 0.95))),
    }
    if arguments.json:
        document = {
            **summary,
            "rates": {k: asdict(v) for k, v in rows.items()},
            "outcomes": [asdict(o) for o in outcomes],
        }
        json.dump(document, sys.stdout, indent=1)
        return
    print(table(rows))
    print(", ".join(f"{name} {value}" for name, value in summary.items()))
    if arguments.errors:
        for o in outcomes:
            if o.intent != o.line.intent:
                confidence = f"{o.evidence.confidence:.2f}" if o.evidence else "none"
                answer = o.intent or "not understood"
                print(f"{o.voice:6} {o.line.text!r} -> {answer} [{o.phrase!r} {confidence} {o.heard!r}]")
    if arguments.fit is not None:
        weights, bias = fit([o for o in outcomes if o.line.tunes and o.voice in TUNING_VOICES], arguments.fit)
        print(f"WEIGHTS = {tuple(weights)}\nBIAS = {bias}")


if __name__ == "__main__":
    main()
