"""A call whose recording is paused: nothing of it is kept anywhere, whoever paused it and whatever comes between."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from connector.audio import Frame
from connector.call import Call
from connector.config.model import RecordSettings
from connector.errors import RecordError
from connector.interfaces import (
    AudioTap,
    CallInfo,
    Digit,
    Held,
    Party,
    PauseRecording,
    Resumed,
    ResumeRecording,
    SignallingStep,
    Terminated,
    Transfer,
    TurnRecord,
    TurnTiming,
)
from connector.record import CallRecorder, Disk, Disposition, Ending, FileCdrStore, Journals
from connector.record.recorder import PAUSED
from tests.fakes.audio_port import FakeAudioPort
from tests.fakes.calls import Stage, a_leg, over
from tests.fakes.cdr_store import FakeCdrStore
from tests.fakes.clock import LoopClock, virtual_time
from tests.fakes.recordings import FORMATS, played

CARD = "four one one one"


class SetClock(LoopClock):
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return 1_795_167_492.4 + self.at


class Line(FakeAudioPort):
    """A port whose taps are fed by the test."""

    def __init__(self, clock: SetClock) -> None:
        super().__init__(clock)
        self.taps: list[AudioTap] = []

    def tap(self, tap: AudioTap) -> None:
        self.taps.append(tap)

    def pass_both_ways(self, frame: Frame, at: float) -> None:
        for tap in self.taps:
            tap.received(frame, at)
            tap.emitted(frame, at)


class Desk:
    """A recorder, and turns of its call."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.clock = SetClock()
        self.disk = disk
        self.signalling: list[SignallingStep] = []
        self.journals = Journals(folder, disk, self.clock)
        self.recorder = CallRecorder(
            CallInfo("call-7", "1000", "200"),
            RecordSettings(directory=folder),
            disk,
            FileCdrStore(folder, disk),
            self.clock,
            signalling=lambda: self.signalling,
            journals=self.journals,
        )
        self.recorder.start(FakeAudioPort(self.clock))

    def turn(self, heard: str, reply: str, decided: float) -> tuple[str, str, str]:
        """What the record has of a turn that was decided at `decided` and is over now."""
        record = TurnRecord(1, heard, reply, reply, False, None, TurnTiming(decided=decided))
        turn = self.recorder.turn(record)
        return turn.heard, turn.reply, turn.spoken


@pytest_asyncio.fixture
async def disk() -> AsyncIterator[Disk]:
    made = Disk()
    yield made
    await made.aclose()


@pytest_asyncio.fixture
async def desk(tmp_path: Path, disk: Disk) -> Desk:
    return Desk(tmp_path, disk)


async def test_texts_and_keys_of_a_pause_are_nowhere_in_the_records(desk: Desk, tmp_path: Path) -> None:
    desk.clock.at = 110.0
    assert desk.turn("I want to pay", "Gladly.", 105.0) == ("I want to pay", "Gladly.", "Gladly.")
    desk.clock.at = 112.0
    assert desk.recorder.pause()
    for second, key in enumerate("4111"):
        desk.signalling.append(SignallingStep(113.0 + second, False, "INFO", f"Signal={key}"))
    desk.clock.at = 120.0
    assert desk.turn(CARD, f"You said {CARD}.", 118.0) == (PAUSED, PAUSED, PAUSED)
    desk.clock.at = 121.0
    assert desk.recorder.resume()
    desk.signalling.append(SignallingStep(122.0, False, "INFO", "Signal=9"))
    desk.clock.at = 130.0
    assert desk.turn("thanks", "Goodbye.", 125.0) == (PAUSED, "Goodbye.", "Goodbye."), "it was said since the last turn"
    desk.clock.at = 140.0
    assert desk.turn("bye", "Bye.", 136.0) == ("bye", "Bye.", "Bye.")
    record = await desk.recorder.finish(Ending(Disposition.ANSWERED, Party.CALLER, "hung up"), None)
    assert [(pause.start, pause.end) for pause in record.pauses] == [(12.0, 21.0)]
    assert [step.note for step in record.signalling] == ["Signal=*"] * 4 + ["Signal=9"]

    def written() -> str:
        return "".join(path.read_text() for path in tmp_path.rglob("*.json*"))

    text = await desk.disk.run(written)
    assert CARD not in text
    assert "Signal=4" not in text
    assert PAUSED in text
    await desk.journals.aclose()


