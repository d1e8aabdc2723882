"""`voxtrunk calls` on records, without a connector; the connector's address."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from connector.cli.calls import app, connector_of, media_rows, oddities
from connector.cli.remote import Remote
from connector.config import load
from connector.errors import UnknownCall
from connector.interfaces import EngineKind, ServiceOutcome
from connector.record import Latency, MediaStatistics, Parts, Service, Step, Turn
from tests.unit.test_archive import NOON, a_record, keep

TURN = Turn(
    number=1,
    heard="when do you open",
    reply="From nine to five.",
    spoken="From nine",
    interrupted=True,
    intent=None,
    caller_start=1.0,
    caller_end=2.0,
    agent_start=2.9,
    agent_end=4.0,
    latency=Latency(silence_ms=900, decided_ms=700, parts_ms=Parts(end_of_turn=700, stt=94, llm=1, tts=69, playout=36)),
    services=[
        Service(
            kind=EngineKind.LLM,
            engine="vllm",
            generation=1,
            outcome=ServiceOutcome.USED,
            at=1.0,
            first_ms=1,
            total_ms=9,
        )
    ],
)


class Place:
    """A folder with a configuration whose connector does not run, and records."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "voxtrunk.yml"
        self.file.write_text("http: {listen: '127.0.0.1:1'}\ndefault: echo\n")
        self.records = folder / "records"

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "-c", str(self.file)])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_call_is_shown_with_all_that_is_known(place: Place) -> None:
    keep(place.records, "call-1@test").write_text(
        a_record("call-1@test", NOON)
        .model_copy(
            update={
                "turns": [TURN],
                "errors": ["vllm: \x1b[2Jconnection refused"],
                "media": MediaStatistics(received=10, lost=1, sent=9, mos=4.2, strangers=2),
                "signalling": [Step(at=0, sent=False, message="INVITE", note="PCMU sendrecv 192.0.2.1:41000")],
            }
        )
        .model_dump_json()
    )
    shown = place.run("show", "call-1")
    assert shown.exit_code == 0
    for part in (
        "call-1@test",
        "desk (number 1000)",
        "answered, by caller: hung up",
        "when do you open",
        "From nine (interrupted)",
        "turn  silence  decided after  end of turn  stt",
        "1     900      700            700",
        "p95   900      700            700",
        "llm  vllm",
        "good (4.20)",
        "2 packets from elsewhere",
        "ITU-T G.107",
        "vllm: \\x1b[2Jconnection refused",
        "─ INVITE ─",
        "PCMU sendrecv 192.0.2.1:41000",
    ):
        assert part in shown.output
    assert "\x1b" not in shown.output  # neither colours into a pipe, nor what a caller sent


def test_the_beginning_of_several_call_ids_names_them(place: Place) -> None:
    for name in ("call-1", "call-2", "other"):
        keep(place.records, name)
    result = place.run("show", "call")
    assert isinstance(result.exception, UnknownCall)
    assert "several Call-IDs:\n  call-2\n  call-1" in str(result.exception)
    assert place.run("show", "o").exit_code == 0


def test_records_that_cannot_be_read_are_named_beside_the_list(place: Place) -> None:
    keep(place.records, "call-1", 1)
    keep(place.records, "broken").write_text("{")
    listed = place.run("list", "--ended")
    assert listed.exit_code == 0
    assert "call-1" in listed.stdout
    assert "broken.cdr.json cannot be read" in listed.output
    told = json.loads(place.run("list", "--ended", "--json").stdout)
    assert [record["call_id"] for record in told["records"]] == ["call-1"]
    assert "broken" in told["broken"][0]["path"]


def test_no_more_are_listed_than_asked_for(place: Place) -> None:
    for hours in range(5):
        keep(place.records, f"call-{hours}", hours)
    told = json.loads(place.run("list", "--ended", "--limit", "2", "--json").stdout)
    assert [record["call_id"] for record in told["records"]] == ["call-0", "call-1"]


def addresses(folder: Path, text: str, pairs: Sequence[str | None]) -> list[str]:
    (folder / "voxtrunk.yml").write_text(text)
    settings = load(folder / "voxtrunk.yml")
    return [connector_of(settings, pair).address for pair in pairs]


