"""Speech recognition `pocketsphinx`: small, in English, its model inside the wheel, nothing to download.

Freely decoded telephone speech is mostly wrong, so this engine is for flavors whose language model
names the `phrases` that it expects: a grammar of whole sentences is recognised well. A grammar takes
anything for one of its sentences, though, so a sentence counts only where the evidence for it is good
(`_evidence`). Otherwise a second, free decoder writes down what was heard, for the transcript and for
the language model not to understand.
"""

from __future__ import annotations

import math
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
from pydantic import AfterValidator, Field

from connector.audio import Audio, Samples
from connector.errors import EngineError, ModelMissing, PackageMissing
from connector.interfaces import (
    EngineContext,
    EngineDescriptor,
    EngineKind,
    EngineOptions,
    Placement,
    Transcript,
    Worker,
)
from flavors.engines._evidence import Evidence, Segment, weigh
from flavors.engines._resample import resample

if TYPE_CHECKING:
    from pocketsphinx import Decoder, FsgModel

NAME = "pocketsphinx"

RATE = 16000
"""Of the model, Hz."""
MAX_GRAMMARS = 8
"""Phrase sets that stay compiled; the least recently used goes first."""

_FRAME = RATE // 50
_GATE = 0.03
"""Frames quieter than this share of the loudest (-30 dB) are not speech."""
_MARGIN = 10
"""Frames (20 ms) kept on each side of the speech."""
_LEVEL = 3000.0
"""Root mean square that the speech is brought to."""
_HISS = 10.0
"""Of the noise that fills the band above the telephone's: the model never saw it empty."""

_SCORE_SCALE = 1024.0
"""PocketSphinx divides log-likelihoods by it (2 to the SENSCR_SHIFT)."""

PHONES = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
"""CMUdict's, without stress."""


def _pronunciation(text: str) -> str:
    phones = text.upper().split()
    unknown = [phone for phone in phones if phone not in PHONES.split()]
    if unknown or not phones:
        raise ValueError(f"{' '.join(unknown) or 'nothing'} is not among the phones {PHONES}")
    return " ".join(phones)


class PocketSphinxOptions(EngineOptions):
    """PocketSphinx with an English model."""

    model: Path | None = None
    """Folder with the acoustic model `en-us`, `cmudict-en-us.dict` and `en-us.lm.bin`; None is the wheel's own."""
    pronunciations: dict[
        Annotated[str, Field(pattern=r"^[a-z']+$")], Annotated[str, AfterValidator(_pronunciation)]
    ] = Field(default_factory=dict)
    """Words that the dictionary lacks, or that callers say in another way, in CMUdict's phones:
    `voxtrunk: V AA K S T R AH NG K`."""
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
    """A phrase below it was not said. More refuses more strangers and more callers; see bench/offline_rejection.py."""
    max_seconds: Annotated[float, Field(ge=2, le=60)] = 15.0
    """Only the beginning of a longer utterance is recognised."""


