"""How well what was played can be understood, and how late it was.

Both scores are of each sentence on its own, found again in what was played: STOI against what was sent,
and the words that a recogniser gets wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.speech.material import FRAME, LISTS, RATE, Material, Sentence
from bench.speech.network import Trace
from bench.speech.systems import Played
from connector.audio import FRAME_SECONDS, Audio, Samples
from flavors.engines.pocketsphinx import telephone_to_model

if TYPE_CHECKING:
    from pocketsphinx import Decoder

Floats = NDArray[np.float64]

LONGEST_DELAY = 0.6
"""Sentences are looked for until so many seconds after they were sent."""
EARLIEST = 0.02
"""A timeline that starts with its first packet may lead by as much, seconds."""
REACH = 0.2
"""A delay within a sentence is looked for so far from that of the whole sentence, seconds."""
WINDOW = 3 * FRAME
"""What is compared to follow the delay within a sentence: three packets."""
JUMP = 4.0
"""A change of delay must make so many packets fit better than without it."""
STOI_RATE = 10_000
"""pystoi works at this rate, Hz."""
MARGIN = round(0.15 * RATE)
"""Samples around a sentence that the recogniser hears too."""


@dataclass(frozen=True, slots=True)
class Score:
    """Of one system on one trace.

    `stoi`: extended=False, sentences aligned as a whole; `stoi_followed`: with changes of delay within sentences
    followed. `errors`: words wrong, of `words`; `delays`: seconds from a packet's arrival to its playout, shape (n,).
    `wrong`: errors per sentence.
    """

    stoi: float
    stoi_followed: float
    wrong: tuple[int, ...]
    words: int
    delays: Floats

    @property
    def errors(self) -> int:
        return sum(self.wrong)


def score(material: Material, trace: Trace, played: Played, recogniser: Recogniser) -> Score:
    """Scores what a system made of `trace`."""
    output = played.samples.astype(np.float64)
    clean, rigid, followed, delays, wrong = [], [], [], [], []
    arrived = {index: at for at, index in trace.arrivals}
    for sentence in material.sentences:
        reference = material.samples[sentence.begin : sentence.end].astype(np.float64)
        whole, track = lags(reference, output, sentence.begin)
        clean.append(reference)
        rigid.append(_stretch(output, sentence.begin + whole, len(reference)))
        followed.append(_followed(output, sentence.begin, track, len(reference)))
        delays += _delays(sentence, track, played.start, arrived)
        heard = _stretch(output, sentence.begin + whole - MARGIN, len(reference) + 2 * MARGIN)
        wrong.append(recogniser.errors(heard.astype(np.int16), sentence.words))
    sent, heard_rigid, heard_followed = np.concatenate(clean), np.concatenate(rigid), np.concatenate(followed)
    understood = stoi(sent, heard_rigid)
    return Score(
        understood,
        understood if np.array_equal(heard_rigid, heard_followed) else stoi(sent, heard_followed),
        tuple(wrong),
        len(LISTS) * len(wrong),
        played.delays if played.delays is not None else np.array(delays),
    )


# ------------------------------------------------------------------------------------- alignment


def lags(reference: Floats, output: Floats, begin: int) -> tuple[int, NDArray[np.int64]]:
    """How many samples later than at `begin` `reference` is found in `output`: as a whole, and each 20 ms of it.

    The latter is the path of least cost through the correlations of each packet's surroundings with all
    that was played about then: a delay stays the same unless `JUMP` packets are found better elsewhere.
    """
    first = begin - round(EARLIEST * RATE)
    found = _stretch(output, first, len(reference) + round((EARLIEST + LONGEST_DELAY) * RATE))
    whole = first + int(np.argmax(_correlation(found, reference))) - begin

    reach = round(REACH * RATE)
    packets = -(-len(reference) // FRAME)
    padded = np.pad(reference, (FRAME, packets * FRAME - len(reference) + FRAME))
    candidates = np.arange(2 * reach + 1)
    origins = np.empty((packets, len(candidates)), np.int64)
    total = np.zeros(len(candidates))
    for packet in range(packets):
        place = (packet - 1) * FRAME
        there = _stretch(output, begin + place + whole - reach, len(candidates) + WINDOW - 1)
        best = int(np.argmax(total))
        stays = total >= total[best] - JUMP
        origins[packet] = np.where(stays, candidates, best)
        total = np.where(stays, total, total[best] - JUMP) + _fit(padded[place + FRAME :][:WINDOW], there)
    track = np.empty(packets, np.int64)
    lag = int(np.argmax(total))
    for packet in reversed(range(packets)):
        track[packet] = whole + lag - reach
        lag = int(origins[packet, lag])
    return whole, track


def _fit(window: Floats, there: Floats) -> Floats:
    """Normalised cross-correlation of `window` with `there` at each lag, from 0 to 1; little where it is faint."""
    energy = float(np.square(window).sum())
    sums = np.concatenate(([0.0], np.cumsum(np.square(there))))
    energies = sums[len(window) :] - sums[: -len(window)]
    faint = 1e4 * len(window)  # -50 dBFS
    likeness = _correlation(there, window) / np.sqrt((energy + faint) * (energies + faint))
    return np.maximum(likeness, 0.0)


def _correlation(signal: Floats, pattern: Floats) -> Floats:
    """Of `pattern` with `signal` at each place where it fits."""
    size = 1 << (len(signal) + len(pattern) - 1).bit_length()
    spectrum = np.fft.rfft(signal, size) * np.conj(np.fft.rfft(pattern, size))
    correlation: Floats = np.fft.irfft(spectrum, size)[: len(signal) - len(pattern) + 1]
    return correlation


def _stretch(signal: Floats, begin: int, count: int) -> Floats:
    """`count` samples from `begin` on, zeros where there are none."""
    stretch = np.zeros(count)
    low, high = max(0, begin), min(len(signal), begin + count)
    if low < high:
        stretch[low - begin : high - begin] = signal[low:high]
    return stretch


def _followed(output: Floats, begin: int, track: NDArray[np.int64], count: int) -> Floats:
    pieces = [_stretch(output, begin + packet * FRAME + int(lag), FRAME) for packet, lag in enumerate(track)]
    return np.concatenate(pieces)[:count]


def _delays(sentence: Sentence, track: NDArray[np.int64], start: float, arrived: dict[int, float]) -> list[float]:
    """From arrival to playout of each packet of a sentence that came in time."""
    delays = []
    for place, lag in enumerate(track):
        position = sentence.begin + place * FRAME
        index = position // FRAME
        if index in arrived:
            # The packet's first sample left at index * 20 ms and was played as much later as the lag tells.
            delays.append(start + int(lag) / RATE + index * FRAME_SECONDS - arrived[index])
    return [delay for delay in delays if delay >= 0]


# ------------------------------------------------------------------------------------- scores


def stoi(reference: Floats, played: Floats) -> float:
    """Short-time objective intelligibility (Taal et al. 2011, not extended) of signals at 8 kHz: 1 is the best."""
    import pystoi

    return float(pystoi.stoi(_to_stoi_rate(reference), _to_stoi_rate(played), STOI_RATE, extended=False))


def _to_stoi_rate(samples: Floats) -> Floats:
    from scipy.signal import resample_poly

    divisor = math.gcd(RATE, STOI_RATE)
    resampled: Floats = resample_poly(samples, STOI_RATE // divisor, RATE // divisor)
    return resampled


class Recogniser:
    """PocketSphinx with a grammar of all matrix sentences: any word of each list, so that each word is heard or not."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder, get_model_path

        folder = f"{get_model_path()}/en-us"
        self._decoder: Decoder = Decoder(
            hmm=f"{folder}/en-us", dict=f"{folder}/cmudict-en-us.dict", lm=None, loglevel="FATAL", bestpath=False
        )
        arcs: list[Any] = [
            (place, place + 1, 1 / len(words), word) for place, words in enumerate(LISTS) for word in words
        ]
        self._decoder.add_fsg("matrix", self._decoder.create_fsg("matrix", 0, len(LISTS), arcs))
        self._decoder.activate_search("matrix")

    def errors(self, samples: Samples, words: Sequence[str]) -> int:
        """How many of `words` it does not hear in `samples` (8 kHz)."""
        heard = self.words(samples)
        if len(heard) != len(words):
            return len(words)
        return sum(one != other for one, other in zip(heard, words, strict=True))

    def words(self, samples: Samples) -> list[str]:
        """A word of each list, or none at all."""
        audio = telephone_to_model(Audio(samples, RATE))
        if not len(audio):
            return []
        self._decoder.reinit_feat()  # nothing of the sentence before may linger in the feature extraction
        self._decoder.start_utt()
        self._decoder.process_raw(audio.tobytes(), full_utt=True)
        self._decoder.end_utt()
        if self._decoder.hyp() is None:
            return []
        spoken = [segment.word for segment in self._decoder.seg() if segment.word[0] not in "<[("]
        return [word.partition("(")[0] for word in spoken]
