"""Reading records: newest first, no further than asked for, whatever lies in the folder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from connector.interfaces import Party, TimingSource
from connector.record import Archive, CallFiles, CallRecord, Disposition, Files

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def a_record(call_id: str, setup: datetime) -> CallRecord:
    return CallRecord(
        call_id=call_id,
        called="1000",
        calling="alice",
        peer="192.0.2.1:5060",
        flavor="desk",
        route="number 1000",
        disposition=Disposition.ANSWERED,
        ended_by=Party.CALLER,
        reason="hung up",
        status=None,
        setup=setup,
        answered=setup,
        ended=setup + timedelta(seconds=10),
        setup_seconds=0.0,
        duration_seconds=10.0,
        timing=TimingSource.WIRE,
        media=None,
        turns=[],
        errors=[],
        files=Files(cdr=CallFiles.of(setup.timestamp(), call_id).cdr),
    )


def keep(folder: Path, call_id: str, hours_ago: float = 0) -> Path:
    record = a_record(call_id, NOON - timedelta(hours=hours_ago))
    path = folder / record.files.cdr
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json())
    return path


def test_the_newest_come_first_and_the_rest_is_not_read(tmp_path: Path) -> None:
    for hours in (30, 1, 50, 0, 25):
        keep(tmp_path, f"call-{hours}", hours)
    keep(tmp_path, "old", 80).write_text("nobody reads this")
    found = Archive(tmp_path).newest(4)
    assert [record.call_id for record in found.records] == ["call-0", "call-1", "call-25", "call-30"]
    assert not found.broken


@pytest.mark.parametrize(("hours", "count"), [(0.5, 1), (2, 2), (26, 3), (100, 5)])
def test_older_ones_than_asked_for_are_left_out(tmp_path: Path, hours: float, count: int) -> None:
    for ago in (30, 1, 50, 0, 25):
        keep(tmp_path, f"call-{ago}", ago)
    assert len(Archive(tmp_path).newest(50, NOON - timedelta(hours=hours)).records) == count


def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    keep(tmp_path, "call-1", 1)
    half, other, gone = keep(tmp_path, "half"), keep(tmp_path, "other", 0.5), keep(tmp_path, "gone", 0.6)
    half.write_text('{"version": 1')
    other.write_text('{"version": 2}')
    gone.unlink()
    gone.symlink_to("nowhere")
    (tmp_path / ".running").mkdir()
    (tmp_path / "2026-11-20" / "notes.txt").write_text("not a record")
    found = Archive(tmp_path).newest(50)
    assert [record.call_id for record in found.records] == ["call-1"]
    assert [broken.path for broken in found.broken] == [str(path.relative_to(tmp_path)) for path in (half, other, gone)]
    assert "version" in found.broken[1].reason
    assert found.broken[2].reason == "No such file or directory"


def test_a_folder_that_is_not_there_has_no_records(tmp_path: Path) -> None:
    assert not Archive(tmp_path / "records").newest(5).records


@pytest.mark.parametrize(
    "call_id", ["a84b4c@192.0.2.1", "../../etc/passwd", "x" * 100, "dotted.", "a b%/?#ü", "\\udcff"]
)
def test_a_call_is_found_by_its_id_and_by_the_beginning_of_it(tmp_path: Path, call_id: str) -> None:
    for hours in range(3):
        keep(tmp_path, f"other-{hours}", hours)
    keep(tmp_path, call_id, 40)
    archive = Archive(tmp_path)
    found = archive.named(call_id)
    assert found is not None
    assert found.call_id == call_id
    assert archive.named(call_id[:-1]) is None
    assert [record.call_id for record in archive.beginning(call_id[:5], 5).records] == [call_id]


def test_of_two_calls_with_one_id_the_newest_is_meant(tmp_path: Path) -> None:
    keep(tmp_path, "call-1", 30)
    keep(tmp_path, "call-1", 1)
    found = Archive(tmp_path).named("call-1")
    assert found is not None
    assert found.setup == NOON - timedelta(hours=1)


def test_records_of_before_there_was_a_ladder_are_read(tmp_path: Path) -> None:
    path = keep(tmp_path, "call-1")
    record = a_record("call-1", NOON)
    path.write_text(record.model_dump_json(exclude={"signalling"}))
    assert Archive(tmp_path).newest(1).records == [record]
