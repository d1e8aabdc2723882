"""Uploaded files: what is read, and what is not."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from serving import damaged, encoded, noise, wav
from whisper_service.audio import TooLong, UnreadableAudio, decoded

CONTAINERS = [("flac", "flac"), ("ogg", "libopus"), ("mp4", "aac"), ("mp3", "libmp3lame"), ("webm", "libopus")]


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


def test_a_wav_file_that_was_streamed_is_read_to_its_end() -> None:
    """Who streams one does not know its length yet, and writes 0 or the largest there is."""
    file = wav(1.0)
    for length in (bytes(4), b"\xff" * 4):
        streamed = file[:4] + length + file[8:40] + length + file[44:]
        assert np.array_equal(decoded(streamed, 30).samples, noise(1.0))


def test_a_wav_file_without_samples_is_silence_of_no_length() -> None:
    assert decoded(wav(0.0), 30).seconds == 0


def test_a_recording_that_was_cut_off_is_read_as_far_as_it_goes() -> None:
    whole = encoded("mp3", "libmp3lame", 2.0)
    assert 0.5 < decoded(whole[: len(whole) // 2], 30).seconds < 1.5
    assert decoded(wav(2.0)[:16043], 30).seconds == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("container", "codec"), [*CONTAINERS, ("wav", "pcm_s16le")])
def test_a_damaged_file_is_read_or_refused(container: str, codec: str) -> None:
    random = np.random.default_rng(1)
    whole = encoded(container, codec, 0.5)
    for _ in range(200):
        with suppress(UnreadableAudio, TooLong):
            assert decoded(damaged(whole, random), 30).seconds <= 30


def test_a_rate_that_no_recording_has_is_refused() -> None:
    file = bytearray(wav(1.0))
    file[24:28] = (10**9).to_bytes(4, "little")
    with pytest.raises(UnreadableAudio, match="1000000000 Hz; it should have 4000 to 192000 Hz"):
        decoded(bytes(file), 30)


def test_audio_of_an_unknown_codec_and_a_chunk_beyond_the_end_are_refused() -> None:
    unknown, endless = bytearray(wav(1.0)), bytearray(wav(1.0))
    unknown[20:22] = b"\x77\x77"
    endless[36:44] = b"LIST" + b"\xff" * 4
    for file in (unknown, endless):
        with pytest.raises(UnreadableAudio):
            decoded(bytes(file), 30)


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
