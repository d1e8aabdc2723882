"""Call detail records, transcripts, file names, redaction."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from connector.config.model import RecordSettings
from connector.errors import RecordError
from connector.interfaces import (
    CallInfo,
    Diversion,
    EngineKind,
    Party,
    ServiceOutcome,
    ServiceUse,
    SignallingStep,
    TurnRecord,
    TurnTiming,
)
from connector.record import (
    CallFiles,
    CallRecord,
    CallRecorder,
    Disk,
    Disposition,
    Ending,
    FileCdrStore,
    MediaStatistics,
    redact,
)
from connector.record.files import write_atomically
from connector.record.wav import WavFile
from tests.fakes.audio_port import FakeAudioPort
from tests.fakes.cdr_store import FakeCdrStore
from tests.fakes.clock import LoopClock

NOVEMBER = 1_795_167_492.4174  # 2026-11-20 09:38:12.417 UTC


@pytest_asyncio.fixture
async def disk() -> AsyncIterator[Disk]:
    made = Disk()
    yield made
    await made.aclose()


def record(**changes: object) -> TurnRecord:
    values: dict[str, object] = {
        "generation": 1,
        "heard": "",
        "reply": "Hello.",
        "spoken": "Hello.",
        "interrupted": False,
        "intent": None,
        "timing": TurnTiming(),
        **changes,
    }
    return TurnRecord(**values)  # type: ignore[arg-type]


# ------------------------------------------------------------------ names


def test_files_are_named_by_day_time_and_call() -> None:
    files = CallFiles.of(NOVEMBER, "a84b4c76e66710@192.0.2.1")
    assert files.recording == "2026-11-20/093812.417-a84b4c76e66710@192.0.2.1.wav"
    assert files.transcript == "2026-11-20/093812.417-a84b4c76e66710@192.0.2.1.transcript.jsonl"
    assert files.cdr == "2026-11-20/093812.417-a84b4c76e66710@192.0.2.1.cdr.json"


@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_no_call_id_leaves_the_folder(call_id: str) -> None:
    folder, name = CallFiles.of(NOVEMBER, call_id).stem.split("/")
    assert folder == "2026-11-20"
    assert re.fullmatch(r"[A-Za-z0-9@._-]+", name)
    assert len(name) < 100
    assert not name.endswith(".")  # before the extension there is one already


def test_call_ids_that_differ_in_odd_characters_alone_get_different_files() -> None:
    names = {
        CallFiles.of(NOVEMBER, call_id).stem for call_id in ("../../a", "..\\..\\a", ".._.._a", "x" * 80, "x" * 81)
    }
    assert len(names) == 5


def test_folders_and_files_are_for_the_user_and_the_group_alone(tmp_path: Path) -> None:
    """Whatever the umask lets through."""
    umask = os.umask(0o022)
    try:
        write_atomically(tmp_path / "records" / "2026-11-20" / "a.cdr.json", "{}")
        WavFile(tmp_path / "records" / "2026-11-21" / "a.wav", 8000).close()
    finally:
        os.umask(umask)
    made = [tmp_path / "records", *(tmp_path / "records").rglob("*")]
    assert len(made) == 5
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640), path


@pytest.mark.parametrize(
    ("number", "redacted"), [("+4930123456", "***56"), ("1000", "***00"), ("12", "***"), ("", "***"), ("alice", "***")]
)
def test_redaction_keeps_two_digits(number: str, redacted: str) -> None:
    assert redact(number) == redacted


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("redacted", [False, True])
async def test_a_record_says_who_called_whom_and_by_which_way(tmp_path: Path, disk: Disk, redacted: bool) -> None:
    """Calling and diverting numbers are redacted where that is wanted; the number called is the house's own."""
    info = CallInfo(
        "call-8",
        "030123456",
        "+4915112345678",
        called_number="+4930123456",
        calling_number="+4915112345678",
        asserted="+4915112345678",
        private=True,
        diversions=(Diversion("+4930987654", "user-busy"), Diversion("ada\udcff")),
    )
    settings = RecordSettings(directory=tmp_path, redact_numbers=redacted)
    recorder = CallRecorder(info, settings, disk, FakeCdrStore(), LoopClock())
    written = await recorder.finish(Ending(Disposition.REJECTED, Party.SYSTEM, "no"), None)
    caller, diverting = ("***78", "***54") if redacted else ("+4915112345678", "+4930987654")
    assert (written.called_number, written.calling_number, written.asserted) == ("+4930123456", caller, caller)
    assert recorder.calling_number == caller
    assert written.private
    assert [(one.number, one.reason) for one in written.diversions] == [
        (diverting, "user-busy"),
        ("***" if redacted else "ada\\udcff", ""),
    ]
    assert CallRecord.model_validate_json(written.json_line()) == written


