"""Uploaded files: what is read, and what is not."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from serving import noise, wav
from whisper_service.audio import TooLong, UnreadableAudio, decoded

CONTAINERS = [("flac", "flac"), ("ogg", "libopus"), ("mp4", "aac"), ("mp3", "libmp3lame"), ("webm", "libopus")]


def encoded(container: str, codec: str, seconds: float, rate: int = 16000) -> bytes:
    """A tone of 440 Hz."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=48000 if codec == "libopus" else rate, layout="mono")
        samples = (np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 440 / rate) * 12000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
        frame.rate = rate
        resampler = av.AudioResampler(
            stream.format, stream.layout, stream.rate, stream.codec_context.frame_size or None
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_common_formats_are_read_by_their_content(container: str, codec: str) -> None:
    audio = decoded(encoded(container, codec, 1.5), 30)
    assert audio.rate == 16000
    assert audio.seconds == pytest.approx(1.5, abs=0.11)
    middle = audio.samples[8000:12000].astype(float)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * audio.rate / len(middle) == pytest.approx(440, abs=5)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_what_connectors_send_is_taken_as_it_is(rate: int) -> None:
    audio = decoded(wav(1.0, rate), 30)
    assert audio.rate == rate
    assert np.array_equal(audio.samples, noise(1.0, rate))


def test_other_wav_files_are_brought_to_whispers_rate_and_one_channel() -> None:
    audio = decoded(wav(1.0, 44100, channels=2), 30)
    assert audio.rate == 16000
    assert audio.seconds == pytest.approx(1.0, abs=0.01)


def test_a_recording_that_was_cut_off_is_read_as_far_as_it_goes() -> None:
    whole = encoded("mp3", "libmp3lame", 2.0)
    assert 0.5 < decoded(whole[: len(whole) // 2], 30).seconds < 1.5
    assert decoded(wav(2.0)[:16043], 30).seconds == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("file", [b"", b"RIFF", b"no audio at all", bytes(5000)])
def test_what_is_no_audio_is_refused(file: bytes) -> None:
    with pytest.raises(UnreadableAudio, match="no audio"):
        decoded(file, 30)


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(1.0))
    for playlist in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile 'file:{secret}'\n",
    ):
        with pytest.raises(UnreadableAudio):
            decoded(playlist.encode(), 30)


@pytest.mark.parametrize("file", [wav(3.0), encoded("flac", "flac", 3.0)], ids=["wav", "flac"])
def test_too_much_is_refused(file: bytes) -> None:
    with pytest.raises(TooLong):
        decoded(file, 2.0)
