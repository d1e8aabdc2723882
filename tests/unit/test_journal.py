"""Journals: what a connector that was killed leaves of its calls, and what a restart makes of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from connector.config.model import RecordSettings
from connector.interfaces import (
    CallInfo,
    EngineKind,
    Party,
    ServiceOutcome,
    ServiceUse,
    SignallingStep,
    TurnRecord,
    TurnTiming,
)
from connector.record import (
    CallRecord,
    CallRecorder,
    Disk,
    Disposition,
    Ending,
    FileCdrStore,
    Journals,
    MediaStatistics,
)
from connector.record.formats import new_file
from connector.record.journal import FOLDER, LOCK, recover
from tests.fakes.audio_port import FakeAudioPort
from tests.fakes.cdr_store import FakeCdrStore
from tests.fakes.clock import EPOCH, LoopClock, virtual_time
from tests.fakes.recordings import FORMATS, played

INFO = CallInfo("call-7@test", "1000", "+4930123456", peer="192.0.2.1:5060")
ASKED = ServiceUse(EngineKind.LLM, "vllm", 1, ServiceOutcome.USED, started=1.0, first=1.1, ended=1.5)
TURN = TurnRecord(1, "hours", "From nine.", "From nine.", False, "hours", TurnTiming(), services=[ASKED])


@pytest_asyncio.fixture
async def disk() -> AsyncIterator[Disk]:
    made = Disk()
    yield made
    await made.aclose()


class Connector:
    """One connector's journals and recorders below a folder; `kill` frees its lock as the system would."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.folder = folder
        self.disk = disk
        self.clock = LoopClock()
        self.journals = Journals(folder, disk, self.clock)
        self.signalling: list[SignallingStep] = []

    def recorder(self, info: CallInfo = INFO, **settings: object) -> CallRecorder:
        return CallRecorder(
            info,
            RecordSettings(directory=self.folder, **settings),  # type: ignore[arg-type]
            self.disk,
            FileCdrStore(self.folder, self.disk),
            self.clock,
            signalling=lambda: self.signalling,
            journals=self.journals,
        )

    async def kill(self) -> None:
        """What is left is on the disk, and nobody holds the lock."""
        await self.disk.run(self.journals._unlock)

    async def recovered(self) -> list[CallRecord]:
        return await self.disk.run(partial(recover, self.folder))

    async def left(self) -> list[str]:
        """Files of journals, whoever's."""
        return await self.disk.run(lambda: sorted(path.name for path in self.folder.glob(f"{FOLDER}/*/*")))


@pytest.fixture
def connector(tmp_path: Path, disk: Disk) -> Connector:
    return Connector(tmp_path, disk)


async def test_a_call_that_was_cut_gets_its_record(connector: Connector) -> None:
    now = connector.clock.now()
    connector.signalling = [SignallingStep(now - 0.5, False, "INVITE"), SignallingStep(now - 0.4, True, "100 Trying")]
    recorder = connector.recorder()
    recorder.flavor = "desk"
    async with FakeAudioPort(connector.clock) as port:
        recorder.start(port, lambda: MediaStatistics(received=500, mos=4.3))
        recorder.turn(TURN)
        await connector.kill()
        (journal,) = await connector.disk.run(lambda: list(connector.folder.glob(f"{FOLDER}/*/*.journal")))
        end = EPOCH + connector.clock.now() + 20
        for path in (journal, *connector.folder.glob("*/*.transcript.jsonl")):
            await connector.disk.run(partial(os.utime, path, (end, end)))
        (record,) = await connector.recovered()
        assert await connector.left() == []
        text = await connector.disk.run((connector.folder / record.files.cdr).read_text)
        await recorder.finish(Ending(Disposition.ANSWERED, Party.CALLER, ""), None)
    assert CallRecord.model_validate_json(text) == record
    assert (record.disposition, record.ended_by) == (Disposition.ANSWERED, Party.SYSTEM)
    assert record.reason == "cut off: the connector stopped before it wrote this record"
    assert record.flavor == "desk"
    assert record.setup_seconds == pytest.approx(0.5, abs=0.01)
    assert record.duration_seconds == pytest.approx(20, abs=0.5)
    assert [turn.heard for turn in record.turns] == ["hours"]
    assert [turn.services for turn in record.turns] == [[]], "the figures of a call that was cut are kept, not each one"
    assert record.summary.requests == 1
    assert [(step.at, step.message) for step in record.signalling] == [(0.0, "INVITE"), (0.1, "100 Trying")]
    assert record.media == MediaStatistics(received=500, mos=4.3), "as of the last turn"
    assert record.files.transcript is not None
    assert record.files.recording is None


@pytest.mark.parametrize("suffix", FORMATS)
async def test_the_recording_of_a_call_that_was_cut_is_named_and_plays_to_its_end(
    connector: Connector, suffix: str
) -> None:
    """The disk had taken in a part of what was written last."""
    recorder = connector.recorder(format=suffix)
    async with FakeAudioPort(connector.clock) as port:
        recorder.start(port)
        name = recorder.so_far().files.recording
        assert name is not None
        path = connector.folder / name

        def torn() -> None:
            file = new_file(path, 8000)
            noise = np.random.default_rng(1).integers(-5000, 5000, (3200, 2), np.int16)
            for begin in range(0, 32_000, 3200):
                file.write(begin, noise)
            content = path.read_bytes()
            file.close()
            path.write_bytes(content[:-7])

        await connector.disk.run(torn)
        await connector.kill()
        (record,) = await connector.recovered()
        audio = await connector.disk.run(partial(played, path))
        await recorder.finish(Ending(Disposition.ANSWERED, Party.CALLER, ""), None)
    assert record.files.recording == name
    assert 3.5 < audio.seconds <= 4.0
    assert audio.stated == pytest.approx(audio.seconds, abs=0.02)


