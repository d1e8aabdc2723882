"""What Prometheus sees of calls and engines."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from connector.api import Metrics
from connector.call.engines import EngineStatus
from connector.interfaces import CallInfo, EngineKind, Party, TimingSource
from connector.record import CallRecord, Disposition, Files, Latency, Parts, Turn

INFO = CallInfo("call-1", "1000", "200")


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.page().decode())
        for sample in family.samples
    }


def turn(silence: int | None, parts: Parts, error: str | None = None) -> Turn:
    return Turn(
        number=1,
        heard="hello",
        reply="hello",
        spoken="hello",
        interrupted=False,
        intent=None,
        caller_start=None,
        caller_end=None,
        agent_start=None,
        agent_end=None,
        latency=Latency(silence_ms=silence, parts_ms=parts),
        error=error,
    )


def ended(disposition: Disposition, status: int | None) -> CallRecord:
    now = datetime.now(UTC)
    return CallRecord(
        call_id="call-1",
        called="1000",
        calling="200",
        peer="",
        flavor="desk" if status is None else None,
        route=None,
        disposition=disposition,
        ended_by=Party.CALLER,
        reason="",
        status=status,
        setup=now,
        answered=None,
        ended=now,
        setup_seconds=0,
        duration_seconds=0,
        timing=TimingSource.WIRE,
        media={"received": 500, "lost": 3, "jitter": 0.004, "round_trip": None},
        turns=[],
        errors=[],
        files=Files(cdr="a.json"),
    )


def test_calls_and_turns_are_counted() -> None:
    metrics = Metrics(list, dict)
    for _ in range(2):
        metrics.began(INFO)
    metrics.answered(INFO, "desk")
    metrics.turn(INFO, turn(900, Parts(end_of_turn=600, stt=100, llm=100, tts=80, playout=20)))
    metrics.turn(INFO, turn(None, Parts(), error="vllm: refused"))
    metrics.ended(INFO, ended(Disposition.ANSWERED, None))
    metrics.ended(INFO, ended(Disposition.REJECTED, 404))
    seen = samples(metrics)
    assert seen["voxtrunk_calls_active", ()] == 0
    answered = (("disposition", "answered"), ("flavor", "desk"), ("status", "200"))
    rejected = (("disposition", "rejected"), ("flavor", "none"), ("status", "404"))
    assert seen["voxtrunk_calls_total", answered] == 1
    assert seen["voxtrunk_calls_total", rejected] == 1
    assert seen["voxtrunk_turns_total", (("flavor", "desk"), ("interrupted", "false"))] == 2
    assert seen["voxtrunk_turn_errors_total", (("flavor", "desk"),)] == 1
    for part, seconds in {"silence": 0.9, "end_of_turn": 0.6, "stt": 0.1, "playout": 0.02}.items():
        assert seen["voxtrunk_turn_seconds_sum", (("flavor", "desk"), ("part", part))] == seconds
    assert seen["voxtrunk_media_total", (("counter", "lost"),)] == 6
    assert not [name for name, labels in seen if ("counter", "jitter") in labels]


def test_an_engine_used_with_several_options_is_ready_when_all_are() -> None:
    statuses = [
        EngineStatus("flite", EngineKind.TTS, True, "", 1),
        EngineStatus("flite", EngineKind.TTS, False, "flite: not installed", 2),
        EngineStatus("silero", EngineKind.VAD, True, "", 0),
    ]
    seen = samples(Metrics(lambda: statuses, dict))
    assert seen["voxtrunk_engine_ready", (("engine", "flite"), ("kind", "tts"))] == 0
    assert seen["voxtrunk_engine_ready", (("engine", "silero"), ("kind", "vad"))] == 1
    assert seen["voxtrunk_engine_failures_total", (("engine", "flite"), ("kind", "tts"))] == 3


def test_a_flavor_that_cannot_answer_is_not_ready() -> None:
    seen = samples(Metrics(list, lambda: {"echo": "", "shop": "vllm: refused"}))
    assert seen["voxtrunk_flavor_ready", (("flavor", "echo"),)] == 1
    assert seen["voxtrunk_flavor_ready", (("flavor", "shop"),)] == 0


def test_calls_refused_at_the_door_are_counted_by_status() -> None:
    metrics = Metrics(list, dict)
    for status in (403, 403, 503):
        metrics.refused(status)
    seen = samples(metrics)
    assert seen["voxtrunk_calls_refused_total", (("status", "403"),)] == 2
    assert seen["voxtrunk_calls_refused_total", (("status", "503"),)] == 1


def test_late_ticks_show_a_saturated_event_loop() -> None:
    metrics = Metrics(list, dict)
    metrics.ticked(0.0003)
    metrics.ticked(0.05)
    seen = samples(metrics)
    assert seen["voxtrunk_tick_lateness_seconds_bucket", (("le", "0.03"),)] == 1
    assert seen["voxtrunk_tick_lateness_seconds_count", ()] == 2