async def test_a_record_is_written_whole_and_reads_back(tmp_path: Path, disk: Disk) -> None:
    clock = LoopClock()
    info = CallInfo("call-7", "1000", "+4930123456", peer="192.0.2.1:5060")
    recorder = CallRecorder(info, RecordSettings(directory=tmp_path), disk, FileCdrStore(tmp_path, disk), clock)
    recorder.flavor = "desk"
    async with FakeAudioPort(clock) as port:
        recorder.start(port)
        recorder.turn(record())
        await clock.sleep(0.1)
        written = await recorder.finish(
            Ending(Disposition.ANSWERED, Party.CALLER, "hung up"), MediaStatistics(received=5)
        )
    text = await disk.run((tmp_path / written.files.cdr).read_text)
    assert CallRecord.model_validate_json(text) == written
    plain = json.loads(text)
    assert plain["version"] == 1
    assert plain["call_id"] == "call-7"
    assert plain["disposition"] == "answered"
    assert plain["ended_by"] == "caller"
    assert plain["timing"] == "wire"
    assert plain["media"]["received"] == 5
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", plain["answered"])
    for name in (written.files.recording, written.files.transcript, written.files.cdr):
        assert name is not None
        mode = (await disk.run((tmp_path / name).stat)).st_mode
        assert not mode & stat.S_IRWXO, "recordings, words and numbers are nobody else's business"


async def test_a_record_tells_what_each_turn_took_and_sums_it_up(tmp_path: Path, disk: Disk) -> None:
    clock = LoopClock()
    settings = RecordSettings(directory=tmp_path, audio=False, transcript=False)
    recorder = CallRecorder(CallInfo("call-7", "1000", "200"), settings, disk, FakeCdrStore(), clock)
    async with FakeAudioPort(clock) as port:
        recorder.start(port)
        began = clock.now()
        stt = ServiceUse(
            EngineKind.STT, "whisper", None, ServiceOutcome.WASTED, began + 1.0, began + 1.25, began + 1.25,
            characters_out=12, audio_in=1.40004,
        )  # fmt: skip
        llm = ServiceUse(EngineKind.LLM, "vllm", 2, ServiceOutcome.CANCELLED, began + 1.3, None, began + 1.5)
        recorder.turn(record())
        recorder.turn(record(heard="hours", interrupted=True, services=(stt, llm), speculations=1, wasted=2))
        written = await recorder.finish(Ending(Disposition.ANSWERED, Party.CALLER, "hung up"), None)
    assert CallRecord.model_validate_json(written.json_line()) == written
    plain = json.loads(written.json_line())
    turn = plain["turns"][1]
    assert (turn["speculations"], turn["wasted"]) == (1, 2)
    assert turn["services"][0] == {
        "kind": "stt",
        "engine": "whisper",
        "generation": None,
        "outcome": "wasted",
        "at": 1.0,
        "first_ms": 250,
        "total_ms": 250,
        "characters_in": 0,
        "characters_out": 12,
        "tokens_in": 0,
        "tokens_out": 0,
        "audio_in": 1.4,
        "audio_out": 0.0,
        "rung": None,
        "error": "",
    }
    assert (turn["services"][1]["first_ms"], turn["services"][1]["total_ms"]) == (None, 200)
    assert plain["summary"] == {
        "turns": 1,
        "interruptions": 1,
        "silence_p50_ms": None,
        "silence_p95_ms": None,
        "requests": 2,
        "speculations": 1,
        "wasted": 2,
        "failovers": 0,
    }


async def test_a_record_names_the_engine_that_failed_and_the_one_that_took_over(tmp_path: Path, disk: Disk) -> None:
    clock = LoopClock()
    settings = RecordSettings(directory=tmp_path, audio=False, transcript=False)
    recorder = CallRecorder(CallInfo("call-7", "1000", "200"), settings, disk, FakeCdrStore(), clock)
    async with FakeAudioPort(clock) as port:
        recorder.start(port)
        first, second = (
            ServiceUse(EngineKind.TTS, engine, 1, outcome, 1.0, 1.1, 2.0, rung=rung, error=error)
            for rung, engine, outcome, error in (
                (1, "openai-speech", ServiceOutcome.FAILED, "connection refused"),
                (2, "espeak-ng", ServiceOutcome.USED, ""),
            )
        )
        alone = ServiceUse(EngineKind.LLM, "vllm", 1, ServiceOutcome.FAILED, 1.0, 1.1, 2.0, error="the only one")
        recorder.turn(record())
        recorder.turn(record(heard="hours", services=(alone, first, second)))
        written = await recorder.finish(Ending(Disposition.ANSWERED, Party.CALLER, "hung up"), None)
    assert written.errors == ["turn 1: tts 1, openai-speech: connection refused"]
    assert written.summary.failovers == 1
    plain = json.loads(written.json_line())["turns"][1]["services"]
    assert [(one["rung"], one["engine"], one["outcome"], one["error"]) for one in plain] == [
        (None, "vllm", "failed", "the only one"),
        (1, "openai-speech", "failed", "connection refused"),
        (2, "espeak-ng", "used", ""),
    ]


