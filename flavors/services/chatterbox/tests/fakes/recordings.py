"""Recordings of voices, as people and programs write them."""

from __future__ import annotations

import io

import av
import numpy as np
from numpy.typing import NDArray

from chatterbox_service.audio import pcm16, wav_header


def hum(seconds: float = 6.0, rate: int = 24000, level: float = 0.3, hertz: float = 190) -> bytes:
    """A WAV file that is fit to be cloned."""
    pcm = pcm16((level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32))
    return wav_header(rate, len(pcm)) + pcm


def recorded(samples: NDArray[np.float32], rate: int, container: str, codec: str, layout: str = "mono") -> bytes:
    """`samples` as an audio file; FFmpeg lowers what it makes stereo by 3 dB."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="flt", layout="mono")
        frame.sample_rate = rate
        encoder = stream.codec_context
        fit = av.AudioResampler(encoder.format, encoder.layout, rate, encoder.frame_size or 1024)
        for piece in [*fit.resample(frame), *fit.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return file.getvalue()


def damaged(file: bytes, random: np.random.Generator) -> bytes:
    """`file` with some bytes changed, lost or added, most of them near its beginning."""
    made = bytearray(file)
    for _ in range(random.integers(1, 12)):
        place = random.integers(random.choice([64, 200, len(made)]))
        made[place : place + random.integers(8)] = random.bytes(random.integers(8))
    return bytes(made)