async def test_a_pause_that_began_after_a_voice_leaves_its_text(desk: Desk) -> None:
    desk.clock.at = 112.0
    desk.recorder.pause()
    assert desk.turn("I want to pay", "Your card, please.", 108.0) == ("I want to pay", PAUSED, PAUSED)
    await desk.recorder.finish(Ending(Disposition.ANSWERED, Party.CALLER, ""), None)


async def test_a_pause_to_the_end_has_no_end_and_a_killed_connector_knows_of_it(desk: Desk) -> None:
    desk.clock.at = 112.0
    desk.recorder.pause()
    await desk.disk.run(lambda: None)
    (journal,) = await desk.disk.run(lambda: list(desk.journals.folder.glob("*.journal")))
    assert json.loads(await desk.disk.run(journal.read_text))["pauses"] == [{"start": 12.0, "end": None}]
    assert not desk.recorder.pause(), "it is paused already"
    record = await desk.recorder.finish(Ending(Disposition.ANSWERED, Party.CALLER, ""), None)
    assert [(pause.start, pause.end) for pause in record.pauses] == [(12.0, None)]


async def test_before_the_answer_there_is_nothing_to_pause(tmp_path: Path, disk: Disk) -> None:
    recorder = CallRecorder(
        CallInfo("call-7", "1000", "200"), RecordSettings(directory=tmp_path), disk, FakeCdrStore(), LoopClock()
    )
    for wish in (recorder.pause, recorder.resume):
        with pytest.raises(RecordError, match="not answered"):
            wish()
    assert not recorder.paused


@virtual_time
async def test_the_flavor_pauses_at_once_and_hold_and_transfer_change_nothing() -> None:
    stage = Stage()
    async with a_leg(stage.clock) as leg:
        call: Call = stage.take(leg)
        await stage.clock.sleep(5)
        observer = stage.pipelines[0].observer
        observer.act(PauseRecording())
        assert call.recorder.paused, "not a frame later"
        for event in (Held(), Digit("4"), Resumed()):
            leg.emit(event)
        await stage.clock.sleep(5)
        observer.act(Transfer("2000"))
        observer.act(PauseRecording())
        assert call.recorder.paused
        observer.act(ResumeRecording())
        observer.act(ResumeRecording())
        assert not call.recorder.paused
        leg.emit(Terminated(Party.CALLER, "BYE"))
        (record,) = await over(stage)
    assert len(record.pauses) == 1
    pause = record.pauses[0]
    assert pause.end is not None
    assert pause.end - pause.start == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("suffix", FORMATS)
async def test_the_recording_is_named_by_its_format_and_silent_in_the_pause(
    tmp_path: Path, disk: Disk, suffix: str
) -> None:
    clock = SetClock()
    recorder = CallRecorder(
        CallInfo("call-7", "1000", "200"),
        RecordSettings(directory=tmp_path, format=suffix),  # type: ignore[arg-type]
        disk,
        FakeCdrStore(),
        clock,
    )
    line = Line(clock)
    recorder.start(line)
    voice = (8000 * np.sin(2 * np.pi * 400 * np.arange(160) / 8000)).astype(np.int16)
    for number in range(150):
        clock.at = 100.0 + number * 0.02
        if number == 50:
            recorder.pause()
        if number == 100:
            recorder.resume()
        line.pass_both_ways(Frame(voice, 8000, number * 0.02), clock.at)
    record = await recorder.finish(Ending(Disposition.ANSWERED, Party.CALLER, ""), None)
    assert record.files.recording is not None
    assert record.files.recording.endswith(f".{suffix}")
    (pause,) = record.pauses
    assert (pause.start, pause.end) == (1.0, 2.0)
    audio = await disk.run(partial(played, tmp_path / record.files.recording))
    for channel in (0, 1):
        assert audio.level(channel, pause.start + 0.03, pause.end - 0.03) < 3
        assert audio.level(channel, 0.1, pause.start - 0.02) > 5000
        assert audio.level(channel, pause.end + 0.03, 2.98) > 5000
