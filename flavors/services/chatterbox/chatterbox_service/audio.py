"""What goes out: 16-bit PCM and WAV, at the rate and speed asked for. What comes in: recordings of any usual format.

FFmpeg does the signal processing, by way of PyAV: `aresample` holds back 2 ms of a stream, `atempo` (WSOLA)
changes the speed and keeps the pitch.
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import av
import av.error
import av.filter
import numpy as np
from numpy.typing import NDArray

from chatterbox_service.engine import Samples

_RESAMPLE = "filter_size=48:cutoff=0.94"
"""24 → 8 kHz: flat up to telephony's 3.4 kHz, aliases 60 dB down, 3 ms of delay."""
_SLOWEST = 0.5
"""Of one `atempo`; two of them go further."""
_UNKNOWN_SIZE = 0xFFFFFFFF
"""In a WAV header: to the end of the stream."""
_WAV_HEADER = 44
_CONTAINERS = (
    (b"RIFF", "wav"),
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"ID3", "mp3"),
    (b"\xff\xfb", "mp3"),
    (b"\xff\xf3", "mp3"),
)
"""First bytes of what is accepted, and FFmpeg's name of it. It is told, as some of its other formats open files and
network addresses that they name."""


class UnreadableAudio(ValueError):
    """Bytes that are no recording of a format that is accepted, and why."""


def pcm16(samples: Samples) -> bytes:
    """Little-endian 16-bit PCM of `samples`, which are clipped at ±1.0."""
    whole: NDArray[np.int16] = np.rint(samples.clip(-1, 1) * 32767).astype("<i2")
    return whole.tobytes()


def wav_header(rate: int, size: int | None = None) -> bytes:
    """The header of mono 16-bit PCM at `rate` Hz, `size` bytes long; None where that is not known yet."""
    riff = _UNKNOWN_SIZE if size is None else size + _WAV_HEADER - 8
    data = _UNKNOWN_SIZE if size is None else size
    return struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", riff, b"WAVEfmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", data)


class Converter:
    """Converts a stream from `source` to `target` Hz, `speed` times as fast at the same pitch."""

    def __init__(self, source: int, target: int, speed: float = 1.0) -> None:
        """`speed`: 0.25 to 4."""
        self._source = source
        self._position = 0
        self._graph = None if source == target and speed == 1 else _graph(source, target, speed)

    def process(self, samples: Samples) -> Samples:
        """The next stretch of the stream: shape (n,) to (m,), where m is about n * target / source / speed."""
        if self._graph is None or not len(samples):
            return samples
        mono = np.ascontiguousarray(samples, dtype=np.float32)[np.newaxis]
        frame = av.AudioFrame.from_ndarray(mono, format="flt", layout="mono")
        frame.sample_rate = self._source
        frame.time_base = Fraction(1, self._source)
        frame.pts = self._position
        self._position += len(samples)
        self._graph.push(frame)
        return self._pull(self._graph)

    def flush(self) -> Samples:
        """What the filters still hold. The stream is over."""
        if self._graph is None or not self._position:
            return np.empty(0, np.float32)
        self._graph.push(None)
        return self._pull(self._graph)

    @staticmethod
    def _pull(graph: av.filter.Graph) -> Samples:
        pieces: list[NDArray[np.float32]] = []
        while True:
            try:
                frame = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return np.concatenate(pieces) if pieces else np.empty(0, np.float32)
            if isinstance(frame, av.AudioFrame):  # as always here; graphs may be of video too
                pieces.append(frame.to_ndarray()[0])


def _graph(source: int, target: int, speed: float) -> av.filter.Graph:
    graph = av.filter.Graph()
    chain = [graph.add_abuffer(sample_rate=source, format="flt", layout="mono", time_base=Fraction(1, source))]
    factors = (max(speed, _SLOWEST), min(speed / _SLOWEST, 1))
    chain += [graph.add("atempo", str(factor)) for factor in factors if factor != 1]
    if target != source:
        chain.append(graph.add("aresample", f"{target}:{_RESAMPLE}"))
    chain += [graph.add("aformat", "sample_fmts=flt:channel_layouts=mono"), graph.add("abuffersink")]
    graph.link_nodes(*chain).configure()
    return graph


def decode(recording: bytes, longest: float) -> tuple[Samples, int]:
    """Samples, shape (n,), and rate of a WAV, FLAC, Ogg or MP3 file; channels are mixed.

    Decoding ends after `longest` seconds: a small file can hold hours. Raises `UnreadableAudio`.
    """
    container = next((name for magic, name in _CONTAINERS if recording.startswith(magic)), None)
    if container is None:
        raise UnreadableAudio("the file is no WAV, FLAC, Ogg or MP3")
    pieces: list[NDArray[np.float32]] = []
    rate = seconds = 0.0
    try:
        with av.open(io.BytesIO(recording), mode="r", format=container, metadata_errors="ignore") as source:
            # Interleaved: of planes, PyAV reads eight and then memory that is not its own.
            interleaved = av.AudioResampler(format="flt")
            for frame in source.decode(audio=0) if source.streams.audio else ():
                rate = frame.sample_rate
                # Not FFmpeg's own mix, which makes equal channels 3 dB louder.
                pieces += (
                    piece.to_ndarray().reshape(-1, piece.layout.nb_channels).mean(axis=1)
                    for piece in interleaved.resample(frame)
                )
                seconds += frame.samples / rate
                if seconds > longest:
                    break
    except (av.error.FFmpegError, ValueError) as error:
        reason = error.strerror if isinstance(error, av.error.FFmpegError) else "rate or channels change within it"
        raise UnreadableAudio(f"the file is broken: {reason}") from error
    if not pieces:
        raise UnreadableAudio("the file holds no audio")
    return np.concatenate(pieces), int(rate)
