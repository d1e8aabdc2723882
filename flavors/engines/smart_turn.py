"""Smart Turn v3.2: does an utterance sound finished? Whisper's encoder, 8 million parameters, by Daily (pipecat).

The ONNX file is taken out of the published wheel of pipecat-ai (BSD-2-Clause, as the model's card says of the model);
the package itself is not installed. How far its word can be taken on the telephone: bench/turns/end_of_turn.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import numpy as np
from pydantic import Field

from connector.audio import Audio
from connector.errors import EngineError
from connector.interfaces import (
    EngineContext,
    EngineDescriptor,
    EngineKind,
    EngineOptions,
    ModelFile,
    Placement,
    Worker,
)
from flavors.engines import _onnx
from flavors.engines._log_mel import RATE, log_mel
from flavors.engines._resample import resample

NAME = "smart-turn"

MODEL = ModelFile(
    name="smart-turn-v3.2-cpu.onnx",
    package="pipecat-ai",
    version="1.14.0",
    member="pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
    sha256="2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f",
)

SECONDS = 8
"""The model's window. A shorter sound lies at its end, zeros before it, as it was trained."""


class SmartTurnOptions(EngineOptions):
    """Smart Turn v3.2."""

    seconds: Annotated[float, Field(ge=0.5, le=SECONDS)] = 1.7
    """So much of the end of what was said is heard, the silence after it included. With more, sentences after a pause
    are taken for unfinished ones more often; it takes as long."""


class SmartTurn:
    """Implements `TurnDetector`, in a thread. One utterance at a time; the others wait in order.

    An answer takes 50 ms however short the utterance, for the model's window is fixed; features of the padding cost
    nothing. onnxruntime computes without the GIL: ticks come no later than beside a process (bench/isolation.py).
    """

    def __init__(self, options: SmartTurnOptions, context: EngineContext) -> None:
        self._options = options
        self._context = context
        self._worker: Worker | None = None

    async def start(self) -> None:
        """Loads the model; raises `ModelMissing` where it was not fetched."""
        self._worker = await self._context.host.start(partial(_load, self._context.models), Placement.THREAD, NAME)

    async def check(self) -> None:
        """Listens to a second of silence."""
        await self.probability(Audio(np.zeros(RATE, np.int16), RATE))

    async def aclose(self) -> None:
        """Frees the model."""
        if self._worker:
            await self._worker.aclose()
            self._worker = None

    async def probability(self, utterance: Audio) -> float:
        """Probability that the speaker of `utterance` has finished, by its last `seconds`."""
        if self._worker is None:
            raise EngineError(NAME, "not started")
        samples, rate = utterance
        return cast(float, await self._worker.run(Audio(samples[-round(self._options.seconds * rate) :], rate)))


def _load(folder: Path) -> Callable[[Audio], float]:
    session = _onnx.session(NAME, MODEL, folder)

    def probability(utterance: Audio) -> float:
        samples = resample(utterance, RATE).astype(np.float32) / np.float32(32768)
        columns = log_mel(samples, SECONDS * RATE)
        (output,) = session.run(None, {"input_features": columns[np.newaxis]})
        return float(output[0, 0])

    return probability


def _make(options: SmartTurnOptions, context: EngineContext) -> SmartTurn:
    _onnx.require(NAME)
    return SmartTurn(options, context)


descriptor = EngineDescriptor(
    name=NAME,
    kind=EngineKind.TURN_DETECTOR,
    options=SmartTurnOptions,
    extra="smart-turn",
    load=_make,
    models=lambda options: (MODEL,),
)
