"""The encoders of FFmpeg's libraries (PyAV), which compute without the GIL."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

from connector.errors import RecordError
from connector.record.audio_file import Block

if TYPE_CHECKING:
    from av import AudioFrame

Name = Literal["flac", "libopus"]

LAYOUT = "stereo"
FORMAT = "s16"


def load() -> None:
    """Imports the libraries, which takes a while. Raises `RecordError` where they are missing."""
    try:
        import av  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise RecordError(f"{error}: run `pip install 'voxtrunk[recording]'`, or set records.format to wav") from error


class Encoder:
    """FFmpeg's encoder `name` for stereo of `rate` Hz; `options` are its own.

    Where whole frames of the codec come in, their packets come out at once. All methods raise `OSError`.
    """

    def __init__(self, name: Name, rate: int, bit_rate: int | None, options: Mapping[str, str]) -> None:
        import av

        self._av = av
        self._rate = rate
        self._samples = 0
        self._context = av.CodecContext.create(name, "w")
        self._context.sample_rate = rate
        self._context.layout = LAYOUT
        self._context.format = FORMAT
        self._context.time_base = Fraction(1, rate)
        if bit_rate is not None:
            self._context.bit_rate = bit_rate
        self._context.options = dict(options)
        try:
            self._context.open()
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error

    @property
    def header(self) -> bytes:
        """What decoders have to know beforehand (FFmpeg's `extradata`)."""
        return self._context.extradata or b""

    def encode(self, block: Block) -> list[bytes]:
        """The packets of `block`."""
        frame = self._av.AudioFrame.from_ndarray(np.ascontiguousarray(block).reshape(1, -1), FORMAT, LAYOUT)
        frame.sample_rate = self._rate
        frame.pts = self._samples
        self._samples += len(block)
        return self._packets(frame)

    def flush(self) -> list[bytes]:
        """The packets of what is left; nothing can be encoded after it."""
        return self._packets(None)

    def _packets(self, frame: AudioFrame | None) -> list[bytes]:
        try:
            return [bytes(packet) for packet in self._context.encode(frame)]
        except self._av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error
