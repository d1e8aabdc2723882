"""The stereo recording: what is where, and what a crash or a full disk leaves."""

from __future__ import annotations

import os
import resource
import signal
import wave
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from connector.audio import Frame, Samples
from connector.errors import RecordError
from connector.record import Disk, Recording
from connector.record.recording import RATE, Track

FRAME = 160


@pytest_asyncio.fixture
async def disk() -> AsyncIterator[Disk]:
    made = Disk()
    yield made
    await made.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "2026-11-20" / "call.wav"


@pytest.fixture
def evidence(path: Path) -> Path:
    path.parent.mkdir()
    path.write_bytes(b"evidence")
    return path


def frame(number: int, value: int, rate: int = RATE) -> Frame:
    return Frame(np.full(rate // 50, value, np.int16), rate, number * 0.02)


def tone(hertz: float, number: int) -> Samples:
    positions = np.arange(number * FRAME, (number + 1) * FRAME)
    return (8000 * np.sin(2 * np.pi * hertz * positions / RATE)).astype(np.int16)


def read(path: Path) -> NDArray[np.int16]:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 2, 2)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)


class Errors(list[RecordError]):
    """Collects errors."""


async def settle(disk: Disk) -> None:
    await disk.run(lambda: None)


async def test_caller_is_left_and_agent_right_sample_by_sample(path: Path, disk: Disk) -> None:
    recording = Recording(path, start=100.0, disk=disk, on_error=Errors().append)
    for number in range(200):
        at = 100.0 + number * 0.02
        recording.received(Frame(tone(440, number), RATE, number * 0.02), at)
        recording.emitted(Frame(tone(1000, number), RATE, number * 0.02), at)
    await recording.close()
    audio = read(path)
    assert np.array_equal(audio[:, 0], np.concatenate([tone(440, number) for number in range(200)]))
    assert np.array_equal(audio[:, 1], np.concatenate([tone(1000, number) for number in range(200)]))


