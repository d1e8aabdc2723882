"""Whisper in this process, through faster-whisper and CTranslate2, tuned for short live utterances.

faster-whisper's own `transcribe` always encodes 30 seconds. A caller's turn is a few: here the
window is only as long as the utterance, with a floor, which makes the encoder several times
faster. Decoding is greedy, at temperature 0, without timestamps and without earlier text: one
utterance, one pass, no retries.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from connector.audio import Audio
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
from flavors.engines._resample import resample

if TYPE_CHECKING:
    from faster_whisper import WhisperModel
    from faster_whisper.feature_extractor import FeatureExtractor

NAME = "faster-whisper"

RATE = 16000
MAX_SECONDS = 30.0
"""What Whisper's encoder takes at most."""
_STEP_SECONDS = 5.0
"""Windows longer than the floor grow in these steps, so that few shapes occur."""
_SEARCH_SECONDS = 5.0
"""Where an utterance is too long for one window, it is cut at the quietest moment of the last so many seconds."""
_QUIET_SECONDS = 0.1
"""Length of that moment."""
_MAX_TOKENS = 448
"""Length of Whisper's decoder, prompt included; CTranslate2 gives the text at most half of it."""
_TOKENS_AT_LEAST, _TOKENS_PER_SECOND = 16, 25
"""More than any language needs; a loop ends sooner than at the decoder's length."""
_MAX_COMPRESSION = 2.4
"""Text that compresses better is a loop of the decoder (the threshold of Whisper's own code)."""

Floats = NDArray[np.float32]


class FasterWhisperOptions(EngineOptions):
    """Whisper in CTranslate2's format."""

    model: Annotated[str, Field(min_length=1)] = "base.en"
    """A folder (model.bin, config.json, tokenizer.json, vocabulary.json), absolute or in the models folder; or a
    name that faster-whisper knows, or a repository of the Hugging Face hub, found in the hub's cache."""
    download: bool = False
    """Fetch a named model from the hub at start, where it is not in the cache."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    compute_type: str = "default"
    """CTranslate2's quantisation: int8 for CPUs, float16 for GPUs; default as the model was saved."""
    cpu_threads: Annotated[int, Field(ge=0, le=64)] = 0
    """Threads of one recognition on a CPU; 0 for CTranslate2's default of 4."""
    language: str | None = "en"
    """Whisper's code of the callers' language; None to detect it in each utterance, which misleads on short ones."""
    window_seconds: Annotated[float, Field(ge=2, le=MAX_SECONDS)] = 10.0
    """Utterances are padded to at least this. Less is faster and, as Whisper learnt on 30 s, less exact."""
    hotwords: str = ""
    """Names and terms that callers use, separated by commas."""
    no_speech_probability: Annotated[float, Field(ge=0, le=1)] = 0.6
    """At or above it, and where the words are unlikely too, nothing was said: Whisper invents words for noise."""
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.37
    """Words below it are unlikely; geometric mean of the tokens' probabilities."""