def test_the_connector_is_asked_where_it_listens(tmp_path: Path) -> None:
    assert addresses(tmp_path, "http: {listen: '127.0.0.1:8081'}\ndefault: echo\n", [None]) == ["127.0.0.1:8081"]
    one = "{name: a, http: '127.0.0.1:8081'}"
    ports = "listen: '127.0.0.1:5071', mi: '127.0.0.1:8071', events: '127.0.0.1:9071', ports: 26000-26999"
    other = f"{{name: b, http: '127.0.0.1:8082', {ports}}}"
    pairs = f"opensips: {{pairs: [{one}, {other}]}}\ndefault: echo\n"
    assert addresses(tmp_path, pairs, [None, "a", "b"]) == ["127.0.0.1:8081", "127.0.0.1:8081", "127.0.0.1:8082"]
    with pytest.raises(typer.BadParameter, match="known are a, b"):
        addresses(tmp_path, pairs, ["c"])


@pytest.mark.parametrize(
    ("listen", "asked"),
    [("0.0.0.0:8080", "127.0.0.1:8080"), ("[::]:8080", "[::1]:8080"), ("192.0.2.1:8080", "192.0.2.1:8080")],
)
def test_who_listens_everywhere_is_asked_on_loopback(listen: str, asked: str) -> None:
    assert Remote(listen, None).address == asked


def test_the_media_is_told_for_both_directions() -> None:
    told = MediaStatistics(
        codecs=["PCMU", "G722"],
        received=1485,
        lost=15,
        late=1,
        discarded=3,
        missed=19,
        bursts=7,
        adjusted=1,
        streams=2,
        strangers=4,
        malformed=1,
        sent=1480,
        frames=1485,
        concealed=3,
        loss=0.01,
        jitter=0.00043,
        jitter_mean=0.0012,
        jitter_max=0.0101,
        input_delay=0.0274,
        round_trip=0.02,
        round_trip_mean=0.02,
        round_trip_max=0.02,
        mos=4.3912,
        mos_worst=3.7,
        remote_lost=7,
        remote_loss=0.015,
        remote_jitter=0.002,
        remote_mos=4.02,
        remote_mos_worst=2.5,
    )
    assert list(media_rows(told)) == [
        ("quality", "good (4.39)", "good (4.02)"),
        ("worst 10 s", "fair (3.70)", "poor (2.50)"),
        ("codec", "PCMU, G722", ""),
        ("packets", "1485", "1480"),
        ("lost", "15 of 1500 (1.0 %)", "7 of 1480 (0.5 %)"),
        ("late", "1", ""),
        ("discarded", "3", ""),
        ("missed", "19 in 7 gaps", ""),
        ("made up", "3 of 1485 (0.2 %) frames", ""),
        ("adjusted", "1 time", ""),
        ("jitter", "1.2 ms, at most 10.1 ms", "2.0 ms"),
        ("buffer delay", "27.4 ms", ""),
        ("round trip", "20.0 ms", ""),
    ]
    assert list(oddities(told)) == [
        "4 packets from elsewhere than the caller",
        "1 packet of neither RTP nor RTCP",
        "the caller's stream began anew 1 time (SSRC)",
    ]


def test_nothing_is_told_of_what_nobody_measured() -> None:
    assert list(media_rows(MediaStatistics(received=10, lost=1, sent=9))) == [
        ("packets", "10", "9"),
        ("lost", "1 of 11 (9.1 %)", ""),
    ]


def test_the_list_has_the_quality_of_both_directions(place: Place) -> None:
    for name, media in (
        ("both", MediaStatistics(mos=4.41, remote_mos=3.96)),
        ("ours", MediaStatistics(mos=2.04)),
        ("none", None),
    ):
        record = a_record(name, NOON).model_copy(update={"media": media})
        keep(place.records, name).write_text(record.model_dump_json())
    lines = {line.split()[-1]: line for line in place.run("list", "--ended").output.splitlines()}
    assert "4.4 / 4.0" in lines["both"]
    assert "2.0 / -" in lines["ours"]
    assert " / " not in lines["none"]


def test_a_record_of_an_earlier_version_is_shown(place: Place) -> None:
    """Its media has the counters of then."""
    earlier = json.loads(a_record("call-1", NOON).model_dump_json())
    earlier["media"] = {
        "received": 1485, "lost": 0, "late": 0, "duplicate": 0, "discarded": 1, "strangers": 0, "malformed": 0,
        "unknown_payload_type": 0, "sent": 1485, "unsent": 0, "frames": 1485, "concealed": 2, "jitter": 0.00043,
        "input_delay": 0.0274, "round_trip": 0.00037, "remote_loss": 0.0,
    }  # fmt: skip
    keep(place.records, "call-1").write_text(json.dumps(earlier))
    shown = place.run("show", "call-1")
    assert "0.4 ms" in shown.output
    assert "27.4 ms" in shown.output
    assert "MOS" not in shown.output
