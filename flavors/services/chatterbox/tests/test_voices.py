"""Recordings for cloning: what is fit, and the folder that they are kept in."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from chatterbox_service.voices import Recording, UnfitRecording, VoiceStore, check, read_recording, voice_name


def speech(seconds: float = 6.0, rate: int = 24000, level: float = 0.3, pauses: float = 0.2) -> Recording:
    """A tone with pauses, as speech has them."""
    time = np.arange(int(seconds * rate)) / rate
    samples = level * np.sin(2 * np.pi * 220 * time) * (time % 1 > pauses)
    return Recording(samples.astype(np.float32), rate)


@pytest.mark.parametrize(
    ("given", "name"),
    [("maria", "maria"), ("María García", "maria-garcia"), ("Front Desk_2", "front-desk_2"), (" a  b ", "a-b")],
)
def test_names_are_made_fit_for_files(given: str, name: str) -> None:
    assert voice_name(given) == name


@pytest.mark.parametrize(
    "given", ["", "../etc/passwd", "a/b", ".hidden", "-x", "..", "a\0b", "你好", "x" * 65, "a.wav"]
)
def test_names_that_cannot_be_made_fit_are_refused(given: str) -> None:
    with pytest.raises(ValueError, match="such as maria-garcia"):
        voice_name(given)


def test_a_good_recording_is_fit() -> None:
    check(speech())


@pytest.mark.parametrize(
    ("recording", "reason"),
    [
        (speech(seconds=4.9), "lasts 4.9 s; it should last 5 s or more"),
        (speech(seconds=61), "longer than 60 s"),
        (speech(rate=8000), "8000 Hz; it should have 16000 to 192000 Hz"),
        (speech(rate=400_000), "400000 Hz; it should have 16000 to 192000 Hz"),
        (speech(level=0.003), "-53 dBFS; it should be at -40"),
        (speech(level=0), "dBFS"),
        (speech(level=1.0), "clipped"),
        (speech(pauses=0.7), "1.8 s of speech; it should hold 3 s"),
        (Recording(np.full(24000 * 6, np.nan, np.float32), 24000), "no numbers"),
    ],
)
def test_an_unfit_recording_is_refused_with_what_would_be_right(recording: Recording, reason: str) -> None:
    with pytest.raises(UnfitRecording, match=reason):
        check(recording)


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    store = VoiceStore(tmp_path / "voices")
    assert store.read_all() == {}
    store.save("maria", speech())
    kept = store.read_all()["maria"]
    assert kept.rate == 24000
    assert np.abs(kept.samples - speech().samples).max() < 1e-4
    assert store.created("maria") > 0
    assert [path.name for path in (tmp_path / "voices").iterdir()] == ["maria.wav"]
    store.delete("maria")
    assert store.read_all() == {}
    assert store.created("maria") == 0


def test_files_that_are_unfit_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = VoiceStore(tmp_path)
    store.save("good", speech())
    (tmp_path / "broken.wav").write_bytes(b"RIFFxxxxWAVE")
    (tmp_path / "Bad Name.wav").write_bytes((tmp_path / "good.wav").read_bytes())
    store.save("short", speech(seconds=1))
    with caplog.at_level(logging.WARNING):
        assert list(store.read_all()) == ["good"]
    for told in ("broken.wav", "bad-name.wav", "lasts 1.0 s"):
        assert told in caplog.text


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    store = VoiceStore(tmp_path)
    with pytest.raises(ValueError, match="is no voice's name"):
        store.save("../elsewhere", speech())
    assert list(tmp_path.iterdir()) == []


def test_a_recording_is_read_from_a_file(tmp_path: Path) -> None:
    VoiceStore(tmp_path).save("maria", speech())
    assert read_recording((tmp_path / "maria.wav").read_bytes()).seconds == 6
