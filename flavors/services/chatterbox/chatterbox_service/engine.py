"""The seam between the speech engine and what serves it.

`chatterbox_service.chatterbox.open_engine` makes the real one. Whatever speaks for a caller looks like this:

    async with aclosing(engine.speak(Request("Hello.", voice="default"))) as chunks:
        async for chunk in chunks:
            ...
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono audio at ±1.0, shape (samples,)."""


class SpeechError(Exception):
    """A request that cannot be spoken, and why. Nothing of it stays behind."""


class UnknownVoice(SpeechError):
    """No voice of that name; the message lists those that there are."""


class UnknownLanguage(SpeechError):
    """A language that the model does not speak; the message lists those that it does."""


class NothingToSay(SpeechError):
    """A text without a letter or a digit."""


class EngineFailed(SpeechError):
    """The engine could not do what is right to ask of it, such as where memory has run out."""


class Busy(SpeechError):
    """As many streams are spoken as stay faster than real time.

    `retry_after` is the number of seconds after which one of them is likely to have ended.
    """

    def __init__(self, capacity: int, retry_after: float) -> None:
        super().__init__(f"all {capacity} streams are taken; try again in {retry_after:.0f} s")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Request:
    """One text in one voice.

    `None` stands for the model's own value. `exaggeration` (0 to 2) is heeded by the standard and the multilingual
    model alone, `language` (ISO 639-1) by the multilingual one. Requests that are equal, `seed` included, are spoken
    by the same speech tokens, whoever else speaks at the time.
    """

    text: str
    voice: str = "default"
    temperature: float | None = None
    exaggeration: float | None = None
    seed: int | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice that the engine has conditionals of. `cloned`: made by `Engine.clone`, thus may be removed."""

    name: str
    cloned: bool = False


class Engine(Protocol):
    """Speaks many requests at once."""

    @property
    def rate(self) -> int:
        """Samples per second of everything that `speak` yields."""
        ...

    @property
    def model(self) -> str:
        """`turbo`, `standard` or `multilingual`."""
        ...

    @property
    def device(self) -> str:
        """What it computes on, in words: `cuda (NVIDIA L4)`, `rocm (...)`, `mps`, `cpu`."""
        ...

    @property
    def voices(self) -> Mapping[str, Voice]: ...

    @property
    def capacity(self) -> int:
        """How many streams stay faster than real time, measured at start; at least 1."""
        ...

    @property
    def active(self) -> int:
        """Streams being spoken."""
        ...

    def speak(self, request: Request) -> AsyncGenerator[Samples, None]:
        """Audio as soon as there is any, in chunks of no fixed length, until the text is spoken.

        Closing the generator frees the stream's place at the engine's next step. How far the engine runs ahead of
        real time is its own affair: a consumer that waits holds up nobody else.

        Raises, before the first chunk, `Busy`, `UnknownVoice`, `UnknownLanguage`, `NothingToSay` or `SpeechError`;
        after it, `SpeechError` where the engine failed.
        """
        ...

    async def clone(self, name: str, samples: Samples, rate: int) -> Voice:
        """Make and keep conditionals of a recording (mono, `rate` Hz, 5 s or more); an existing clone is replaced.

        Raises `SpeechError` where the recording is too short or silent, or the name is that of a built-in voice, and
        `EngineFailed`; the voice of that name then is what it was.
        """
        ...

    async def forget(self, name: str) -> None:
        """Remove a clone. Raises `UnknownVoice`, or `SpeechError` where the voice is built in."""
        ...

    async def lost(self) -> str:
        """Returns once it can never speak again, such as when its device failed, with why; "" where it was closed."""
        ...

    async def aclose(self) -> None:
        """End all streams and the engine's thread. Idempotent."""
        ...
