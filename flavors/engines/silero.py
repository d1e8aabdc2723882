"""Silero VAD: speech or not, for all calls in one batch, at the telephone's own 8 kHz.

The ONNX file is taken out of the published wheel (MIT licence); the package itself, which needs
torch, is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

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

NAME = "silero"

MODEL = ModelFile(
    name="silero_vad-6.2.3.onnx",
    package="silero-vad",
    version="6.2.3",
    member="silero_vad/data/silero_vad.onnx",
    sha256="1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
)

RATE = 8000
WINDOW = 256
"""Samples of one window: 32 ms."""
CONTEXT = 32
"""Samples of the window before, which the model sees ahead of each window."""
_LAYERS, _UNITS = 2, 128
"""Shape of the recurrent state of one stream."""

FEW = 4
"""So many windows take 0.2 ms hot and 0.7 ms in caches that the last 20 ms have emptied; handing them over and back as
much again, and nobody's packet is due just then."""

Floats = NDArray[np.float32]
_Judge = Callable[[Floats, Floats], tuple[Floats, Floats]]


class SileroOptions(EngineOptions):
    """Silero VAD needs no options."""


class Silero:
    """Implements `Vad`. A stream's state is its context and its recurrent state in one row of 288 numbers.

    A `FEW` windows are judged at once, more in a thread: onnxruntime computes without the GIL, and what Python does
    before and after takes microseconds. 64 windows judged without pause make no more ticks late in a thread than in a
    process (bench/isolation.py), which would cost a copy.
    """

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._worker: Worker | None = None
        self._judge: _Judge | None = None

    @property
    def rate(self) -> int:
        """8000 Hz."""
        return RATE

    @property
    def window(self) -> int:
        """256 samples."""
        return WINDOW

    async def start(self) -> None:
        """Loads the model; raises `ModelMissing` where it was not fetched."""
        self._worker = await self._context.host.start(self._load, Placement.THREAD, NAME)

    def _load(self) -> _Judge:
        self._judge = _load(self._context.models)
        return self._judge

    async def check(self) -> None:
        """Listens to a window of silence."""
        await self.probabilities(np.zeros((1, WINDOW), np.float32), self.initial_state()[np.newaxis])

    async def aclose(self) -> None:
        """Frees the model."""
        if self._worker:
            await self._worker.aclose()
            self._worker = self._judge = None

    def initial_state(self) -> Floats:
        """Shape (288,): 32 samples of context, then the recurrent state."""
        return np.zeros(CONTEXT + _LAYERS * _UNITS, np.float32)

    async def probabilities(self, windows: Floats, states: Floats) -> tuple[Floats, Floats]:
        """Speech probabilities of `windows`, shape (B, 256) at ±1.0, and the streams' new states, shape (B, 288)."""
        if self._worker is None or self._judge is None:
            raise EngineError(NAME, "not started")
        if len(windows) <= FEW:
            return self._judge(windows, states)
        return cast(tuple[Floats, Floats], await self._worker.run(windows, states))


def _load(folder: Path) -> _Judge:
    session = _onnx.session(NAME, MODEL, folder)
    rate = np.array(RATE, np.int64)

    def probabilities(windows: Floats, states: Floats) -> tuple[Floats, Floats]:
        if not len(windows):
            return np.empty(0, np.float32), states  # onnxruntime would abort the whole process
        recurrent = states[:, CONTEXT:].reshape(-1, _LAYERS, _UNITS).swapaxes(0, 1)
        output, recurrent = session.run(
            None,
            {"input": np.hstack([states[:, :CONTEXT], windows]), "state": np.ascontiguousarray(recurrent), "sr": rate},
        )
        new = np.hstack([windows[:, -CONTEXT:], recurrent.swapaxes(0, 1).reshape(-1, _LAYERS * _UNITS)])
        return output[:, 0], new

    return probabilities


def _make(options: SileroOptions, context: EngineContext) -> Silero:
    _onnx.require(NAME)
    return Silero(context)


descriptor = EngineDescriptor(
    name=NAME,
    kind=EngineKind.VAD,
    options=SileroOptions,
    extra="silero",
    load=_make,
    models=lambda options: (MODEL,),
)
