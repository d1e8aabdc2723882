"""The formats of recordings: what players read, and what repairing a file makes of one that was cut anywhere."""

from __future__ import annotations

import hashlib
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.record.audio_file import Block
from connector.record.formats import load, new_file, repair
from tests.fakes.recordings import FORMATS, LOSSLESS, played

RATE = 8000
GRAIN = RATE // 10


def voice(seconds: float, rate: int = RATE) -> Block:
    """Noise left, a tone right."""
    count = round(seconds * rate)
    noise = np.random.default_rng(3).integers(-3000, 3000, count)
    tone = 6000 * np.sin(2 * np.pi * 440 * np.arange(count) / rate)
    return np.stack((noise, tone), axis=1).astype(np.int16)


def write(path: Path, audio: Block, rate: int = RATE, *, sync: bool = False) -> None:
    """In blocks of 0.4 s, as a call does."""
    file = new_file(path, rate, sync=sync)
    for begin in range(0, len(audio), 4 * rate // 10):
        file.write(begin, audio[begin : begin + 4 * rate // 10])
    file.close()


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("rate", [8000, 16_000])
@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats_keep_every_sample(tmp_path: Path, suffix: str, rate: int, sync: bool) -> None:
    path = tmp_path / f"a.{suffix}"
    audio = voice(2.13, rate)
    write(path, audio, rate, sync=sync)
    read = played(path)
    assert read.rate == rate
    assert np.array_equal(read.samples, audio)


@pytest.mark.parametrize("rate", [8000, 16_000])
def test_opus_is_as_long_as_what_was_written(tmp_path: Path, rate: int) -> None:
    """To the sample: the encoder's look-ahead and its last packet's padding are not played."""
    path = tmp_path / "a.opus"
    write(path, voice(2.13, rate), rate)
    read = played(path)
    assert (read.rate, len(read.samples)) == (48_000, round(2.13 * 48_000))
    angle = 2 * np.pi * 440 * np.arange(len(read.samples)) / 48_000
    part = slice(9600, 9600 + 48_000)
    turned = np.angle(np.sum(read.samples[part, 1] * np.exp(-1j * angle[part]))) + np.pi / 2
    assert abs(turned / (2 * np.pi * 440)) < 0.0002, "seconds late"


def test_a_whole_flac_has_the_checksum_of_its_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    audio = voice(1.05)
    write(path, audio)
    assert path.read_bytes()[26:42] == hashlib.md5(audio.tobytes(), usedforsecurity=False).digest()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_gap_is_silence_and_takes_next_to_no_room(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    audio = voice(0.4)
    file = new_file(path, RATE)
    file.write(0, audio)
    file.write(60 * RATE, audio)
    file.close()
    read = played(path)
    assert read.seconds == pytest.approx(60.4, abs=0.001)
    assert read.level(1, 0.05, 0.38) > 4000
    assert read.level(1, 0.5, 59.9) < 3
    assert read.level(1, 60.05, 60.38) > 4000
    assert path.stat().st_blocks * 512 < 100_000


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_empty_file_can_be_played(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    new_file(path, RATE).close()
    assert played(path).seconds < 0.02
    repair(path)
    assert played(path).seconds < 0.02


@pytest.mark.parametrize("suffix", FORMATS)
def test_repairing_a_whole_file_leaves_it_alone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, voice(1.23))
    before = path.read_bytes()
    repair(path)
    assert path.read_bytes() == before


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file `call` of each format as it is while its call goes on: 2 s, not closed."""
    folder = tmp_path_factory.mktemp("growing")
    audio = voice(2.0)
    for suffix in FORMATS:
        path = folder / f"written.{suffix}"
        file = new_file(path, RATE)
        for begin in range(0, len(audio), 4 * GRAIN):
            file.write(begin, audio[begin : begin + 4 * GRAIN])
        path.with_stem("call").write_bytes(path.read_bytes())
        file.close()
    return folder


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1), garbage=st.binary(max_size=40))
def test_a_file_that_was_cut_anywhere_plays_to_its_end(
    growing: Path, tmp_path_factory: pytest.TempPathFactory, suffix: str, share: float, garbage: bytes
) -> None:
    """A power cut may leave any beginning of it, and zeros or anything else behind that."""
    path = tmp_path_factory.mktemp("cut") / f"a.{suffix}"
    content = (growing / f"call.{suffix}").read_bytes()
    kept = max(4000, round(share * len(content)))  # not without any sound
    path.write_bytes(content[:kept] + garbage)
    repair(path)
    read = played(path)
    block = 0.4 if suffix == "opus" else 0.1
    assert 2.0 * kept / len(content) - read.seconds < block + 0.15
    assert read.stated is None or read.stated == pytest.approx(read.seconds, abs=0.02)
    repaired = path.read_bytes()
    repair(path)
    assert path.read_bytes() == repaired


@pytest.mark.parametrize("suffix", ["flac", "opus"])
@pytest.mark.parametrize("seconds", [13, 210])
def test_a_long_file_before_a_power_cut_plays_to_its_end(tmp_path: Path, suffix: str, seconds: int) -> None:
    """Zeros stand for what the disk lacks. A FLAC frame's number takes two bytes from 12.8 s on, three from 205 s."""
    path = tmp_path / f"a.{suffix}"
    audio = voice(0.8)
    file = new_file(path, RATE)
    file.write(0, audio[: 4 * GRAIN])
    file.write(seconds * RATE, audio[: 4 * GRAIN])
    file.write(seconds * RATE + 4 * GRAIN, audio[4 * GRAIN :])
    content = path.read_bytes()
    file.close()
    path.write_bytes(content[:-10] + bytes(300_000))
    repair(path)
    read = played(path)
    assert seconds + 0.38 < read.seconds <= seconds + 0.8
    assert read.stated == pytest.approx(read.seconds, abs=0.02)
    assert read.level(1, seconds + 0.05, seconds + 0.35) > 4000


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("length", [0, 4, 30, 60])
def test_a_file_without_a_whole_header_raises_nothing(growing: Path, tmp_path: Path, suffix: str, length: int) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes((growing / f"call.{suffix}").read_bytes()[:length])
    repair(path)


def test_half_a_wav_header_becomes_an_empty_wav(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF")
    repair(path)
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnframes()) == (8000, 0)


def test_a_name_that_says_nothing_becomes_a_wav(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    write(path, voice(0.5))
    with wave.open(str(path)) as file:
        assert file.getnframes() == RATE // 2


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_can_be_loaded(suffix: str) -> None:
    load(suffix)  # type: ignore[arg-type]
