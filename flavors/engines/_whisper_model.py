"""Whisper's model, as it lives in the worker: loaded once, asked about a batch of utterances at a time."""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from connector.audio import Audio
from connector.errors import EngineError, EngineRefused, ModelMissing
from flavors.engines._whisper_audio import RATE, log_mel, window_seconds
from flavors.engines._whisper_hub import hub_model

if TYPE_CHECKING:
    from ctranslate2.models import WhisperGenerationResult
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer

    from flavors.engines.faster_whisper import FasterWhisperOptions

NAME = "faster-whisper"

_MAX_TOKENS = 448
"""Length of Whisper's decoder, prompt included; CTranslate2 gives the text at most half of it."""
_PROMPT_TOKENS = _MAX_TOKENS // 2 - 1
"""Of earlier text, at most."""
_TOKENS_AT_LEAST, _TOKENS_PER_SECOND = 16, 25
"""More than any language needs; a loop ends sooner than at the decoder's length."""
_MAX_COMPRESSION = 2.4
"""Text that compresses better is a loop of the decoder (the threshold of Whisper's own code)."""

_CPU_BATCH, _GPU_BATCH = 4, 32
"""Utterances; see `batch_size`."""
_CPU_THREADS = 4
"""CTranslate2's default, of which no more are taken than there are cores."""

_CREDITS = re.compile(
    r".*amara\.org|thank(s| you)( so much| very much)? for watching|(please )?(like and )?subscribe to"
    r"|(untertitel|subtitles?|sous-titr|sottotitoli|subtítulos|legendas|napisy|ondertitel|undertexter)\w* (by|der|des|"
    r"im auftrag|aufgrund|réalisé\w*|par|e revisione|creati|realizados|por|pela|stworzone|ingediend|door|av)\b"
    r"|субтитры|редактор субтитров|продолжение следует|ご視聴ありがとうございました|字幕",
    re.IGNORECASE,
)
"""What ends films and videos, and so transcripts that Whisper learnt from: it says so for noise, callers never do."""
_FAREWELLS = frozenset({"thank you", "thank you very much", "thanks", "you", "bye", "bye bye", "bye-bye"})
"""What Whisper says for silence more than anything else; callers say it too."""


@dataclass(frozen=True, slots=True)
class Question:
    """What was said in `audio`, of at most 30 s?

    `language`: Whisper's code, None to detect it. `prompt`: text before it, or names and terms that may occur.
    `temperature`: of sampling; 0 for the likeliest words.
    """

    audio: Audio
    language: str | None
    prompt: str = ""
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Recognition:
    """What was said: `text`, "" for nothing.

    `language`: Whisper's code. `confidence`: geometric mean of the tokens' probabilities, None where the model was not
    asked, as nothing could be heard. `no_speech`: the model's probability that nobody spoke. `tokens`: of `text`.
    """

    text: str
    language: str
    confidence: float | None = None
    no_speech: float = 1.0
    tokens: tuple[int, ...] = ()


Recognised = Recognition | EngineError


def batch_size(options: FasterWhisperOptions) -> int:
    """Utterances of a batch, at most.

    On a CPU, 4 leave the caches to the encoder: in larger batches it takes half as long again for each utterance, and
    all wait for the last (bench/stt).
    """
    if options.max_batch is not None:
        return options.max_batch
    return _GPU_BATCH if _device(options) == "cuda" else _CPU_BATCH


def _device(options: FasterWhisperOptions) -> str:
    if options.device != "auto":
        return options.device
    from ctranslate2 import get_cuda_device_count

    return "cuda" if get_cuda_device_count() else "cpu"


