"""The engines that a call asks, as its flavor has them: one, or several that succeed one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TypeVar, cast

from connector.call.engines import Engines, SharedEngine
from connector.call.voices import Voices
from connector.config.model import EngineChoice, Flavor
from connector.interfaces import Clock, Engine, EngineKind, LanguageModel, SpeechToText, TextToSpeech
from connector.pipeline.cached_speech import CachedSpeech, SpeechCaches
from connector.pipeline.circuit import Circuit
from connector.pipeline.deadlines import TimelyLanguageModel, TimelySpeechToText, TimelyTextToSpeech
from connector.pipeline.ladder import LanguageModelLadder, Rung, SpeechToTextLadder, TextToSpeechLadder

DEADLINES: Mapping[EngineKind, float] = MappingProxyType(
    {EngineKind.STT: 0.6, EngineKind.LLM: 0.7, EngineKind.TTS: 0.6}
)
"""Seconds in which the first text or audio is owed while somebody else can be asked.

With what the other engines take, and the next one, a caller hears nothing for less than 1.5 s.
"""

LAST_DEADLINE = 8.0
"""The same while nobody else can be asked: a late answer is better than none, and fillers tell the caller to wait."""

E = TypeVar("E", bound=Engine)
MakeEngine = Callable[[SharedEngine, float], E]
"""The engine of a rung, once it is ready, with a deadline in seconds."""


class Ladders:
    """What the calls of flavors, which were started, ask. Circuits and meters are those of the shared engines."""

    def __init__(self, engines: Engines, voices: Voices, clock: Clock) -> None:
        self._engines = engines
        self._voices = voices
        self._clock = clock

    # The configuration has checked that each engine is of the kind that its key names.

    def stt(self, flavor: Flavor) -> SpeechToText:
        """The recogniser, or those there are."""
        first = flavor.engines[EngineKind.STT]
        if _alone(flavor, first):
            return self._recogniser(self._engines.shared(first), first.deadline or LAST_DEADLINE)
        return SpeechToTextLadder(EngineKind.STT.value, self._rungs(EngineKind.STT, first, self._recogniser))

    def llm(self, flavor: Flavor) -> LanguageModel:
        """The language model, or those there are."""
        first = flavor.engines[EngineKind.LLM]
        if _alone(flavor, first):
            return self._model(self._engines.shared(first), first.deadline or LAST_DEADLINE)
        return LanguageModelLadder(EngineKind.LLM.value, self._rungs(EngineKind.LLM, first, self._model))

    def tts(self, flavor: Flavor) -> TextToSpeech:
        """The voice, or those there are: what any of them has kept is said from there."""
        first = flavor.engines[EngineKind.TTS]
        if _alone(flavor, first):
            return self._voice(self._engines.shared(first), first.deadline or LAST_DEADLINE)
        ladder = TextToSpeechLadder(EngineKind.TTS.value, self._rungs(EngineKind.TTS, first, self._voice))
        caches = [self._voices.cache(self._engines.shared(choice)) for choice in first.rungs]
        return CachedSpeech(ladder, SpeechCaches(caches))

    def _recogniser(self, shared: SharedEngine, deadline: float) -> SpeechToText:
        recogniser = cast(SpeechToText, shared.engine)
        return TimelySpeechToText(recogniser, shared.choice.engine, deadline, self._clock)

    def _model(self, shared: SharedEngine, deadline: float) -> LanguageModel:
        return TimelyLanguageModel(cast(LanguageModel, shared.engine), shared.choice.engine, deadline, self._clock)

    def _voice(self, shared: SharedEngine, deadline: float) -> TextToSpeech:
        name = shared.choice.engine
        return self._voices.of(shared).around(lambda voice: TimelyTextToSpeech(voice, name, deadline, self._clock))

    def _rungs(self, kind: EngineKind, first: EngineChoice, engine: MakeEngine[E]) -> list[Rung[E]]:
        shared = [self._engines.shared(choice) for choice in first.rungs]
        rungs = []
        for number, (choice, one) in enumerate(zip(first.rungs, shared, strict=True), 1):
            usual = partial(_usual_deadline, kind, [other.upkeep.circuit for other in shared[number:]])
            made = partial(_made, engine, one, choice.deadline, usual)
            rungs.append(Rung(number, one.upkeep.circuit, one.meter, made))
        return rungs


def _made(engine: MakeEngine[E], shared: SharedEngine, deadline: float | None, usual: Callable[[], float]) -> E:
    return engine(shared, deadline or usual())


def _usual_deadline(kind: EngineKind, successors: Sequence[Circuit]) -> float:
    return DEADLINES[kind] if any(circuit.closed for circuit in successors) else LAST_DEADLINE


def _alone(flavor: Flavor, first: EngineChoice) -> bool:
    """Whether nothing is to happen where the engine fails but that the turn does: it is asked again in the next one."""
    return not first.successors and flavor.last_resort is None
