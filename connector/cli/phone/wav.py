"""WAV files in and out: what a caller plays, and the recording of both directions."""

from __future__ import annotations

import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from connector.audio import Audio, Frame
from connector.errors import RecordError
from connector.interfaces import AudioPort, Clock
from connector.record.disk import Disk
from connector.record.recording import Recording


def read_wav(path: Path) -> Audio:
    """The first channel of a 16-bit PCM WAV. Blocking. Raises `RecordError`."""
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise RecordError(f"{path}: {8 * file.getsampwidth()} bits per sample; a 16-bit PCM WAV is needed")
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
            return Audio(samples.reshape(-1, file.getnchannels())[:, 0].astype(np.int16), file.getframerate())
    except (wave.Error, EOFError) as error:
        raise RecordError(f"{path} is not a PCM WAV: {error or 'it is cut short'}") from error
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from error


class _CallerLeft:
    """Turns a recording round: on this side of the line the caller is who emits."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def received(self, frame: Frame, at: float) -> None:
        self._recording.emitted(frame, at)

    def emitted(self, frame: Frame, at: float) -> None:
        self._recording.received(frame, at)


@asynccontextmanager
async def recorded(port: AudioPort, path: Path, clock: Clock) -> AsyncIterator[None]:
    """Records the caller's `port` to a stereo WAV (caller left, agent right). Raises `RecordError` at the end."""
    errors: list[RecordError] = []
    disk = Disk()
    recording = Recording(path, start=clock.now(), disk=disk, on_error=errors.append)
    port.tap(_CallerLeft(recording))
    try:
        yield
    finally:
        await recording.close()
        await disk.aclose()
    if errors:
        raise errors[0]
