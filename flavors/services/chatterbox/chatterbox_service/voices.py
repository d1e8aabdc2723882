"""Recordings of voices, kept as WAV files in a folder, and what makes one fit to be cloned."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chatterbox_service.audio import decode, pcm16, wav_header
from chatterbox_service.engine import Samples

log = logging.getLogger(__name__)

SHORTEST_SECONDS = 5.0
LONGEST_SECONDS = 60.0
"""Of a recording; the model hears the first ten or fifteen seconds of it."""
LEAST_SPEECH_SECONDS = 3.0
LOWEST_RATE, HIGHEST_RATE = 16000, 192_000
"""Hz. The model hears speakers at 16 kHz; from less, such as telephone recordings, the voice is dull."""
LOWEST_LEVEL = -40.0
"""dBFS of the louder parts. Below it, a good share of the voice is noise."""
MOST_CLIPPED = 0.005
"""Share of samples at full scale."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_FRAME_SECONDS = 0.05
_SILENCE_BELOW_SPEECH = 25.0
"""dB below the louder parts."""
_FULL_SCALE = 0.999


class UnfitRecording(ValueError):
    """A recording that would make a poor voice, and what would be right."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Mono samples at ±1.0, shape (n,), at `rate` Hz."""

    samples: Samples
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def voice_name(text: str) -> str:
    """`text` as the name of a voice and of its file: `María García` is `maria-garcia`. Raises ValueError."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = "-".join(ascii_text.lower().split())
    if not _NAME.fullmatch(name):
        raise ValueError("should be up to 64 letters, digits, hyphens and underscores, such as maria-garcia")
    return name


def read_recording(file: bytes) -> Recording:
    """Decodes a file and checks what it holds; raises `audio.UnreadableAudio` and `UnfitRecording`."""
    recording = Recording(*decode(file, longest=LONGEST_SECONDS + 1))
    check(recording)
    return recording


def check(recording: Recording) -> None:
    """Raises `UnfitRecording` where the length, rate or level is not that of a good recording."""
    if not LOWEST_RATE <= recording.rate <= HIGHEST_RATE:
        raise UnfitRecording(
            f"the recording has {recording.rate} Hz; it should have {LOWEST_RATE} to {HIGHEST_RATE} Hz"
        )
    if recording.seconds < SHORTEST_SECONDS:
        raise UnfitRecording(
            f"the recording lasts {recording.seconds:.1f} s; it should last {SHORTEST_SECONDS:g} s or more"
        )
    if recording.seconds > LONGEST_SECONDS:
        raise UnfitRecording(f"the recording is longer than {LONGEST_SECONDS:g} s; cut out the best part of it")
    samples = recording.samples
    if not np.isfinite(samples).all():
        raise UnfitRecording("the recording holds samples that are no numbers")
    clipped = float(np.mean(np.abs(samples) >= _FULL_SCALE))
    if clipped > MOST_CLIPPED:
        raise UnfitRecording(f"{clipped:.1%} of the samples are clipped; record it at a lower level")
    levels = _levels(recording)
    speech = float(np.percentile(levels, 90))
    if speech < LOWEST_LEVEL:
        raise UnfitRecording(f"speech is at {speech:.0f} dBFS; it should be at {LOWEST_LEVEL:g} dBFS or more")
    spoken = float(np.sum(levels > speech - _SILENCE_BELOW_SPEECH)) * _FRAME_SECONDS
    if spoken < LEAST_SPEECH_SECONDS:
        raise UnfitRecording(
            f"the recording holds {spoken:.1f} s of speech; it should hold {LEAST_SPEECH_SECONDS:g} s or more"
        )


def _levels(recording: Recording) -> NDArray[np.float64]:
    """dBFS of each stretch of `_FRAME_SECONDS`."""
    size = int(_FRAME_SECONDS * recording.rate)
    frames = recording.samples[: len(recording.samples) // size * size].reshape(-1, size).astype(np.float64)
    levels: NDArray[np.float64] = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
    return levels


class VoiceStore:
    """A folder of recordings: NAME.wav is the voice NAME. It may be filled by hand too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read_all(self) -> dict[str, Recording]:
        """The recordings that are fit, by voice; of the others, a warning says what is wrong."""
        found = {}
        for path in sorted(self._folder.glob("*.wav")):
            try:
                if path.stem != voice_name(path.stem):
                    raise ValueError(f"its name should be {voice_name(path.stem)}.wav")
                found[path.stem] = self.read(path.stem)
            except (OSError, ValueError) as error:
                log.warning("voice left out: %s: %s", path, error)
        return found

    def read(self, name: str) -> Recording:
        """The recording of a voice; raises OSError, `audio.UnreadableAudio` and `UnfitRecording`."""
        return read_recording(self._path(name).read_bytes())

    def save(self, name: str, recording: Recording) -> None:
        """Writes the file, all of it or nothing; raises OSError."""
        path = self._path(name)
        self._folder.mkdir(parents=True, exist_ok=True)
        pcm = pcm16(recording.samples)
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=f".{name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(wav_header(recording.rate, len(pcm)) + pcm)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def delete(self, name: str) -> None:
        """Removes the file, if there is one; raises OSError."""
        self._path(name).unlink(missing_ok=True)

    def created(self, name: str) -> int:
        """Unix time of the file, in seconds; 0 where there is none."""
        try:
            return int(self._path(name).stat().st_mtime)
        except OSError:
            return 0

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no voice's name")
        return self._folder / f"{name}.wav"
