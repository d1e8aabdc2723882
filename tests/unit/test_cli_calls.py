"""`voxtrunk calls` on records, without a connector; the connector's address."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from connector.cli.calls import app, connector_of, media
from connector.cli.remote import Remote
from connector.config import load
from connector.errors import UnknownCall
from connector.record import Latency, Parts, Step, Turn
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
    latency=Latency(silence_ms=900, parts_ms=Parts(end_of_turn=700, stt=94, llm=1, tts=69, playout=36)),
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
                "media": {"received": 10, "lost": 1, "sent": 9},
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
        "900 ms",
        "700 ms",
        "10 packets received: 1 lost",
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


def test_counters_become_words() -> None:
    told = {
        "received": 1485,
        "lost": 2,
        "late": 1,
        "duplicate": 0,
        "discarded": 3,
        "strangers": 4,
        "malformed": 0,
        "sent": 1480,
        "unsent": 0,
        "frames": 1485,
        "concealed": 3,
        "jitter": 0.00043,
        "input_delay": 0.0274,
        "round_trip": None,
        "remote_loss": 0.015,
    }
    assert list(media(told)) == [
        "1485 packets received: 2 lost, 1 late, 0 duplicate, 3 discarded",
        "3 of 1485 frames made up in place of lost ones (0.2 %)",
        "1480 packets sent: 1.5 % of late missed by the far end",
        "jitter 0.4 ms, from packet to frame 27.4 ms",
        "4 packets from elsewhere than the caller",
    ]
    assert not list(media({}))