async def test_the_transcript_grows_turn_by_turn(tmp_path: Path, disk: Disk) -> None:
    """What was said is there even if the process dies before the call ends."""
    clock = LoopClock()
    settings = RecordSettings(directory=tmp_path, audio=False)
    recorder = CallRecorder(CallInfo("call-7", "1000", "200"), settings, disk, FakeCdrStore(), clock)
    async with FakeAudioPort(clock) as port:
        recorder.start(port)
        recorder.turn(record(reply="Grüß Gott!", spoken="Grüß Gott!"))
        recorder.turn(
            record(heard="hours", reply="From nine to five.", spoken="From nine", interrupted=True, intent="h")
        )
        (path,) = await disk.run(lambda: list(tmp_path.glob("*/*.transcript.jsonl")))
        lines = [json.loads(line) for line in (await disk.run(path.read_text)).splitlines()]
        await recorder.finish(Ending(Disposition.ANSWERED, Party.CALLER, ""), None)
    assert [(line["turn"], line["who"], line["text"]) for line in lines] == [
        (0, "agent", "Grüß Gott!"),
        (1, "caller", "hours"),
        (1, "agent", "From nine to five."),
    ]
    assert lines[2]["spoken"] == "From nine"
    assert lines[2]["interrupted"] is True
    assert lines[2]["intent"] == "h"


async def test_turns_count_from_one_without_a_greeting(disk: Disk, tmp_path: Path) -> None:
    settings = RecordSettings(directory=tmp_path, audio=False, transcript=False)
    recorder = CallRecorder(CallInfo("call-7", "1000", "200"), settings, disk, FakeCdrStore(), LoopClock())
    assert [recorder.turn(record(heard="hello")).number, recorder.turn(record()).number] == [1, 2]


async def test_an_error_of_a_turn_is_an_error_of_the_call(disk: Disk, tmp_path: Path) -> None:
    settings = RecordSettings(directory=tmp_path, audio=False, transcript=False)
    store = FakeCdrStore()
    recorder = CallRecorder(CallInfo("call-7", "1000", "200"), settings, disk, store, LoopClock())
    recorder.turn(record(error="vllm: connection refused"))
    await recorder.finish(Ending(Disposition.FAILED, Party.SYSTEM, ""), None)
    assert store.records[0].errors == ["vllm: connection refused"]


async def test_a_record_is_never_half_there(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "folder" / "a.cdr.json"
    await disk.run(partial(path.mkdir, parents=True))
    with pytest.raises(OSError, match="directory"):
        await disk.run(partial(write_atomically, path, "text"))
    assert await disk.run(lambda: list(path.parent.iterdir())) == [path]


async def test_bytes_that_are_no_text_do_not_cost_the_record(tmp_path: Path, disk: Disk) -> None:
    """SIP headers may hold any byte; they come as surrogates (PEP 383)."""
    info = CallInfo("call-\udcff", "10\udc80", "\udcfe", peer="192.0.2.1:5060")
    settings = RecordSettings(directory=tmp_path, audio=False, transcript=False)
    recorder = CallRecorder(info, settings, disk, FileCdrStore(tmp_path, disk), LoopClock())
    written = await recorder.finish(Ending(Disposition.REJECTED, Party.SYSTEM, "no \udcff", 404), None)
    assert written.called == "10\\udc80"
    text = await disk.run((tmp_path / written.files.cdr).read_text)
    assert CallRecord.model_validate_json(text) == written


@pytest.mark.parametrize(("redacts", "note"), [(False, "Signal=5"), (True, "Signal=*")])
async def test_the_ladder_begins_with_the_invite(disk: Disk, tmp_path: Path, redacts: bool, note: str) -> None:
    """The call came in when its INVITE did, not when its media was open."""
    clock = LoopClock()
    invited = clock.now() - 0.25
    steps = [SignallingStep(invited, False, "INVITE"), SignallingStep(invited + 0.1, False, "INFO", "Signal=5")]
    settings = RecordSettings(directory=tmp_path, audio=False, transcript=False, redact_numbers=redacts)
    info = CallInfo("call-7", "1000", "200")
    recorder = CallRecorder(info, settings, disk, FakeCdrStore(), clock, signalling=lambda: steps)
    written = await recorder.finish(Ending(Disposition.REJECTED, Party.SYSTEM, "", 404), None)
    assert [(step.at, step.message, step.note) for step in written.signalling] == [
        (0.0, "INVITE", ""),
        (0.1, "INFO", note),
    ]
    assert written.setup_seconds == pytest.approx(0.25, abs=0.05)


async def test_a_store_without_a_folder_says_so(tmp_path: Path, disk: Disk) -> None:
    await disk.run(partial((tmp_path / "records").write_text, "not a folder"))
    directory = tmp_path / "records"
    settings = RecordSettings(directory=directory, audio=False, transcript=False)
    recorder = CallRecorder(CallInfo("call-7", "1", "2"), settings, disk, FileCdrStore(directory, disk), LoopClock())
    written = await recorder.finish(Ending(Disposition.FAILED, Party.SYSTEM, ""), None)
    assert len(written.errors) == 1
    assert written.errors[0].startswith(f"{RecordError.__name__}: {directory}")