async def test_a_caller_who_sends_late_is_where_the_clock_says(path: Path, disk: Disk) -> None:
    recording = Recording(path, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(100):
        recording.emitted(frame(number, 1), number * 0.02)
        if number >= 50:
            recording.received(frame(number - 50, 2), number * 0.02)
    await recording.close()
    audio = read(path)
    assert not audio[: 50 * FRAME, 0].any()
    assert (audio[50 * FRAME :, 0] == 2).all()
    assert (audio[:, 1] == 1).all()


async def test_network_jitter_does_not_cut_speech(path: Path, disk: Disk) -> None:
    """A stall of 150 ms and the burst after it leave the caller's channel without a seam."""
    recording = Recording(path, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(150):
        stalled = 50 <= number < 57
        recording.received(Frame(tone(440, number), RATE, number * 0.02), (57 if stalled else number) * 0.02)
        recording.emitted(frame(number, 0), number * 0.02)
    await recording.close()
    assert np.array_equal(read(path)[:, 0], np.concatenate([tone(440, number) for number in range(150)]))


async def test_a_pause_in_sending_is_silence_of_its_length(path: Path, disk: Disk) -> None:
    """Media time counts frames: ten minutes on hold are in the clock alone."""
    recording = Recording(path, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(100):
        at = number * 0.02 + (600 if number >= 50 else 0)
        recording.received(frame(number, 5), at)
        recording.emitted(frame(number, 6), at)
    await recording.close()
    audio = read(path)
    assert len(audio) == 602 * RATE
    assert (audio[:RATE] == (5, 6)).all()
    assert not audio[RATE : 601 * RATE].any()
    assert (audio[601 * RATE :] == (5, 6)).all()


async def test_a_drifting_sender_stays_within_60_ms(path: Path, disk: Disk) -> None:
    track = Track()
    worst = 0.0
    for number in range(180_000):  # an hour
        at = number * 0.02 * (1 + 100e-6)
        position = track.place(number * 0.02, at, FRAME)
        worst = max(worst, abs(position / RATE - at))
    assert worst < 0.065


async def test_wideband_frames_are_brought_down(path: Path, disk: Disk) -> None:
    recording = Recording(path, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(25):
        recording.received(frame(number, 1000, rate=16000), number * 0.02)
    await recording.close()
    audio = read(path)
    assert len(audio) == 25 * FRAME
    assert abs(int(np.median(audio[:, 0])) - 1000) < 20


async def test_the_file_is_valid_all_the_time_and_lacks_at_most_a_second(path: Path, disk: Disk) -> None:
    recording = Recording(path, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(300):
        recording.received(frame(number, 1), number * 0.02)
        recording.emitted(frame(number, 2), number * 0.02)
        seconds = (number + 1) * 0.02
        if number % 50 == 49:
            await settle(disk)
            assert seconds - len(read(path)) / RATE <= 1.0
    await recording.close()
    assert len(read(path)) == 300 * FRAME


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files cannot grow beyond 64 KiB, as on a disk without space."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
async def test_a_full_disk_is_told_once_and_keeps_what_was_written(path: Path, disk: Disk) -> None:
    errors = Errors()
    recording = Recording(path, start=0.0, disk=disk, on_error=errors.append)
    for number in range(500):
        recording.received(frame(number, 1), number * 0.02)
        await settle(disk)
    await recording.close()
    assert len(errors) == 1
    assert str(path) in str(errors[0])
    assert "too large" in str(errors[0]).lower()
    kept = read(path)
    assert 1.0 < len(kept) / RATE < 2.1
    assert (kept[:, 0] == 1).all()


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, disk: Disk) -> None:
    (tmp_path / "records").write_text("a file, not a folder")
    errors = Errors()
    recording = Recording(tmp_path / "records" / "call.wav", start=0.0, disk=disk, on_error=errors.append)
    for number in range(100):
        recording.received(frame(number, 1), number * 0.02)
    await recording.close()
    assert len(errors) == 1
    assert not recording.exists


async def test_an_existing_file_is_never_overwritten(evidence: Path, disk: Disk) -> None:
    errors = Errors()
    recording = Recording(evidence, start=0.0, disk=disk, on_error=errors.append)
    recording.received(frame(0, 1), 0.0)
    await recording.close()
    assert await disk.run(evidence.read_bytes) == b"evidence"
    assert len(errors) == 1


async def test_a_disk_that_hangs_costs_audio_but_no_time(path: Path, disk: Disk) -> None:
    """What does not fit into the queue is silence; what comes after it is where it belongs."""
    reader, writer = os.pipe()
    disk.post(lambda: _wait_for(reader))
    errors = Errors()
    recording = Recording(path, start=0.0, disk=disk, on_error=errors.append, limit=5)
    for number in range(500):
        recording.received(frame(number, 1), number * 0.02)
    assert [str(error) for error in errors] == [f"{path}: the disk is too slow, parts of the recording are silent"]
    os.write(writer, b".")
    await settle(disk)
    for number in range(500, 600):
        recording.received(frame(number, 1), number * 0.02)
        await settle(disk)
    await recording.close()
    os.close(reader)
    os.close(writer)
    audio = read(path)
    assert len(audio) == 12 * RATE
    assert (audio[: 2 * RATE, 0] == 1).all()
    assert not audio[2 * RATE : 9 * RATE, 0].any()
    assert (audio[10 * RATE :, 0] == 1).all()


def _wait_for(reader: int) -> None:
    os.read(reader, 1)


async def test_what_comes_after_the_end_is_ignored(path: Path, disk: Disk) -> None:
    """A leg may tick once more after its call is over."""
    errors = Errors()
    recording = Recording(path, start=0.0, disk=disk, on_error=errors.append)
    recording.received(frame(0, 1), 0.0)
    await recording.close()
    for number in range(1, 100):
        recording.received(frame(number, 1), number * 0.02)
    await settle(disk)
    assert len(await disk.run(partial(read, path))) == FRAME
    assert errors == []


async def test_calls_are_written_in_order_by_one_thread(disk: Disk) -> None:
    order: list[int] = []
    for number in range(100):
        disk.post(partial(order.append, number))
    await settle(disk)
    assert order == list(range(100))