class FasterWhisper:
    """Implements `SpeechToText` in a process of its own. One recognition runs at a time.

    CTranslate2 computes without the GIL, but the features before it and the tokens after it are made with it: in a
    thread, every hundredth tick of the connector came 20 ms too late while it recognised without pause, in a process
    0.5 ms (bench/isolation.py).
    """

    def __init__(self, options: FasterWhisperOptions, context: EngineContext) -> None:
        self._options = options
        self._context = context
        self._worker: Worker | None = None

    async def start(self) -> None:
        """Loads the model and warms it up. Raises `ModelMissing` or another `EngineError`."""
        self._worker = await self._context.host.start(
            partial(_load, self._options, self._context.models), Placement.PROCESS, NAME
        )
        try:
            await self.check()
        except BaseException:
            await self.aclose()
            raise

    async def check(self) -> None:
        """Recognises half a second of silence."""
        await self.transcribe(Audio(np.zeros(RATE // 2, np.int16), RATE))

    async def aclose(self) -> None:
        """Frees the model."""
        if self._worker:
            await self._worker.aclose()
            self._worker = None

    async def transcribe(self, utterance: Audio, phrases: Sequence[str] = ()) -> Transcript:
        """Recognises `utterance`. `phrases` are not used: as a prompt, whole sentences come back as what was heard."""
        if self._worker is None:
            raise EngineError(NAME, "not started")
        return cast(Transcript, await self._worker.run(utterance))


def window_seconds(seconds: float, floor: float) -> float:
    """The window for an utterance of up to `MAX_SECONDS`: the floor, or the next longer one that holds it."""
    steps = max(0, math.ceil((seconds - floor) / _STEP_SECONDS))
    return min(MAX_SECONDS, floor + steps * _STEP_SECONDS)


def pieces(samples: Floats) -> Iterator[Floats]:
    """Cuts `samples`, shape (n,) at 16 kHz, into stretches of at most 30 s, where it is quiet."""
    longest, quiet = int(MAX_SECONDS * RATE), int(_QUIET_SECONDS * RATE)
    while len(samples) > longest:
        start = longest - int(_SEARCH_SECONDS * RATE)
        moments = samples[start:longest].reshape(-1, quiet)
        cut = start + int(np.argmin(np.square(moments).sum(axis=1))) * quiet + quiet // 2
        yield samples[:cut]
        samples = samples[cut:]
    yield samples


def log_mel(extractor: FeatureExtractor, samples: Floats, seconds: float) -> Floats:
    """Whisper's features of `samples` in a window of `seconds`: shape (mels, 100 per second), float32.

    As if `samples` were padded with zeros, which is how Whisper learnt; the padding alone is not computed.
    """
    frames = int(seconds * extractor.sampling_rate) // extractor.hop_length
    # The last frames that the samples reach see the silence after them.
    features = extractor(samples, padding=extractor.n_fft)[..., :frames]
    # Silence is the floor of the logarithm, 1e-10, or of the dynamic range, 80 dB.
    silence = max((-10 + 4) / 4, float(features.max()) - 8 / 4)
    padding = ((0, 0), (0, frames - features.shape[-1]))
    return np.pad(features, padding, constant_values=silence).astype(np.float32)


class _Recogniser:
    """The loaded model; lives in the worker."""

    def __init__(self, model: WhisperModel, options: FasterWhisperOptions) -> None:
        self._model = model
        self._options = options

    def __call__(self, utterance: Audio) -> Transcript:
        samples = resample(utterance, RATE).astype(np.float32) / np.float32(32768)
        try:
            heard = [self._recognise(piece) for piece in pieces(samples) if len(piece)]
        except (RuntimeError, ValueError) as error:
            raise EngineError(NAME, f"recognition failed: {error}") from error
        words = [transcript for transcript in heard if transcript.text]
        return Transcript(
            " ".join(transcript.text for transcript in words),
            min((transcript.confidence or 0.0 for transcript in words or heard), default=None),
        )

    def _recognise(self, samples: Floats) -> Transcript:
        from faster_whisper.tokenizer import Tokenizer

        options, whisper = self._options, self._model.model
        seconds = len(samples) / RATE
        window = window_seconds(seconds, options.window_seconds)
        encoded = self._model.encode(log_mel(self._model.feature_extractor, samples, window))
        language = options.language
        if language is None and whisper.is_multilingual:
            language = whisper.detect_language(encoded)[0][0][0].strip("<|>")
        tokenizer = Tokenizer(self._model.hf_tokenizer, whisper.is_multilingual, "transcribe", language)
        prompt = self._model.get_prompt(tokenizer, [], without_timestamps=True, hotwords=options.hotwords or None)
        tokens = min(_MAX_TOKENS // 2, _TOKENS_AT_LEAST + int(seconds * _TOKENS_PER_SECOND))
        result = whisper.generate(
            encoded,
            [prompt],
            beam_size=1,
            # CTranslate2 takes half of it, and what the prompt leaves of it, whichever is less.
            max_length=min(_MAX_TOKENS, max(2 * tokens, tokens + len(prompt))),
            return_scores=True,
            return_no_speech_prob=True,
        )[0]
        text = tokenizer.decode(result.sequences_ids[0]).strip()
        confidence = min(1.0, math.exp(result.scores[0]))
        silent = result.no_speech_prob >= options.no_speech_probability and confidence < options.min_confidence
        return Transcript("" if silent or _is_loop(text) else text, confidence)


def _is_loop(text: str) -> bool:
    encoded = text.encode()
    return bool(encoded) and len(encoded) / len(zlib.compress(encoded)) > _MAX_COMPRESSION


def _load(options: FasterWhisperOptions, models: Path) -> Callable[[Audio], Transcript]:
    from faster_whisper import WhisperModel

    folder = _find(options, models)
    try:
        model = WhisperModel(
            folder, device=options.device, compute_type=options.compute_type, cpu_threads=options.cpu_threads
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise EngineError(NAME, f"{folder} cannot be loaded: {error}") from error
    if options.language and options.language not in model.supported_languages:
        known = ", ".join(sorted(model.supported_languages))
        raise EngineError(NAME, f"{options.model} does not know the language {options.language!r}; it knows {known}")
    return _Recogniser(model, options)


def _find(options: FasterWhisperOptions, models: Path) -> str:
    """The model's folder; raises `ModelMissing`."""
    from faster_whisper import download_model

    for folder in (Path(options.model).expanduser(), models / options.model):
        if folder.is_dir():
            missing = [name for name in ("model.bin", "config.json", "tokenizer.json") if not (folder / name).is_file()]
            if missing:
                raise ModelMissing(NAME, f"{folder} is not a Whisper model for CTranslate2: no {', '.join(missing)}")
            return str(folder)
    try:
        return str(download_model(options.model, local_files_only=not options.download))
    except ValueError as error:
        raise ModelMissing(NAME, f"{options.model} is neither a folder nor a model: {error}") from error
    except OSError as error:
        if options.download:
            raise ModelMissing(NAME, f"{options.model} could not be fetched from the hub: {error}") from error
        raise ModelMissing(
            NAME,
            f"the model {options.model} is neither a folder nor in the cache of the Hugging Face hub: "
            "set `download: true` to fetch it at start, or name a folder",
        ) from error


def _make(options: FasterWhisperOptions, context: EngineContext) -> FasterWhisper:
    try:
        import faster_whisper  # noqa: F401
    except ImportError as error:
        message = "faster-whisper is not installed: run `pip install 'voxtrunk[faster-whisper]'`"
        raise PackageMissing(NAME, message) from error
    return FasterWhisper(options, context)


descriptor = EngineDescriptor(
    name=NAME,
    kind=EngineKind.STT,
    options=FasterWhisperOptions,
    extra="faster-whisper",
    load=_make,
    language=lambda options: options.language or "",
)
