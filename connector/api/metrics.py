"""Prometheus metrics of the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from connector.call.engines import EngineStatus, RungStatus
from connector.interfaces import CallInfo, EngineKind, ServiceUse
from connector.pipeline.circuit import CircuitState
from connector.record import CallRecord, MediaStatistics, Turn

TURN_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
SERVICE_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
TICK_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0)
TICKS = 50
"""Ticks (a second) that are counted at once: one by one they would cost the event loop more."""
MOS_BUCKETS = (1.5, 2.0, 2.58, 3.1, 3.6, 4.02, 4.34, 4.5)
"""From 2.58 on the categories of ITU-T G.109: R of 50, 60, 70, 80 and 90."""
LOSS_BUCKETS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
JITTER_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2)
DELAY_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0)
NO_FLAVOR = "none"
RUNG = ("flavor", "kind", "rung", "engine")
"""Labels that name an engine among those that succeed one another; rung 1 is the first choice."""
CIRCUITS = {CircuitState.CLOSED: 0.0, CircuitState.HALF_OPEN: 1.0, CircuitState.OPEN: 2.0}

MEDIA_COUNTERS = {
    "received": ("voxtrunk_rtp_received_packets", "RTP packets that came"),
    "lost": ("voxtrunk_rtp_lost_packets", "RTP packets that did not come"),
    "late": ("voxtrunk_rtp_late_packets", "RTP packets that came too late to be played"),
    "duplicate": ("voxtrunk_rtp_duplicate_packets", "RTP packets that came a second time"),
    "discarded": ("voxtrunk_rtp_discarded_packets", "RTP packets left out to keep the delay small"),
    "strangers": ("voxtrunk_rtp_stranger_packets", "Datagrams from elsewhere than the caller"),
    "malformed": ("voxtrunk_rtp_malformed_packets", "Datagrams that are neither RTP nor RTCP"),
    "unknown_payload_type": ("voxtrunk_rtp_unknown_payload_packets", "RTP packets in a codec not agreed on"),
    "sent": ("voxtrunk_rtp_sent_packets", "RTP packets sent"),
    "unsent": ("voxtrunk_rtp_unsent_packets", "RTP packets that the network stack refused"),
    "frames": ("voxtrunk_audio_frames", "20 ms frames of callers handed on"),
    "concealed": ("voxtrunk_audio_concealed_frames", "Frames made up in place of lost or late packets"),
}
"""Counters of `MediaStatistics` and the metrics that sum them up."""


class Metrics:
    """A `CallMonitor` that counts, and the page that Prometheus reads.

    `flavors`: why a flavor cannot answer now, "" where it can, by name. `media`: counters of the calls in
    progress, asked for when Prometheus asks. `skipped`: 20 ms ticks that were never run. `rungs`: the engines of each
    flavor in the order they are asked. `failed_batches`: of all calls' audio, that an engine failed to answer in time.
    """

    def __init__(
        self,
        engines: Callable[[], Sequence[EngineStatus]],
        flavors: Callable[[], Mapping[str, str]],
        media: Callable[[], Iterable[Mapping[str, int]]],
        skipped: Callable[[], int],
        rungs: Callable[[], Iterable[RungStatus]] = tuple,
        failed_batches: Callable[[], Mapping[tuple[str, EngineKind], int]] = dict,
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_ReadinessCollector(engines, flavors, rungs, failed_batches))
        self._media = _MediaCollector(media, skipped)
        self._registry.register(self._media)
        self._active = Gauge("voxtrunk_calls_active", "Calls in progress", registry=self._registry)
        self._calls = Counter(
            "voxtrunk_calls", "Calls that are over", ("flavor", "disposition", "status"), registry=self._registry
        )
        self._refused = Counter(
            "voxtrunk_calls_refused", "Calls refused at the door", ("status",), registry=self._registry
        )
        self._turns = Counter(
            "voxtrunk_turns", "Turns that are over", ("flavor", "interrupted"), registry=self._registry
        )
        self._pauses = Counter("voxtrunk_recording_pauses", "Pauses of recordings", registry=self._registry)
        self._turn_errors = Counter("voxtrunk_turn_errors", "Turns with an error", ("flavor",), registry=self._registry)
        self._latency = Histogram(
            "voxtrunk_turn_seconds",
            "Silence that callers heard before an answer, on the wire, and its parts",
            ("flavor", "part"),
            buckets=TURN_BUCKETS,
            registry=self._registry,
        )
        self._speculations = Counter(
            "voxtrunk_turn_speculations",
            "Answers begun before the end of a turn was decided",
            ("flavor",),
            registry=self._registry,
        )
        self._rung_requests = Counter(
            "voxtrunk_rung_requests",
            "Requests to engines that succeed one another, by what became of them",
            (*RUNG, "outcome"),
            registry=self._registry,
        )
        self._service_requests = self._of_services("requests", "Requests of calls, by what became of them", "outcome")
        self._service_characters = self._of_services("characters", "Characters of text", "direction")
        self._service_tokens = self._of_services("tokens", "Tokens of language models", "direction")
        self._service_audio = self._of_services("audio_seconds", "Seconds of audio", "direction")
        self._service_first = self._times_of_services("first_seconds", "Until the first text or audio")
        self._service_total = self._times_of_services("request_seconds", "Until a request was answered, or given up")
        self._mos = self._by_direction("voxtrunk_call_mos", "MOS (ITU-T G.107) of calls", MOS_BUCKETS)
        self._worst_mos = self._by_direction(
            "voxtrunk_call_worst_mos", "MOS of calls' worst window of 10 s", MOS_BUCKETS
        )
        self._loss = self._by_direction("voxtrunk_call_loss_ratio", "Share of packets lost", LOSS_BUCKETS)
        self._jitter = self._by_direction(
            "voxtrunk_call_jitter_seconds", "Interarrival jitter (RFC 3550), mean of the call", JITTER_BUCKETS
        )
        self._buffer = self._of_calls(
            "voxtrunk_call_buffer_delay_seconds", "Delay in our jitter buffer, mean of the call", DELAY_BUCKETS
        )
        self._round_trip = self._of_calls(
            "voxtrunk_call_round_trip_seconds", "To the far end and back, mean of the call", DELAY_BUCKETS
        )
        self._late: list[float] = []
        self._lateness = Histogram(
            "voxtrunk_tick_lateness_seconds",
            "By how much 20 ms ticks ran late: saturation of the event loop",
            buckets=TICK_BUCKETS,
            registry=self._registry,
        )
        self._flavors: dict[str, str] = {}

    def page(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4."""
        self._observe_ticks()
        return generate_latest(self._registry)

    def ticked(self, lateness: float) -> None:
        """A tick ran `lateness` seconds after it was due."""
        self._late.append(lateness)
        if len(self._late) == TICKS:
            self._observe_ticks()

    def _observe_ticks(self) -> None:
        for lateness in self._late:
            self._lateness.observe(lateness)
        self._late.clear()

    def refused(self, status: int) -> None:
        """The endpoint refused a call."""
        self._refused.labels(str(status)).inc()

    def service(self, use: ServiceUse) -> None:
        """A call's request to an engine is over, and it is known what became of it."""
        labels = (use.engine, use.kind.value)
        self._service_requests.labels(*labels, use.outcome.value).inc()
        for counter, given, came in (
            (self._service_characters, use.characters_in, use.characters_out),
            (self._service_tokens, use.tokens_in, use.tokens_out),
            (self._service_audio, use.audio_in, use.audio_out),
        ):
            for direction, amount in (("in", given), ("out", came)):
                if amount:
                    counter.labels(*labels, direction).inc(amount)
        if use.first is not None:
            self._service_first.labels(*labels).observe(use.first - use.started)
        self._service_total.labels(*labels).observe(use.ended - use.started)

    def began(self, info: CallInfo) -> None:
        self._active.inc()

    def answered(self, info: CallInfo, flavor: str) -> None:
        self._flavors[info.call_id] = flavor

    def turn(self, info: CallInfo, turn: Turn) -> None:
        flavor = self._flavors.get(info.call_id, NO_FLAVOR)
        self._turns.labels(flavor, str(turn.interrupted).lower()).inc()
        self._speculations.labels(flavor).inc(turn.speculations)
        if turn.error is not None:
            self._turn_errors.labels(flavor).inc()
        for one in turn.services:
            if one.rung is not None:
                self._rung_requests.labels(flavor, one.kind.value, str(one.rung), one.engine, one.outcome.value).inc()
        if turn.latency.silence_ms is not None:
            parts = turn.latency.parts_ms.model_dump(exclude_none=True)
            for part, milliseconds in {"silence": turn.latency.silence_ms, **parts}.items():
                self._latency.labels(flavor, part).observe(milliseconds / 1000)

    def ended(self, info: CallInfo, record: CallRecord) -> None:
        self._active.dec()
        self._flavors.pop(info.call_id, None)
        self._calls.labels(record.flavor or NO_FLAVOR, record.disposition.value, str(record.status or 200)).inc()
        self._pauses.inc(len(record.pauses))
        if record.media is not None:
            self._media.add(record.media)
            if record.answered is not None:
                self._judge(record.media)

    def _judge(self, media: MediaStatistics) -> None:
        """Takes the quality of a call into the histograms."""
        remote_loss = None if media.remote_lost is None else min(1.0, max(0, media.remote_lost) / max(1, media.sent))
        for histogram, received, sent in (
            (self._mos, media.mos, media.remote_mos),
            (self._worst_mos, media.mos_worst, media.remote_mos_worst),
            (self._loss, media.loss, remote_loss),
            (self._jitter, media.jitter_mean, media.remote_jitter),
        ):
            for direction, value in (("received", received), ("sent", sent)):
                if value is not None:
                    histogram.labels(direction).observe(value)
        if media.input_delay_mean is not None:
            self._buffer.observe(media.input_delay_mean)
        if media.round_trip_mean is not None:
            self._round_trip.observe(media.round_trip_mean)

    def _of_services(self, what: str, text: str, by: str) -> Counter:
        """Sums over an engine's requests."""
        return Counter(f"voxtrunk_engine_{what}", text, ("engine", "kind", by), registry=self._registry)

    def _times_of_services(self, what: str, text: str) -> Histogram:
        """Of an engine's requests."""
        name, labels = f"voxtrunk_engine_{what}", ("engine", "kind")
        return Histogram(name, text, labels, buckets=SERVICE_BUCKETS, registry=self._registry)

    def _by_direction(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        """Of calls: what we `received`, by our own measure, and what we `sent`, by the far end's reports."""
        return Histogram(name, text, ("direction",), buckets=buckets, registry=self._registry)

    def _of_calls(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self._registry)


class _MediaCollector(Collector):
    """Sums of calls that are over and, as they are when Prometheus asks, of those in progress."""

    def __init__(self, media: Callable[[], Iterable[Mapping[str, int]]], skipped: Callable[[], int]) -> None:
        self._running = media
        self._skipped = skipped
        self._over = dict.fromkeys(MEDIA_COUNTERS, 0)
        self._told = dict.fromkeys(MEDIA_COUNTERS, 0)

    def add(self, media: MediaStatistics) -> None:
        """A call is over, and not among those in progress any more."""
        for field in self._over:
            self._over[field] += getattr(media, field)

    def collect(self) -> Iterable[Metric]:
        running = list(self._running())
        for field, (name, text) in MEDIA_COUNTERS.items():
            total = self._over[field] + sum(media.get(field, 0) for media in running)
            # A counter that falls reads as a restart. This one may: a packet counted as lost comes late, a call that
            # has just ended is in neither sum until its record is written.
            self._told[field] = max(self._told[field], total)
            yield CounterMetricFamily(name, text, value=self._told[field])
        yield CounterMetricFamily(
            "voxtrunk_ticks_skipped", "20 ms ticks given up after stalls of this machine", value=self._skipped()
        )


class _ReadinessCollector(Collector):
    """Flavors and engines as they are when Prometheus asks."""

    def __init__(
        self,
        engines: Callable[[], Sequence[EngineStatus]],
        flavors: Callable[[], Mapping[str, str]],
        rungs: Callable[[], Iterable[RungStatus]],
        failed_batches: Callable[[], Mapping[tuple[str, EngineKind], int]],
    ) -> None:
        self._engines = engines
        self._flavors = flavors
        self._rungs = rungs
        self._failed_batches = failed_batches

    def collect(self) -> Iterable[Metric]:
        answering = GaugeMetricFamily("voxtrunk_flavor_ready", "1 where it can answer", labels=("flavor",))
        for flavor, problem in self._flavors().items():
            answering.add_metric((flavor,), float(not problem))
        yield answering
        circuits = GaugeMetricFamily(
            "voxtrunk_rung_circuit", "0 where calls ask the engine (closed), 1 half-open, 2 open", labels=RUNG
        )
        for rung in self._rungs():
            circuits.add_metric((rung.flavor, rung.kind.value, str(rung.number), rung.engine), CIRCUITS[rung.circuit])
        yield circuits
        ready = GaugeMetricFamily("voxtrunk_engine_ready", "1 where calls can use it", labels=("engine", "kind"))
        failures = CounterMetricFamily(
            "voxtrunk_engine_failures", "Failed attempts to start or check it", labels=("engine", "kind")
        )
        running = GaugeMetricFamily(
            "voxtrunk_engine_requests_in_flight", "Requests of calls running now", labels=("engine", "kind")
        )
        totals: dict[tuple[str, str], tuple[bool, int, int]] = {}
        for status in self._engines():
            key = (status.engine, status.kind.value)
            before, failed, busy = totals.get(key, (True, 0, 0))
            totals[key] = (before and status.ready, failed + status.failures, busy + status.in_flight)
        for labels, (all_ready, failed, busy) in totals.items():
            ready.add_metric(labels, float(all_ready))
            failures.add_metric(labels, failed)
            running.add_metric(labels, busy)
        yield ready
        yield failures
        yield running
        batches = CounterMetricFamily(
            "voxtrunk_engine_failed_batches", "Batches of calls' audio not answered in time", labels=("engine", "kind")
        )
        for (engine, kind), failed in self._failed_batches().items():
            batches.add_metric((engine, kind.value), failed)
        yield batches