class Recogniser:
    """The loaded model: encodes and decodes a batch of utterances that have one window, prompt and temperature.

    faster-whisper's own `transcribe` always encodes 30 seconds, one utterance at a time. A caller's turn is a few: the
    window is only as long as the utterance, with a floor, and all that wait go through encoder and decoder together.
    Decoding is greedy, without timestamps and without earlier text: one pass, no retries.
    """

    def __init__(self, model: WhisperModel, options: FasterWhisperOptions) -> None:
        self._model = model
        self._options = options

    def __call__(self, questions: Sequence[Question]) -> list[Recognised]:
        """An answer, or the error in its place, for each of `questions`, one or more.

        What is refused holds nobody up. A batch that fails, for lack of memory or for one of its questions, is halved:
        a question fails for itself.
        """
        refusals = [self._refusal(question) for question in questions]
        taken = [question for question, refusal in zip(questions, refusals, strict=True) if refusal is None]
        recognised = iter(self._recognise_or_halve(taken) if taken else [])
        return [refusal or next(recognised) for refusal in refusals]

    def warm_up(self) -> None:
        """Recognises noise; on a GPU a full batch of it, which loads what only batches need and proves the memory."""
        rows = batch_size(self._options) if self._model.model.device == "cuda" else 1
        noise = np.random.default_rng(1).normal(0, 1000, RATE // 2).astype(np.int16)
        question = Question(Audio(noise, RATE), self._options.language, self._options.hotwords)
        if (refusal := self._refusal(question)) is not None:
            raise refusal
        self._recognise([question] * rows)

    def _refusal(self, question: Question) -> EngineRefused | None:
        """Why `question` is not asked at all: it names a language that the model does not know."""
        known = self._model.supported_languages
        if question.language is None or question.language in known:
            return None
        message = f"the model does not know the language {question.language!r}; it knows"
        return EngineRefused(NAME, f"{message} {', '.join(sorted(known))}")

    def _recognise_or_halve(self, questions: Sequence[Question]) -> list[Recognised]:
        try:
            return [*self._recognise(questions)]
        except (RuntimeError, ValueError) as error:
            if len(questions) == 1:
                return [EngineError(NAME, f"recognition failed: {error}")]
        middle = len(questions) // 2
        return [*self._recognise_or_halve(questions[:middle]), *self._recognise_or_halve(questions[middle:])]

    def _recognise(self, questions: Sequence[Question]) -> list[Recognition]:
        whisper = self._model.model
        seconds = max(question.audio.seconds for question in questions)
        window = window_seconds(seconds, self._options.window_seconds)
        filters = self._model.feature_extractor.mel_filters
        encoded = self._model.encode(np.stack([log_mel(filters, question.audio, window) for question in questions]))
        languages = self._languages(questions, encoded)
        tokenizers = {language: self._tokenizer(language) for language in languages}
        prompts = [
            self._prompt(tokenizers[language], question)
            for question, language in zip(questions, languages, strict=True)
        ]
        tokens = min(_MAX_TOKENS // 2, _TOKENS_AT_LEAST + int(seconds * _TOKENS_PER_SECOND))
        temperature = questions[0].temperature
        results = whisper.generate(
            encoded,
            prompts,
            beam_size=1,
            # CTranslate2 takes half of it, and what the prompt leaves of it, whichever is less.
            max_length=min(_MAX_TOKENS, max(2 * tokens, tokens + len(prompts[0]))),
            return_scores=True,
            return_no_speech_prob=True,
            sampling_topk=0 if temperature else 1,
            sampling_temperature=temperature or 1.0,
        )
        return [
            self._recognition(tokenizers[language], result) for language, result in zip(languages, results, strict=True)
        ]

    def _languages(self, questions: Sequence[Question], encoded: object) -> list[str]:
        """Of each question, detected where it names none."""
        if all(question.language for question in questions):
            detected = [""] * len(questions)
        elif self._model.model.is_multilingual:
            detected = [likeliest[0][0].strip("<|>") for likeliest in self._model.model.detect_language(encoded)]
        else:
            detected = ["en"] * len(questions)
        return [question.language or found for question, found in zip(questions, detected, strict=True)]

    def _tokenizer(self, language: str) -> Tokenizer:
        from faster_whisper.tokenizer import Tokenizer

        return Tokenizer(self._model.hf_tokenizer, self._model.model.is_multilingual, "transcribe", language)

    def _prompt(self, tokenizer: Tokenizer, question: Question) -> list[int]:
        earlier = tokenizer.encode(f" {question.prompt.strip()}")[-_PROMPT_TOKENS:] if question.prompt.strip() else []
        prompt: list[int] = self._model.get_prompt(tokenizer, earlier, without_timestamps=True)
        return prompt

    def _recognition(self, tokenizer: Tokenizer, result: WhisperGenerationResult) -> Recognition:
        tokens: list[int] = result.sequences_ids[0]
        text = tokenizer.decode(tokens).strip()
        confidence = min(1.0, math.exp(result.scores[0]))
        if self._is_invented(text, confidence, result.no_speech_prob):
            return Recognition("", tokenizer.language_code, confidence, result.no_speech_prob)
        return Recognition(text, tokenizer.language_code, confidence, result.no_speech_prob, tuple(tokens))

    def _is_invented(self, text: str, confidence: float, no_speech: float) -> bool:
        threshold = self._options.no_speech_probability
        if no_speech >= threshold and confidence < self._options.min_confidence:
            return True
        if no_speech >= threshold / 2 and text.strip(" .,!?…").casefold() in _FAREWELLS:
            return True
        return bool(_CREDITS.match(text)) or _is_loop(text)


def _is_loop(text: str) -> bool:
    encoded = text.encode()
    return bool(encoded) and len(encoded) / len(zlib.compress(encoded)) > _MAX_COMPRESSION


def load(options: FasterWhisperOptions, models: Path) -> Recogniser:
    """The model, warm. Raises `ModelMissing` or another `EngineError`."""
    from faster_whisper import WhisperModel

    folder = _find(options, models)
    threads = options.cpu_threads or min(_CPU_THREADS, len(os.sched_getaffinity(0)))
    try:
        model = WhisperModel(folder, device=_device(options), compute_type=options.compute_type, cpu_threads=threads)
        recogniser = Recogniser(model, options)
        recogniser.warm_up()
    except (RuntimeError, ValueError, OSError) as error:
        raise EngineError(NAME, f"{folder} cannot be loaded: {error}") from error
    return recogniser


def _find(options: FasterWhisperOptions, models: Path) -> str:
    """The model's folder; raises `ModelMissing`."""
    from faster_whisper import download_model

    named = hub_model(options.model)
    fetched = (named.folder(models),) if named is not None else ()
    for folder in (Path(options.model).expanduser(), models / options.model, *fetched):
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
            "run `voxtrunk models fetch`, set `download: true` to fetch it at start, or name a folder",
        ) from error
