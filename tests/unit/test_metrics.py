"""What Prometheus sees of calls and engines."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client.parser import text_string_to_metric_families

from connector.api import Metrics
from connector.call.engines import EngineStatus, RungStatus
from connector.interfaces import CallInfo, EngineKind, Party, ServiceOutcome, ServiceUse, TimingSource
from connector.pipeline.circuit import CircuitState
from connector.record import CallRecord, Disposition, Files, Latency, MediaStatistics, Parts, Service, Turn

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


def ended(disposition: Disposition, status: int | None, media: MediaStatistics | None = None) -> CallRecord:
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
        answered=now if disposition is Disposition.ANSWERED else None,
        ended=now,
        setup_seconds=0,
        duration_seconds=0,
        timing=TimingSource.WIRE,
        media=media,
        turns=[],
        errors=[],
        files=Files(cdr="a.json"),
    )


def test_calls_and_turns_are_counted() -> None:
    metrics = Metrics(list, dict, list, int)
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


def test_an_engine_used_with_several_options_is_ready_when_all_are() -> None:
    statuses = [
        EngineStatus("flite", EngineKind.TTS, True, "", 1),
        EngineStatus("flite", EngineKind.TTS, False, "flite: not installed", 2),
        EngineStatus("silero", EngineKind.VAD, True, "", 0),
    ]
    seen = samples(Metrics(lambda: statuses, dict, list, int))
    assert seen["voxtrunk_engine_ready", (("engine", "flite"), ("kind", "tts"))] == 0
    assert seen["voxtrunk_engine_ready", (("engine", "silero"), ("kind", "vad"))] == 1
    assert seen["voxtrunk_engine_failures_total", (("engine", "flite"), ("kind", "tts"))] == 3


def test_batches_that_engines_failed_to_answer_are_counted() -> None:
    failed = {("silero", EngineKind.VAD): 0, ("webrtc-apm", EngineKind.AUDIO): 2}
    seen = samples(Metrics(list, dict, list, int, failed_batches=lambda: failed))
    assert seen["voxtrunk_engine_failed_batches_total", (("engine", "silero"), ("kind", "vad"))] == 0
    assert seen["voxtrunk_engine_failed_batches_total", (("engine", "webrtc-apm"), ("kind", "audio"))] == 2


def test_requests_to_an_engine_are_counted_by_what_became_of_them() -> None:
    metrics = Metrics(list, dict, list, int)
    heard = ServiceUse(
        EngineKind.LLM, "vllm", 2, ServiceOutcome.USED, 10.0, 10.25, 11.0, characters_in=900, characters_out=60,
        tokens_in=200, tokens_out=15,
    )  # fmt: skip
    dropped = ServiceUse(EngineKind.LLM, "vllm", 1, ServiceOutcome.CANCELLED, 9.5, None, 10.0, characters_in=900)
    spoken = ServiceUse(EngineKind.TTS, "flite", 2, ServiceOutcome.USED, 10.5, 10.6, 11.0, audio_out=3.5)
    for use in (heard, dropped, spoken):
        metrics.service(use)
    seen = samples(metrics)
    llm, tts = (("engine", "vllm"), ("kind", "llm")), (("engine", "flite"), ("kind", "tts"))
    assert seen["voxtrunk_engine_requests_total", (*llm, ("outcome", "used"))] == 1
    assert seen["voxtrunk_engine_requests_total", (*llm, ("outcome", "cancelled"))] == 1
    assert seen["voxtrunk_engine_first_seconds_sum", llm] == 0.25
    assert seen["voxtrunk_engine_first_seconds_count", llm] == 1, "nothing came of the one that was dropped"
    assert seen["voxtrunk_engine_request_seconds_sum", llm] == 1.5
    assert seen["voxtrunk_engine_characters_total", (("direction", "in"), *llm)] == 1800
    assert seen["voxtrunk_engine_tokens_total", (("direction", "out"), *llm)] == 15
    assert seen["voxtrunk_engine_audio_seconds_total", (("direction", "out"), *tts)] == 3.5


def test_answers_begun_early_are_counted() -> None:
    metrics = Metrics(list, dict, list, int)
    metrics.answered(INFO, "desk")
    metrics.turn(INFO, turn(500, Parts()).model_copy(update={"speculations": 2}))
    assert samples(metrics)["voxtrunk_turn_speculations_total", (("flavor", "desk"),)] == 2


def test_requests_that_run_are_those_of_all_engines_of_the_name() -> None:
    statuses = [EngineStatus("vllm", EngineKind.LLM, True, "", 0, in_flight=number) for number in (3, 4)]
    seen = samples(Metrics(lambda: statuses, dict, list, int))
    assert seen["voxtrunk_engine_requests_in_flight", (("engine", "vllm"), ("kind", "llm"))] == 7


def test_a_flavor_that_cannot_answer_is_not_ready() -> None:
    seen = samples(Metrics(list, lambda: {"echo": "", "shop": "vllm: refused"}, list, int))
    assert seen["voxtrunk_flavor_ready", (("flavor", "echo"),)] == 1
    assert seen["voxtrunk_flavor_ready", (("flavor", "shop"),)] == 0


def test_calls_refused_at_the_door_are_counted_by_status() -> None:
    metrics = Metrics(list, dict, list, int)
    for status in (403, 403, 503):
        metrics.refused(status)
    seen = samples(metrics)
    assert seen["voxtrunk_calls_refused_total", (("status", "403"),)] == 2
    assert seen["voxtrunk_calls_refused_total", (("status", "503"),)] == 1


def test_late_ticks_show_a_saturated_event_loop() -> None:
    metrics = Metrics(list, dict, list, int)
    metrics.ticked(0.0003)
    metrics.ticked(0.05)
    seen = samples(metrics)
    assert seen["voxtrunk_tick_lateness_seconds_bucket", (("le", "0.03"),)] == 1
    assert seen["voxtrunk_tick_lateness_seconds_count", ()] == 2


def test_packets_are_counted_while_calls_go_on_and_never_fall() -> None:
    running = [{"received": 100, "lost": 5, "frames": 100, "concealed": 4}, {"received": 50}]
    metrics = Metrics(list, dict, lambda: running, lambda: 3)
    seen = samples(metrics)
    assert seen["voxtrunk_rtp_received_packets_total", ()] == 150
    assert seen["voxtrunk_audio_concealed_frames_total", ()] == 4
    assert seen["voxtrunk_ticks_skipped_total", ()] == 3
    over = MediaStatistics.model_validate(running.pop(0) | {"received": 120, "lost": 2})  # what was lost came late
    assert samples(metrics)["voxtrunk_rtp_received_packets_total", ()] == 150, "its record is not written yet"
    metrics.began(INFO)
    metrics.ended(INFO, ended(Disposition.ANSWERED, None, over))
    seen = samples(metrics)
    assert seen["voxtrunk_rtp_received_packets_total", ()] == 170
    assert seen["voxtrunk_rtp_lost_packets_total", ()] == 5


def test_the_quality_of_answered_calls_is_a_histogram_for_each_direction() -> None:
    metrics = Metrics(list, dict, list, int)
    media = MediaStatistics(
        sent=1000,
        loss=0.004,
        jitter_mean=0.003,
        input_delay_mean=0.035,
        round_trip_mean=0.09,
        mos=4.1,
        mos_worst=3.2,
        remote_lost=30,
        remote_jitter=0.006,
        remote_mos=3.7,
        remote_mos_worst=2.0,
    )
    metrics.ended(INFO, ended(Disposition.ANSWERED, None, media))
    metrics.ended(INFO, ended(Disposition.ANSWERED, None, MediaStatistics()))
    metrics.ended(INFO, ended(Disposition.REJECTED, 404, media))
    seen = samples(metrics)
    for name, direction, value in (
        ("mos", "received", 4.1),
        ("mos", "sent", 3.7),
        ("worst_mos", "received", 3.2),
        ("worst_mos", "sent", 2.0),
        ("loss_ratio", "received", 0.004),
        ("loss_ratio", "sent", 0.03),
        ("jitter_seconds", "received", 0.003),
        ("jitter_seconds", "sent", 0.006),
    ):
        assert seen[f"voxtrunk_call_{name}_sum", (("direction", direction),)] == value
        assert seen[f"voxtrunk_call_{name}_count", (("direction", direction),)] == 1
    assert seen["voxtrunk_call_buffer_delay_seconds_sum", ()] == 0.035
    assert seen["voxtrunk_call_round_trip_seconds_sum", ()] == 0.09
    assert seen["voxtrunk_call_mos_bucket", (("direction", "received"), ("le", "4.02"))] == 0
    assert seen["voxtrunk_call_mos_bucket", (("direction", "sent"), ("le", "4.02"))] == 1


def test_engines_that_succeed_one_another_are_told_apart_though_they_have_one_name() -> None:
    def service(rung: int | None, outcome: ServiceOutcome) -> Service:
        return Service(
            kind=EngineKind.TTS,
            engine="openai-speech",
            generation=1,
            outcome=outcome,
            at=0,
            first_ms=None,
            total_ms=1,
            rung=rung,
        )

    statuses = [
        RungStatus("desk", EngineKind.TTS, 1, "openai-speech", CircuitState.OPEN, "connection refused"),
        RungStatus("desk", EngineKind.TTS, 2, "openai-speech", CircuitState.CLOSED, ""),
        RungStatus("desk", EngineKind.TTS, 3, "espeak-ng", CircuitState.HALF_OPEN, "not installed"),
    ]
    metrics = Metrics(list, dict, list, int, lambda: statuses)
    metrics.answered(INFO, "desk")
    asked = [service(1, ServiceOutcome.FAILED), service(2, ServiceOutcome.USED), service(None, ServiceOutcome.USED)]
    metrics.turn(INFO, turn(500, Parts()).model_copy(update={"services": asked}))
    seen = samples(metrics)

    def labels(rung: str, engine: str = "openai-speech", **more: str) -> tuple[tuple[str, str], ...]:
        return tuple(sorted({"flavor": "desk", "kind": "tts", "rung": rung, "engine": engine, **more}.items()))

    assert seen["voxtrunk_rung_requests_total", labels("1", outcome="failed")] == 1
    assert seen["voxtrunk_rung_requests_total", labels("2", outcome="used")] == 1
    assert sum(value for (name, _), value in seen.items() if name == "voxtrunk_rung_requests_total") == 2
    circuits = [labels("1"), labels("2"), labels("3", "espeak-ng")]
    assert [seen["voxtrunk_rung_circuit", one] for one in circuits] == [2, 0, 1]
