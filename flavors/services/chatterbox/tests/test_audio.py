"""PCM and WAV at other rates and speeds, and recordings as people have them."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
from numpy.typing import NDArray

from chatterbox_service.audio import Converter, UnreadableAudio, decode, pcm16, wav_header
from tests.fakes.recordings import damaged, recorded

RATE = 24000


def tone(frequency: float, seconds: float = 1.0, rate: int = RATE, level: float = 0.5) -> NDArray[np.float32]:
    return (level * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def converted(samples: NDArray[np.float32], target: int, speed: float = 1.0, chunk: int = 480) -> NDArray[np.float32]:
    converter = Converter(RATE, target, speed)
    pieces = [converter.process(samples[at : at + chunk]) for at in range(0, len(samples), chunk)]
    return np.concatenate([*pieces, converter.flush()])


def frequency_of(samples: NDArray[np.float32], rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def decibels(samples: NDArray[np.float32]) -> float:
    return float(10 * np.log10(2 * np.mean(samples[400:-400] ** 2) + 1e-12))


@pytest.mark.parametrize("target", [24000, 16000, 8000])
@pytest.mark.parametrize("chunk", [1, 7, 480, 24000])
def test_a_tone_keeps_its_pitch_level_place_and_length(target: int, chunk: int) -> None:
    heard = converted(tone(440, 0.2 if chunk == 1 else 1.0), target, chunk=chunk)
    expected = tone(440, 0.2 if chunk == 1 else 1.0, target)
    assert len(heard) == len(expected)
    assert np.abs(heard - expected)[50:-50].max() < 0.001


def test_what_telephony_cannot_carry_makes_no_alias() -> None:
    assert decibels(converted(tone(3400, level=1), 8000)) > -1
    assert decibels(converted(tone(4600, level=1), 8000)) < -60
    assert decibels(converted(tone(9000, level=1), 16000)) < -60


@pytest.mark.parametrize("target", [16000, 8000])
def test_resampling_holds_back_less_than_four_milliseconds(target: int) -> None:
    first = Converter(RATE, target).process(tone(440, 0.02))
    assert len(first) >= (0.02 - 0.004) * target


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.8, 1.25, 2.0, 4.0])
@pytest.mark.parametrize("target", [24000, 8000])
def test_speed_changes_the_length_and_not_the_pitch(speed: float, target: int) -> None:
    heard = converted(tone(440, 2.0), target, speed)
    assert len(heard) / target == pytest.approx(2.0 / speed, abs=0.1)
    assert frequency_of(heard[: len(heard) // 2], target) == pytest.approx(440, abs=6)


def test_loud_samples_are_clipped_and_not_wrapped() -> None:
    pcm = np.frombuffer(pcm16(np.array([0, 1.5, -1.5, 0.5], np.float32)), "<i2")
    assert pcm.tolist() == [0, 32767, -32767, 16384]


def test_a_wav_header_of_known_length_is_read_by_others() -> None:
    pcm = pcm16(tone(440, 0.5, 8000))
    with wave.open(io.BytesIO(wav_header(8000, len(pcm)) + pcm)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        assert file.getnframes() == 4000


def test_a_wav_stream_of_unknown_length_is_read_to_its_end() -> None:
    samples, rate = decode(wav_header(16000) + pcm16(tone(440, 0.5, 16000)), longest=9)
    assert (len(samples), rate) == (8000, 16000)


@pytest.mark.parametrize(
    ("container", "codec"),
    [("wav", "pcm_s16le"), ("wav", "pcm_f32le"), ("flac", "flac"), ("ogg", "libopus"), ("mp3", "libmp3lame")],
)
def test_recordings_of_usual_formats_are_decoded(container: str, codec: str) -> None:
    samples, rate = decode(recorded(tone(440, 2.0, 48000), 48000, container, codec), longest=9)
    assert rate == 48000
    assert len(samples) / rate == pytest.approx(2.0, abs=0.1)
    assert frequency_of(samples, rate) == pytest.approx(440, abs=2)


def test_stereo_is_mixed() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setnchannels(2)
        output.setsampwidth(2)
        output.setframerate(16000)
        output.writeframes(np.repeat(np.frombuffer(pcm16(tone(440, 1.0, 16000)), "<i2"), 2).tobytes())
    samples, _ = decode(file.getvalue(), longest=9)
    assert samples.shape == (16000,)
    assert np.abs(samples - tone(440, 1.0, 16000)).max() < 0.01


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (b"", "no WAV, FLAC, Ogg or MP3"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "no WAV, FLAC, Ogg or MP3"),
        (b"RIFF\x10\0\0\0WAVEjunk", "broken|no audio"),
        (b"fLaC" + bytes(100), "broken|no audio"),
        (b"OggS" + bytes(100), "broken|no audio"),
        (b"ID3" + bytes(1000), "broken|no audio"),
        (wav_header(16000, 0), "broken|no audio"),
    ],
)
def test_what_is_no_recording_is_refused_with_the_reason(file: bytes, reason: str) -> None:
    with pytest.raises(UnreadableAudio, match=reason):
        decode(file, longest=9)


def test_channels_are_mixed_however_many_there_are() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as output:
        output.setparams((40, 2, 16000, 0, "NONE", ""))
        output.writeframes(np.repeat(np.frombuffer(pcm16(tone(440, 1.0, 16000)), "<i2"), 40).tobytes())
    samples, _ = decode(file.getvalue(), longest=9)
    assert np.abs(samples - tone(440, 1.0, 16000)).max() < 0.01


@pytest.mark.parametrize(
    ("container", "codec"), [("wav", "pcm_s16le"), ("flac", "flac"), ("ogg", "libopus"), ("mp3", "libmp3lame")]
)
def test_a_damaged_file_is_read_or_refused(container: str, codec: str) -> None:
    random = np.random.default_rng(1)
    whole = recorded(tone(440, 0.5, 48000), 48000, container, codec)
    for _ in range(300):
        try:
            samples, rate = decode(damaged(whole, random), longest=9)
        except UnreadableAudio:
            continue
        assert samples.ndim == 1
        assert rate > 0


def test_decoding_ends_where_the_recording_is_too_long() -> None:
    samples, rate = decode(wav_header(8000) + bytes(2 * 8000 * 60), longest=5)
    assert 5 < len(samples) / rate < 7
