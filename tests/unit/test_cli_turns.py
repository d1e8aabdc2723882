"""The tables at the end of a call: what was waited for, and what it took."""

from __future__ import annotations

import pytest

from connector.cli.turns import latency_rows, print_turns, service_rows
from connector.interfaces import EngineKind, ServiceOutcome
from connector.record import Latency, Parts, Service, Turn


def turn(number: int, silence: int | None, parts: Parts, decided: int | None = None) -> Turn:
    return Turn(
        number=number, heard="hours\x1b[2J", reply="From nine.", spoken="From nine.", interrupted=False, intent=None,
        caller_start=None, caller_end=None, agent_start=None, agent_end=None,
        latency=Latency(silence_ms=silence, decided_ms=decided, parts_ms=parts),
    )  # fmt: skip


GREETING = turn(0, None, Parts(tts=60, playout=20))
FIRST = turn(1, 540, Parts(end_of_turn=80, stt=40, llm=130, sentence=50, tts=120, held=80, playout=40), 500)
SECOND = turn(2, 640, Parts(end_of_turn=80, stt=40, llm=310, sentence=50, tts=120, held=0, playout=40), 300)


def test_the_parts_of_a_row_add_up_to_its_silence() -> None:
    for row in latency_rows([FIRST, SECOND])[:2]:
        _, silence, _, *parts = row
        assert sum(map(int, parts)) == int(silence)


def test_percentiles_are_of_the_turns_that_answered_speech() -> None:
    rows = latency_rows([GREETING, FIRST, SECOND])
    assert [row[0] for row in rows] == ["0", "1", "2", "p50", "p95"]
    assert rows[0] == ("0", "", "", "", "", "", "", "60", "", "20")
    assert rows[3] == ("p50", "590", "400", "80", "40", "220", "50", "120", "40", "40")
    assert rows[4][:3] == ("p95", "635", "490")


def test_a_call_without_answers_has_no_percentiles() -> None:
    assert [row[0] for row in latency_rows([GREETING])] == ["0"]
    assert latency_rows([turn(1, None, Parts())]) == []


def service(kind: EngineKind, outcome: ServiceOutcome, first: int | None, **amounts: float) -> Service:
    values = {"engine": f"some-{kind.value}", "generation": 1, "at": 0.0, "total_ms": 400, **amounts}
    return Service(kind=kind, outcome=outcome, first_ms=first, **values)  # type: ignore[arg-type]


def test_each_engine_has_a_row_of_what_it_was_asked_and_what_became_of_it() -> None:
    rows = service_rows(
        [
            service(EngineKind.TTS, ServiceOutcome.USED, 90, characters_in=1200300, audio_out=2.04),
            service(EngineKind.LLM, ServiceOutcome.WASTED, 100, tokens_in=50, tokens_out=9),
            service(EngineKind.LLM, ServiceOutcome.USED, 200, tokens_in=50, tokens_out=12),
            service(EngineKind.LLM, ServiceOutcome.CANCELLED, None),
        ]
    )
    assert rows == [
        ("llm", "some-llm", "3", "1", "1", "1", "", "150 / 195", "400 / 400", "", "100 in, 21 out", ""),
        ("tts", "some-tts", "1", "1", "", "", "", "90 / 90", "400 / 400", "1200300 in", "", "2.0 s out"),
    ]


def test_engines_that_succeed_one_another_have_a_row_each_in_their_order() -> None:
    rows = service_rows(
        [
            service(EngineKind.TTS, ServiceOutcome.FAILED, 90, rung=1),
            service(EngineKind.TTS, ServiceOutcome.USED, 90, rung=2),
            service(EngineKind.TTS, ServiceOutcome.USED, 90, rung=1),
        ]
    )
    assert [(row[1], row[2]) for row in rows] == [("1. some-tts", "2"), ("2. some-tts", "1")]


def test_all_of_it_is_printed_and_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    asked = [service(EngineKind.STT, ServiceOutcome.USED, 40, audio_in=1.5)]
    print_turns([GREETING, FIRST.model_copy(update={"services": asked}), SECOND])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    for part in ("From nine.", "decided after", "held", "p95", "some-stt", "1.5 s in"):
        assert part in printed


def test_a_call_without_turns_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_turns([])
    assert capsys.readouterr().out == ""
