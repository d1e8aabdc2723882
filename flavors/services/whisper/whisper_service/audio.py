"""Uploaded files as audio."""

from __future__ import annotations

import io
import wave
from itertools import chain

import av
import numpy as np

from connector.audio import Audio

RATES = (8000, 16000)
"""Hz, that the recogniser takes as they are."""

RATE_BOUNDS = range(4000, 192_001)
"""Hz, of recordings. Filters grow with the rate: of a file that claims gigahertz, one sample would take minutes."""

_DEMUXERS = "aac,aiff,amr,au,flac,matroska,mov,mp3,mp4,m4a,ogg,w64,wav,webm"
"""What is opened: formats that hold audio. Playlists, which name other files and addresses, are not among them."""


class UnreadableAudio(Exception):
    """The file cannot be decoded, or holds no audio; the message says which."""


class TooLong(Exception):
    """The file holds more than the seconds that were allowed."""


def decoded(file: bytes, most_seconds: float) -> Audio:
    """The first audio stream of `file`, mono, at a rate that Whisper takes.

    WAV, FLAC, Ogg, MP3, WebM and MP4, by their content. Raises `UnreadableAudio` and `TooLong`. Blocks.
    """
    audio = _telephone_wav(file) or _by_ffmpeg(file, most_seconds)
    if audio.seconds > most_seconds:
        raise TooLong
    return audio


def _telephone_wav(file: bytes) -> Audio | None:
    """What connectors send, in a fiftieth of the time that FFmpeg takes to look at it; None for all else."""
    try:
        with wave.open(io.BytesIO(file)) as reader:
            if (reader.getnchannels(), reader.getsampwidth()) != (1, 2) or reader.getframerate() not in RATES:
                return None
            content = reader.readframes(reader.getnframes())
            if not content:  # who streams a file may write 0 for a length that is not known yet
                return None
            return Audio(np.frombuffer(content[: len(content) // 2 * 2], "<i2").astype(np.int16), reader.getframerate())
    except (wave.Error, EOFError, RuntimeError):  # RuntimeError: a chunk says that it is longer than the file
        return None


def _by_ffmpeg(file: bytes, most_seconds: float) -> Audio:
    parts = [np.zeros(0, np.int16)]
    rate, count = RATES[-1], 0
    try:
        demuxers = {"format_whitelist": _DEMUXERS}
        with av.open(io.BytesIO(file), "r", options=demuxers, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise UnreadableAudio("the file holds no audio")
            stream = container.streams.audio[0]
            own = getattr(stream, "rate", None)  # which a stream of an unknown codec lacks
            if own is None:
                raise UnreadableAudio("the file holds no audio of a codec that is known")
            if own not in RATE_BOUNDS:
                raise UnreadableAudio(f"the file has {own} Hz; it should have {RATE_BOUNDS[0]} to {RATE_BOUNDS[-1]} Hz")
            rate = own if own in RATES else rate
            resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
            for frame in chain(container.decode(stream), [None]):
                for piece in resampler.resample(frame):
                    parts.append(piece.to_ndarray().reshape(-1).astype(np.int16))
                    count += piece.samples
                if count > most_seconds * rate:
                    raise TooLong
    except (av.FFmpegError, ValueError) as error:
        # The end of a recording that was cut off is no reason to hear nothing of it.
        if not count:
            reason = error.strerror if isinstance(error, av.FFmpegError) else "rate or channels change within it"
            raise UnreadableAudio(f"the file is no audio that can be read: {reason}") from error
    return Audio(np.concatenate(parts), rate)
