"""The echo: the caller hears the caller, so that a path can be heard, measured and compared."""

from __future__ import annotations

import asyncio
from collections import deque

from connector.audio import Audio, Frame
from connector.interfaces import Action, AudioPort, Digit, PipelineObserver

ECHO_FRAMES = 3
"""Frames held back (60 ms): they are the cushion of the playout, which then never runs dry."""

ECHO_BEHIND = 0.12
"""Seconds written and not emitted beyond which nothing is added: an echo that once fell behind would stay so."""

ECHO_GENERATION = 1
"""The one endless reply."""


class Echo:
    """Plays back what it hears, frame by frame and unchanged; a `Pipeline`. It has no turns to tell of."""

    def __init__(self, port: AudioPort, observer: PipelineObserver) -> None:
        self._port = port
        self._observer = observer
        self._cushion: deque[Frame] = deque()
        self._filled = False
        self._silent = True
        self._written = 0.0

    async def run(self) -> None:
        """Echoes until cancelled."""
        self._silent = False
        self._port.listen(self._on_frame)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._silent = True

    def digit(self, digit: Digit) -> None:
        """Keys are not audio: nothing comes back."""

    def say(self, text: str, then: Action | None = None) -> None:
        """An echo has no voice of its own: nothing is said, and `then` is due at once."""
        if then is not None:
            self._observer.act(then)

    def hold(self, held: bool) -> None:
        """Is silent while on hold."""
        self._silent = held
        if held:
            self._port.pause()
        else:
            self._port.resume()

    def _on_frame(self, frame: Frame) -> None:
        if self._silent:
            return
        self._cushion.append(frame)
        if not self._filled and len(self._cushion) < ECHO_FRAMES:
            return
        self._filled = True
        while self._cushion:
            heard = self._cushion.popleft()
            if self._written - self._port.position.seconds < ECHO_BEHIND:
                self._port.write(ECHO_GENERATION, Audio(heard.samples, heard.rate))
                self._written += heard.end - heard.time
