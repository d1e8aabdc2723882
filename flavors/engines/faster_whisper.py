"""Whisper on this machine, through faster-whisper and CTranslate2, tuned for short live utterances.

All calls share one model: utterances that wait for it are recognised together, in windows no longer than they need.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from connector.audio import Audio
from connector.errors import EngineError, PackageMissing
from connector.interfaces import (
    EngineContext,
    EngineDescriptor,
    EngineKind,
    EngineOptions,
    Placement,
    Transcript,
    Worker,
)
from flavors.engines._batches import Batches
from flavors.engines._whisper_audio import MAX_SECONDS, RATE, audible, pieces, window_seconds
from flavors.engines._whisper_hub import hub_model
from flavors.engines._whisper_model import NAME, Question, Recognised, Recognition, batch_size, load

__all__ = ["NAME", "FasterWhisper", "FasterWhisperOptions", "Question", "Recognition", "descriptor", "pieces"]


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
    """Threads of one recognition on a CPU; 0 for 4, or as many as there are cores."""
    max_batch: Annotated[int, Field(ge=1, le=64)] | None = None
    """Utterances of all calls that are recognised together, at most; None for 4 on a CPU, 32 on a GPU."""
    language: str | None = "en"
    """Whisper's code of the callers' language; None to detect it in each utterance, which misleads on short ones."""
    window_seconds: Annotated[float, Field(ge=2, le=MAX_SECONDS)] = 10.0
    """Utterances are padded to at least this. Less is faster and, as Whisper learnt on 30 s, less exact."""
    hotwords: str = ""
    """Names and terms that callers use, separated by commas."""
    no_speech_probability: Annotated[float, Field(ge=0, le=1)] = 0.6
    """At or above it, and where the words are unlikely too, nothing was said: Whisper invents words for noise. Half of
    it is enough for the words that it invents most, such as "Thank you."."""
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.37
    """Words below it are unlikely; geometric mean of the tokens' probabilities."""


class FasterWhisper:
    """Implements `SpeechToText` with one model in a process of its own, which answers batch after batch.

    CTranslate2 computes without the GIL, but the features before it and the tokens after it are made with it: in a
    thread, every hundredth tick of the connector came 20 ms too late while it recognised without pause, in a process
    0.5 ms (bench/isolation.py).

    A caller's utterance is asked about again and again while it grows. Of the questions that wait, the newest of an
    utterance goes first; the others take the places that are left, or a turn now and then. Nothing of an earlier answer
    is kept for the next one: the encoder looks at the whole utterance, so new sound changes all that it made of the
    old; and what could be kept, the features, take less than 1 ms for 3 s of speech.
    """

    def __init__(self, options: FasterWhisperOptions, context: EngineContext) -> None:
        self._options = options
        self._context = context
        self._worker: Worker | None = None
        self.batches = Batches[Question, Recognition](
            NAME, self._recognise_batch, most=batch_size(options), kind=self._kind, overtakes=_grew_from
        )
        """The queue of all calls."""

    async def start(self) -> None:
        """Loads the model and warms it up. Raises `ModelMissing` or another `EngineError`."""
        self._worker = await self._context.host.start(
            partial(load, self._options, self._context.models), Placement.PROCESS, NAME
        )

    async def check(self) -> None:
        """Recognises half a second of noise."""
        noise = np.random.default_rng(1).normal(0, 1000, RATE // 2).astype(np.int16)
        await self.transcribe(Audio(noise, RATE))

    async def aclose(self) -> None:
        """Frees the model; who still waits gets an `EngineError`."""
        await self.batches.aclose()
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.aclose()

    async def transcribe(self, utterance: Audio, phrases: Sequence[str] = ()) -> Transcript:
        """Recognises `utterance`. `phrases` are not used: as a prompt, whole sentences come back as what was heard."""
        options = self._options
        heard = [
            await self.recognise(Question(piece, options.language, options.hotwords)) for piece in pieces(utterance)
        ]
        words = [recognition for recognition in heard if recognition.text]
        return Transcript(
            " ".join(recognition.text for recognition in words),
            min((each.confidence for each in words or heard if each.confidence is not None), default=None),
        )

    async def recognise(self, question: Question) -> Recognition:
        """Waits for its turn in a batch. Raises `EngineError`. Cancelling it leaves the queue."""
        if self._worker is None:
            raise EngineError(NAME, "not started")
        if not audible(question.audio):
            return Recognition("", question.language or self._options.language or "en")
        return await self.batches.ask(question)

    async def _recognise_batch(self, questions: Sequence[Question]) -> Sequence[Recognised]:
        if self._worker is None:
            raise EngineError(NAME, "not started")
        recognised: Sequence[Recognised] = await self._worker.run(questions)
        return recognised

    def _kind(self, question: Question) -> tuple[float, str, float]:
        """CTranslate2 decodes together what has one window, prompts of one length, and one temperature."""
        window = window_seconds(question.audio.seconds, self._options.window_seconds)
        return window, question.prompt, question.temperature


def _grew_from(newer: Question, older: Question) -> bool:
    """Whether they are about one utterance, of which `newer` heard more: it begins as `older` does.

    The first half must do: silence, which is not what came next, may have been appended to the older one. Something
    must be heard in it: on lines that are muted between words, all utterances begin with the same silence.
    """
    now, then, rate = newer.audio.samples, older.audio.samples, older.audio.rate
    half = then[: len(then) // 2]
    return (
        newer.audio.rate == rate
        and len(now) > len(then)
        and np.array_equal(now[: len(half)], half)
        and audible(Audio(half, rate))
    )


def _make(options: FasterWhisperOptions, context: EngineContext) -> FasterWhisper:
    try:
        import faster_whisper  # noqa: F401 - only whether it is there
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
    hub=lambda options: [model] if (model := hub_model(options.model)) is not None else [],
    downloads=lambda options: options.download,
    device=lambda options: options.device,
    language=lambda options: options.language or "",
)
