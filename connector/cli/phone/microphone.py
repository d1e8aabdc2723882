"""A person's own microphone and loudspeaker on the call (extra `mic`, PortAudio)."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

import numpy as np

from connector.audio import FRAME_SECONDS, Frame, Samples
from connector.cli.phone.caller import RATE, Caller
from connector.errors import MediaError, PackageMissing
from connector.interfaces import AudioPort

BLOCK = int(RATE * FRAME_SECONDS)

BEHIND_SECONDS = 0.2
"""What the loudspeaker may lag before old sound is dropped."""


class Headset(AbstractAsyncContextManager["Headset"]):
    """The default microphone and loudspeaker, for one call.

    Entering raises `PackageMissing` without the extra and `MediaError` without sound devices.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._caller: Caller | None = None
        self._stream: Any = None
        self._lock = threading.Lock()
        self._pending = np.zeros(0, np.int16)

    async def __aenter__(self) -> Self:
        try:
            import sounddevice
        except ImportError as error:
            raise PackageMissing("mic", "not installed: pip install 'voxtrunk[mic]'") from error
        except OSError as error:  # sounddevice is there, the library it binds is not
            raise MediaError(f"no PortAudio: sudo apt-get install libportaudio2 ({error})") from error
        try:
            self._stream = sounddevice.Stream(
                samplerate=RATE, channels=1, dtype="int16", blocksize=BLOCK, callback=self.exchange
            )
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            raise MediaError(f"no microphone and loudspeaker to use: {error}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def connect(self, port: AudioPort, caller: Caller) -> None:
        """From now on `caller` says what the microphone hears, and the loudspeaker says what `port` hears."""
        self._caller = caller
        port.listen(self._hear)

    def _hear(self, frame: Frame) -> None:
        with self._lock:
            self._pending = np.concatenate((self._pending, frame.samples))[-int(RATE * BEHIND_SECONDS) :]

    def exchange(self, recorded: Any, played: Any, frames: int, time: object, status: object) -> None:
        """PortAudio's callback, on its own thread: `frames` of the microphone come, as many for the loudspeaker go."""
        if self._caller is not None:
            spoken: Samples = recorded[:, 0].copy()
            self._loop.call_soon_threadsafe(self._caller.speak, spoken)
        with self._lock:
            ready, self._pending = self._pending[:frames], self._pending[frames:]
        played[:, 0] = np.pad(ready, (0, frames - len(ready)))