class PocketSphinx:
    """Implements `SpeechToText` in a process of its own: PocketSphinx computes with the GIL held."""

    def __init__(self, options: PocketSphinxOptions, context: EngineContext) -> None:
        self._options = options
        self._context = context
        self._worker: Worker | None = None

    async def start(self) -> None:
        """Loads the model. Raises `ModelMissing` or another `EngineError`."""
        self._worker = await self._context.host.start(partial(_load_worker, self._options), Placement.PROCESS, NAME)

    async def check(self) -> None:
        """Recognises half a second of silence."""
        await self.transcribe(Audio(np.zeros(RATE // 2, np.int16), RATE))

    async def aclose(self) -> None:
        """Ends the process."""
        if self._worker:
            await self._worker.aclose()
            self._worker = None

    async def transcribe(self, utterance: Audio, phrases: Sequence[str] = ()) -> Transcript:
        """One of `phrases` with its confidence, or else what was heard freely with the confidence that missed.

        Without `phrases`, what was heard freely, confidence None. A silent utterance is an empty text.
        Every set of phrases is compiled once; an empty utterance does only that. Raises `EngineError`
        where a word of `phrases` has no pronunciation.
        """
        if self._worker is None:
            raise EngineError(NAME, "not started")
        return cast(Transcript, await self._worker.run(utterance, tuple(phrases)))


# ------------------------------------------------------------------------------------- grammar

Arc = tuple[int, int, float, str] | tuple[int, int, float]
"""From state, to state, probability, word (none for a silent arc)."""


def word_graph(phrases: Iterable[Sequence[str]]) -> tuple[int, int, list[Arc]]:
    """The smallest acyclic graph of `phrases` (sequences of words): start state, final state, arcs.

    A trie whose equal subtrees are shared. Words that leave a state are equally probable.
    """
    trie: dict[str, Any] = {}
    for phrase in phrases:
        node = trie
        for word in phrase:
            node = node.setdefault(word, {})
        node[""] = {}
    states: dict[tuple[tuple[str, int], ...], int] = {(): 0}

    def state(node: dict[str, Any]) -> int:
        leaving = tuple(sorted((word, state(child)) for word, child in node.items()))
        return states.setdefault(leaving, len(states))

    start = state(trie)
    arcs: list[Arc] = []
    for leaving, number in states.items():
        for word, target in leaving:
            probability = 1 / len(leaving)
            arcs.append((number, target, probability, word) if word else (number, target, probability))
    return start, 0, arcs


def words_of(phrase: str) -> tuple[str, ...]:
    """The words of `phrase` as the dictionary writes them: lower case, no punctuation but apostrophes."""
    return tuple(re.findall(r"[^\W_]+(?:'[^\W_]+)*", phrase.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")))


# --------------------------------------------------------------------------------------- audio


def telephone_to_model(utterance: Audio) -> Samples:
    """`utterance` at 16 kHz as the model likes it; empty where there is no sound.

    Silence around the speech is cut, the level set, and the band that a telephone leaves empty filled
    with a faint hiss that is the same every time.
    """
    samples = resample(utterance, RATE).astype(np.float32)
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    loudness = np.sqrt(np.square(frames).mean(axis=1))
    peak = float(loudness.max(initial=0.0))
    if peak < 1.0:
        return np.empty(0, np.int16)
    speech = np.flatnonzero(loudness > _GATE * peak)
    samples = samples[max(0, speech[0] - _MARGIN) * _FRAME : (speech[-1] + 1 + _MARGIN) * _FRAME]
    samples = samples * (_LEVEL / float(np.quantile(loudness[speech], 0.8)))
    hiss = np.random.default_rng(0).standard_normal(len(samples) + 1, dtype=np.float32) * _HISS
    return np.clip(samples + np.diff(hiss), -32768, 32767).astype(np.int16)


# -------------------------------------------------- what follows runs in the worker's process


@dataclass(frozen=True, slots=True)
class _Grammar:
    """A compiled set of phrases. `name`: the decoder's for it. `phrases`: by their words."""

    name: str
    phrases: dict[str, str]


class Recogniser:
    """The loaded decoders."""

    def __init__(self, options: PocketSphinxOptions) -> None:
        from pocketsphinx import Decoder, get_model_path

        folder = options.model or Path(get_model_path()) / "en-us"
        acoustic, dictionary, language = folder / "en-us", folder / "cmudict-en-us.dict", folder / "en-us.lm.bin"
        for path in (acoustic / "mdef", dictionary, language):
            if not path.exists():
                raise ModelMissing(NAME, f"{path} is missing; the pocketsphinx package of PyPI brings it")
        shared = {"hmm": str(acoustic), "dict": str(dictionary), "loglevel": "FATAL", "bestpath": False}
        self._options = options
        # Likelihoods count relative to the best of all sounds, not of those that the grammar still hopes for;
        # without the best-path pass over the lattice they are exact, and a sentence is always whole.
        self._grammar: Decoder = Decoder(lm=None, compallsen=True, **shared)
        # One quick pass: it is only for the transcript.
        self._free: Decoder = Decoder(lm=str(language), fwdflat=False, ds=2, maxhmmpf=1500, maxwpf=5, **shared)
        for word, phones in options.pronunciations.items():
            # A word of the dictionary's gets one more pronunciation; (99) is a number that none of them has.
            known = self._grammar.lookup_word(word) is not None
            self._grammar.add_word(f"{word}(99)" if known else word, phones, True)
        self._grammars: OrderedDict[tuple[str, ...], _Grammar] = OrderedDict()
        self._names = (f"phrases-{number}" for number in count())

    def __call__(self, utterance: Audio, phrases: tuple[str, ...]) -> Transcript:
        """See `PocketSphinx.transcribe`."""
        self.prepare(phrases)
        longest = int(self._options.max_seconds * utterance.rate)
        audio = telephone_to_model(utterance._replace(samples=utterance.samples[:longest]))
        if not len(audio):
            return Transcript("")
        if not phrases:
            return Transcript(self.hear(audio))
        phrase, evidence = self.find(audio, phrases)
        confidence = evidence.confidence if evidence else 0.0
        return Transcript(phrase if confidence >= self._options.min_confidence else self.hear(audio), confidence)

    def hear(self, audio: Samples) -> str:
        """Any words of English in `audio` (16 kHz, prepared)."""
        return " ".join(segment.text for segment in self._decode(self._free, audio) if segment.phones)

    def find(self, audio: Samples, phrases: tuple[str, ...]) -> tuple[str, Evidence | None]:
        """The nearest of `phrases` in `audio` (16 kHz, prepared) and the evidence for it.

        ("", None) where none of them can be aligned with the audio.
        """
        by_words = self.prepare(phrases)
        segments = self._decode(self._grammar, audio)
        phrase = by_words.get(" ".join(segment.text for segment in segments if segment.phones))
        return (phrase, weigh(segments)) if phrase is not None else ("", None)

    def prepare(self, phrases: tuple[str, ...]) -> dict[str, str]:
        """Makes `phrases` the grammar, compiled once; returns them by their words."""
        if not phrases:
            return {}
        grammar = self._grammars.get(phrases)
        if grammar is None:
            by_words = {words: phrase for phrase in reversed(phrases) if (words := words_of(phrase))}
            grammar = _Grammar(next(self._names), {" ".join(words): phrase for words, phrase in by_words.items()})
            self._grammar.add_fsg(grammar.name, self._compile(list(by_words)))
            self._grammars[phrases] = grammar
        self._grammars.move_to_end(phrases)
        self._grammar.activate_search(grammar.name)
        if len(self._grammars) > MAX_GRAMMARS:
            _, oldest = self._grammars.popitem(last=False)
            self._grammar.remove_search(oldest.name)
        return grammar.phrases

    def _compile(self, sentences: Sequence[tuple[str, ...]]) -> FsgModel:
        unknown = sorted({word for words in sentences for word in words if self._grammar.lookup_word(word) is None})
        if unknown or not sentences:
            what = f"no pronunciation for {', '.join(unknown)}: add it to `pronunciations`" if unknown else "no words"
            raise EngineError(NAME, f"the phrases cannot be recognised: {what}")
        start, final, arcs = word_graph(sentences)
        return self._grammar.create_fsg("phrases", start, final, arcs)

    def _decode(self, decoder: Decoder, audio: Samples) -> list[Segment]:
        decoder.reinit_feat()  # nothing of another call's audio may linger in the feature extraction
        decoder.start_utt()
        decoder.process_raw(audio.tobytes(), full_utt=True)
        decoder.end_utt()
        if decoder.hyp() is None:
            return []
        segments = []
        for segment in decoder.seg():
            if segment.word == "(NULL)":
                continue
            # Names in <> and [] are silence and noises; (2) marks another pronunciation.
            filler = segment.word[0] in "<["
            phones = 0 if filler else len((decoder.lookup_word(segment.word) or "").split())
            likelihood = math.log(max(segment.ascore, sys.float_info.min)) * _SCORE_SCALE
            frames = max(1, segment.end_frame - segment.start_frame + 1)
            segments.append(Segment(segment.word.partition("(")[0], frames, likelihood, phones))
        return segments


def _load_worker(options: PocketSphinxOptions) -> Callable[[Audio, tuple[str, ...]], Transcript]:
    return Recogniser(options)


def _load(options: PocketSphinxOptions, context: EngineContext) -> PocketSphinx:
    try:
        import pocketsphinx  # noqa: F401 - only whether it is there
    except ImportError:
        raise PackageMissing(
            NAME, "pocketsphinx is not installed: run `pip install 'voxtrunk[pocketsphinx]'`"
        ) from None
    return PocketSphinx(options, context)


descriptor = EngineDescriptor(
    name=NAME,
    kind=EngineKind.STT,
    options=PocketSphinxOptions,
    extra="pocketsphinx",
    load=_load,
    language=lambda options: "en",
)