async def test_a_call_that_was_cut_before_the_answer_has_failed(connector: Connector) -> None:
    connector.recorder()
    await connector.kill()
    (record,) = await connector.recovered()
    assert (record.disposition, record.answered, record.duration_seconds) == (Disposition.FAILED, None, 0.0)


async def test_calls_of_a_connector_that_lives_are_left_alone(connector: Connector) -> None:
    connector.recorder()
    await connector.disk.run(lambda: None)
    assert await connector.recovered() == []
    assert len(await connector.left()) == 2


async def test_a_call_with_a_record_leaves_no_journal(connector: Connector) -> None:
    recorder = connector.recorder()
    await connector.disk.run(lambda: None)
    assert len(await connector.left()) == 2
    await recorder.finish(Ending(Disposition.ANSWERED, Party.CALLER, "hung up"), None)
    await connector.disk.run(lambda: None)
    assert await connector.left() == [LOCK]
    await connector.journals.aclose()
    assert await connector.left() == []


async def test_a_record_that_was_written_is_not_written_again(connector: Connector) -> None:
    """Killed between the record and the end of the journal."""
    recorder = connector.recorder()
    path = connector.journals.folder / Path(recorder.so_far().files.cdr.replace(".cdr.json", ".journal")).name
    await connector.disk.run(lambda: None)
    journal = await connector.disk.run(path.read_text)
    written = await recorder.finish(Ending(Disposition.REJECTED, Party.SYSTEM, "no route", 404), None)
    await connector.disk.run(partial(path.write_text, journal))
    await connector.kill()
    assert await connector.recovered() == []
    assert await connector.left() == []
    text = await connector.disk.run((connector.folder / written.files.cdr).read_text)
    assert CallRecord.model_validate_json(text) == written


async def test_a_record_that_could_not_be_written_is_made_up_for_at_the_next_start(connector: Connector) -> None:
    recorder = CallRecorder(
        INFO,
        RecordSettings(directory=connector.folder),
        connector.disk,
        FakeCdrStore(full=True),
        connector.clock,
        journals=connector.journals,
    )
    await recorder.finish(Ending(Disposition.FAILED, Party.SYSTEM, ""), None)
    await connector.journals.aclose()
    (record,) = await connector.recovered()
    assert record.call_id == INFO.call_id


async def test_a_journal_that_cannot_be_read_is_told_and_kept(
    connector: Connector, caplog: pytest.LogCaptureFixture
) -> None:
    connector.recorder()
    connector.recorder(CallInfo("call-8", "1000", "200"))
    await connector.disk.run(lambda: None)
    (broken,) = await connector.disk.run(lambda: list(connector.folder.glob(f"{FOLDER}/*/*call-8*")))
    await connector.disk.run(partial(broken.write_text, "{"))
    await connector.kill()
    assert [record.call_id for record in await connector.recovered()] == [INFO.call_id]
    assert await connector.left() == [broken.name, LOCK]
    assert "unusable journal" in caplog.text


async def test_numbers_are_redacted_in_the_journal_too(connector: Connector) -> None:
    connector.recorder(redact_numbers=True)
    await connector.kill()
    (journal,) = await connector.disk.run(lambda: list(connector.folder.glob(f"{FOLDER}/*/*.journal")))
    assert INFO.calling not in await connector.disk.run(journal.read_text)
    assert (await connector.recovered())[0].calling == "***56"


async def test_records_that_were_cleared_away_hinder_nothing(connector: Connector) -> None:
    connector.recorder()
    await connector.disk.run(lambda: None)
    await connector.disk.run(lambda: [path.unlink() for path in connector.journals.folder.iterdir()])
    await connector.disk.run(connector.journals.folder.rmdir)
    connector.recorder(CallInfo("call-8", "1000", "200"))
    await connector.disk.run(lambda: None)
    assert await connector.recovered() == []
    await connector.kill()
    assert [record.call_id for record in await connector.recovered()] == ["call-8"]


async def test_a_disk_that_takes_nothing_is_told_once(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    await disk.run(partial((tmp_path / "records").write_text, "not a folder"))
    connector = Connector(tmp_path / "records", disk)
    recorder = connector.recorder()
    for _ in range(3):
        recorder.turn(TURN)
        await disk.run(lambda: None)
    assert caplog.text.count("journals cannot be written") == 1


async def test_a_sign_of_life_is_the_time_of_the_journal(connector: Connector) -> None:
    connector.recorder()
    await connector.disk.run(lambda: None)
    (journal,) = await connector.disk.run(lambda: list(connector.folder.glob(f"{FOLDER}/*/*.journal")))
    await connector.disk.run(partial(os.utime, journal, (0, 0)))
    await connector.journals.sign_of_life()
    assert (await connector.disk.run(journal.stat)).st_mtime > EPOCH


@virtual_time
async def test_turns_faster_than_the_disk_are_written_once(tmp_path: Path) -> None:
    """The last one stands; the queue does not grow."""
    posted = []

    class SlowDisk(Disk):
        def post(self, job: object) -> None:
            posted.append(job)

    connector = Connector(tmp_path, SlowDisk())
    recorder = connector.recorder(audio=False, transcript=False)
    for _ in range(100):
        recorder.turn(TURN)
    assert len(posted) == 1
