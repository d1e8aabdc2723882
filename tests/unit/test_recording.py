"""The stereo recording: what is where, and what a full, slow or broken disk leaves of it, in every format."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from connector.audio import Frame, Samples
from connector.errors import RecordError
from connector.record import Disk, Recording
from connector.record.recording import NARROW, WIDE
from tests.fakes.recordings import FORMATS, LOSSLESS, Played, played

FRAME = NARROW // 50


@pytest_asyncio.fixture
async def disk() -> AsyncIterator[Disk]:
    made = Disk()
    yield made
    await made.aclose()


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "2026-11-20" / f"call.{request.param}"


@pytest.fixture(params=LOSSLESS)
def exact(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file that keeps every sample as it was."""
    return tmp_path / "2026-11-20" / f"call.{request.param}"


@pytest.fixture
def evidence(path: Path) -> Path:
    path.parent.mkdir()
    path.write_bytes(b"evidence")
    return path


def frame(number: int, value: int, rate: int = NARROW) -> Frame:
    return Frame(np.full(rate // 50, value, np.int16), rate, number * 0.02)


def tone(hertz: float, number: int, rate: int = NARROW) -> Samples:
    size = rate // 50
    positions = np.arange(number * size, (number + 1) * size)
    return (8000 * np.sin(2 * np.pi * hertz * positions / rate)).astype(np.int16)


def sung(hertz: float, number: int, rate: int = NARROW) -> Frame:
    return Frame(tone(hertz, number, rate), rate, number * 0.02)


class Errors(list[RecordError]):
    """Collects errors."""


async def settle(disk: Disk) -> None:
    await disk.run(lambda: None)


async def read(disk: Disk, path: Path) -> Played:
    return await disk.run(partial(played, path))


# --------------------------------------------------------------------------------------- what is where


async def test_caller_is_left_and_agent_right_sample_by_sample(exact: Path, disk: Disk) -> None:
    recording = Recording(exact, start=100.0, disk=disk, on_error=Errors().append)
    for number in range(203):
        at = 100.0 + number * 0.02
        recording.received(sung(440, number), at)
        recording.emitted(sung(1000, number), at)
    await recording.close()
    audio = await read(disk, exact)
    assert (audio.rate, audio.stated) == (NARROW, pytest.approx(4.06))
    assert np.array_equal(audio.samples[:, 0], np.concatenate([tone(440, number) for number in range(203)]))
    assert np.array_equal(audio.samples[:, 1], np.concatenate([tone(1000, number) for number in range(203)]))


@pytest.mark.parametrize("rate", [NARROW, WIDE])
async def test_every_format_plays_both_voices_apart_and_in_time(path: Path, disk: Disk, rate: int) -> None:
    """The caller sings in the first second, the agent in the second, both in the third."""
    recording = Recording(path, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(150):
        silent = frame(number, 0, rate)
        recording.received(silent if 50 <= number < 100 else sung(440, number, rate), number * 0.02)
        recording.emitted(silent if number < 50 else sung(700, number, rate), number * 0.02)
    await recording.close()
    audio = await read(disk, path)
    assert audio.seconds == pytest.approx(3.0, abs=0.008)
    assert audio.stated == pytest.approx(3.0, abs=0.012)
    loud = 8000 / np.sqrt(2)
    for channel, silence in ((0, (1.02, 1.98)), (1, (0.0, 0.98))):
        assert audio.level(channel, *silence) < loud / 1000, "the other voice is not heard"
    for channel, voice in ((0, (0.1, 0.98)), (0, (2.02, 2.98)), (1, (1.02, 2.98))):
        assert audio.level(channel, *voice) == pytest.approx(loud, rel=0.1)


async def test_a_caller_who_sends_late_is_where_the_clock_says(exact: Path, disk: Disk) -> None:
    recording = Recording(exact, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(100):
        recording.emitted(frame(number, 1), number * 0.02)
        if number >= 50:
            recording.received(frame(number - 50, 2), number * 0.02)
    await recording.close()
    audio = (await read(disk, exact)).samples
    assert not audio[: 50 * FRAME, 0].any()
    assert (audio[50 * FRAME :, 0] == 2).all()
    assert (audio[:, 1] == 1).all()


async def test_network_jitter_does_not_cut_speech(exact: Path, disk: Disk) -> None:
    """A stall of 150 ms and the burst after it leave the caller's channel without a seam."""
    recording = Recording(exact, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(150):
        stalled = 50 <= number < 57
        recording.received(sung(440, number), (57 if stalled else number) * 0.02)
        recording.emitted(frame(number, 0), number * 0.02)
    await recording.close()
    audio = await read(disk, exact)
    assert np.array_equal(audio.samples[:, 0], np.concatenate([tone(440, number) for number in range(150)]))


async def test_a_pause_in_sending_is_silence_of_its_length(path: Path, disk: Disk) -> None:
    """Media time counts frames: a minute on hold is in the clock alone."""
    recording = Recording(path, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(100):
        at = number * 0.02 + (60 if number >= 50 else 0)
        recording.received(sung(440, number), at)
        recording.emitted(sung(700, number), at)
    await recording.close()
    audio = await read(disk, path)
    assert audio.seconds == pytest.approx(62, abs=0.01)
    for channel in (0, 1):
        assert audio.level(channel, 0.1, 0.9) > 5000
        assert audio.level(channel, 1.1, 60.9) < 3
        assert audio.level(channel, 61.1, 61.9) > 5000


async def test_a_rate_that_changes_in_mid_call_leaves_no_seam(exact: Path, disk: Disk) -> None:
    """The caller's phone goes from narrowband to wideband and back; the file keeps the rate that it began with."""
    recording = Recording(exact, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(150):
        recording.received(sung(440, number, WIDE if 50 <= number < 100 else NARROW), number * 0.02)
        recording.emitted(frame(number, 0), number * 0.02)
    await recording.close()
    audio = await read(disk, exact)
    wanted = np.concatenate([tone(440, number) for number in range(150)]).astype(np.int32)
    assert audio.rate == NARROW
    assert len(audio.samples) == len(wanted)
    difference = np.abs(audio.samples[:, 0] - wanted)
    assert difference[: 50 * FRAME].max() == 0
    around = np.zeros(len(wanted), bool)
    for change in (50 * FRAME, 100 * FRAME):
        around[change - 30 : change + 30] = True  # a stream of its own begins and ends from and to silence
    assert difference[~around].max() < 40


@pytest.mark.parametrize(
    ("first", "wanted", "rate"),
    [
        (WIDE, "auto", WIDE),
        (NARROW, "auto", NARROW),
        (48_000, "auto", WIDE),
        (WIDE, NARROW, NARROW),
        (NARROW, WIDE, WIDE),
    ],
)
async def test_the_rate_is_that_of_the_beginning_or_the_one_wanted(
    exact: Path, disk: Disk, first: int, wanted: str, rate: int
) -> None:
    recording = Recording(exact, start=0.0, disk=disk, on_error=Errors().append, rate=wanted)  # type: ignore[arg-type]
    for number in range(50):
        recording.received(sung(440, number, first), number * 0.02)
        recording.emitted(frame(number, 0), number * 0.02)
    await recording.close()
    audio = await read(disk, exact)
    assert (audio.rate, len(audio.samples)) == (rate, rate)
    middle = audio.samples[rate // 10 : -rate // 10, 0]
    wanted_tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate))[rate // 10 : -rate // 10]
    assert np.abs(middle - wanted_tone).max() < 40


# --------------------------------------------------------------------------------------- what a crash leaves


async def test_the_file_is_playable_all_the_time_and_lacks_less_than_a_second(path: Path, disk: Disk) -> None:
    """Whether the caller is heard on time or as late as a jitter buffer allows."""
    recording = Recording(path, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(400):
        at = number * 0.02
        recording.emitted(sung(700, number), at)
        if number >= 10:
            recording.received(sung(440, number - 10), at - 0.2)
        if number >= 50:
            await settle(disk)
            missing = at + 0.02 - (await read(disk, path)).seconds if number % 7 == 0 else 0.0
            assert missing <= 0.8
    await recording.close()
    assert (await read(disk, path)).seconds == pytest.approx(8.0, abs=0.01)


async def test_a_caller_who_sends_nothing_holds_nothing_up(path: Path, disk: Disk) -> None:
    recording = Recording(path, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(100):
        recording.emitted(sung(700, number), number * 0.02)
    await settle(disk)
    assert 2.0 - (await read(disk, path)).seconds <= 0.9
    await recording.close()


# --------------------------------------------------------------------------------------- disks


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
    noise = np.random.default_rng(1).integers(-9000, 9000, (2, FRAME), np.int16)
    recording = Recording(path, start=0.0, disk=disk, on_error=errors.append)
    for number in range(2000):
        at = number * 0.02
        recording.received(Frame(np.roll(noise[0], number), NARROW, at), at)
        recording.emitted(Frame(np.roll(noise[1], number), NARROW, at), at)
        if number % 20 == 0:
            await settle(disk)
    await recording.close()
    assert len(errors) == 1
    assert str(path) in str(errors[0])
    assert "too large" in str(errors[0]).lower()
    kept = await read(disk, path)
    assert 1.5 < kept.seconds < 30
    assert kept.level(0, 0.1, kept.seconds - 0.1) > 3000


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
        recording.received(sung(440, number), number * 0.02)
    assert [str(error) for error in errors] == [f"{path}: the disk is too slow, parts of the recording are silent"]
    os.write(writer, b".")
    await settle(disk)
    for number in range(500, 600):
        recording.received(sung(440, number), number * 0.02)
        await settle(disk)
    await recording.close()
    os.close(reader)
    os.close(writer)
    audio = await read(disk, path)
    assert audio.seconds == pytest.approx(12, abs=0.01)
    assert audio.level(0, 0.1, 1.4) > 5000
    assert audio.level(0, 2.1, 9.3) < 3
    assert audio.level(0, 10.1, 11.9) > 5000


def _wait_for(reader: int) -> None:
    os.read(reader, 1)


async def test_what_comes_after_the_end_is_ignored(exact: Path, disk: Disk) -> None:
    """A leg may tick once more after its call is over."""
    errors = Errors()
    recording = Recording(exact, start=0.0, disk=disk, on_error=errors.append)
    recording.received(frame(0, 1), 0.0)
    await recording.close()
    for number in range(1, 100):
        recording.received(frame(number, 1), number * 0.02)
    await settle(disk)
    assert len((await read(disk, exact)).samples) == FRAME
    assert errors == []


async def test_calls_are_written_in_order_by_one_thread(disk: Disk) -> None:
    order: list[int] = []
    for number in range(100):
        disk.post(partial(order.append, number))
    await settle(disk)
    assert order == list(range(100))


async def test_a_hundred_calls_do_not_write_in_the_same_tick(disk: Disk) -> None:
    """Their writes are spread over the 20 ticks of a block: about five in each."""
    ticks = [int(disk.phase() * 20) for _ in range(100)]
    assert max(ticks.count(tick) for tick in range(20)) <= 6


# --------------------------------------------------------------------------------------- pauses


async def test_nothing_of_a_pause_is_written_to_the_frame(exact: Path, disk: Disk) -> None:
    """Frame 60 is the last before the pause, 110 the first after it; time goes on."""
    recording = Recording(exact, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(160):
        at = number * 0.02
        if number == 61:
            recording.pause()
        if number == 110:
            recording.resume(at)
        recording.received(frame(number, 1000 + number), at)
        recording.emitted(frame(number, 2000 + number), at)
    await recording.close()
    audio = await read(disk, exact)
    for channel, base in ((0, 1000), (1, 2000)):
        values = audio.samples[:, channel].reshape(-1, FRAME)
        assert (values == values[:, :1]).all()
        assert values[:61, 0].tolist() == [base + number for number in range(61)]
        assert not values[61:110].any()
        assert values[110:, 0].tolist() == [base + number for number in range(110, 160)]


async def test_what_the_jitter_buffer_held_at_the_end_of_a_pause_is_not_recorded(exact: Path, disk: Disk) -> None:
    """The caller's frames come 100 ms after they were on the wire: those of the pause still come after it."""
    recording = Recording(exact, start=0.0, disk=disk, on_error=Errors().append)
    recording.pause()
    for number in range(100):
        at = number * 0.02
        if number == 50:
            recording.resume(at)
        recording.received(frame(number, 7), at - 0.1)
        recording.emitted(frame(number, 8), at)
    await recording.close()
    audio = (await read(disk, exact)).samples
    assert not audio[: 50 * FRAME, 0].any()
    assert (audio[50 * FRAME : 94 * FRAME, 0] == 7).all()
    assert (audio[50 * FRAME : 99 * FRAME, 1] == 8).all()


async def test_no_format_has_a_trace_of_a_pause_and_all_keep_its_length(path: Path, disk: Disk) -> None:
    recording = Recording(path, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(200):
        at = number * 0.02
        if number == 50:
            recording.pause()
        if number == 150:
            recording.resume(at)
            recording.resume(at)
        recording.received(sung(440, number), at)
        recording.emitted(sung(700, number), at)
        if number == 149:
            await settle(disk)
            paused = (await read(disk, path)).seconds
            assert paused > 2.2, "the file grows while it lasts"
    await recording.close()
    audio = await read(disk, path)
    assert audio.seconds == pytest.approx(4, abs=0.01)
    for channel in (0, 1):
        assert audio.level(channel, 0.1, 0.98) > 5000
        assert audio.level(channel, 1.03, 2.97) < 3
        assert audio.level(channel, 3.03, 3.98) > 5000


async def test_a_call_that_is_paused_to_its_end_has_its_length(exact: Path, disk: Disk) -> None:
    recording = Recording(exact, start=0.0, disk=disk, on_error=Errors().append)
    for number in range(100):
        if number == 20:
            recording.pause()
        recording.received(frame(number, 5), number * 0.02)
        recording.emitted(frame(number, 6), number * 0.02)
    await recording.close()
    audio = (await read(disk, exact)).samples
    assert (audio[: 20 * FRAME] == (5, 6)).all()
    assert not audio[20 * FRAME :].any()
    assert len(audio) / NARROW > 1.2
