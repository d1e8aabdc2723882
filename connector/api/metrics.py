"""Prometheus metrics of the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from connector.call.engines import EngineStatus
from connector.interfaces import CallInfo
from connector.record import CallRecord, Turn

TURN_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
TICK_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0)
NO_FLAVOR = "none"


class Metrics:
    """A `CallMonitor` that counts, and the page that Prometheus reads.

    `flavors`: why a flavor cannot answer now, "" where it can, by name.
    """

    def __init__(self, engines: Callable[[], Sequence[EngineStatus]], flavors: Callable[[], Mapping[str, str]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_ReadinessCollector(engines, flavors))
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
        self._turn_errors = Counter("voxtrunk_turn_errors", "Turns with an error", ("flavor",), registry=self._registry)
        self._latency = Histogram(
            "voxtrunk_turn_seconds",
            "Silence that callers heard before an answer, on the wire, and its parts",
            ("flavor", "part"),
            buckets=TURN_BUCKETS,
            registry=self._registry,
        )
        self._media = Counter(
            "voxtrunk_media",
            "Counters of the media path of calls that are over",
            ("counter",),
            registry=self._registry,
        )
        self._lateness = Histogram(
            "voxtrunk_tick_lateness_seconds",
            "By how much 20 ms ticks ran late: saturation of the event loop",
            buckets=TICK_BUCKETS,
            registry=self._registry,
        )
        self._flavors: dict[str, str] = {}

    def page(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def ticked(self, lateness: float) -> None:
        """A tick ran `lateness` seconds after it was due."""
        self._lateness.observe(lateness)

    def refused(self, status: int) -> None:
        """The endpoint refused a call."""
        self._refused.labels(str(status)).inc()

    def began(self, info: CallInfo) -> None:
        self._active.inc()

    def answered(self, info: CallInfo, flavor: str) -> None:
        self._flavors[info.call_id] = flavor

    def turn(self, info: CallInfo, turn: Turn) -> None:
        flavor = self._flavors.get(info.call_id, NO_FLAVOR)
        self._turns.labels(flavor, str(turn.interrupted).lower()).inc()
        if turn.error is not None:
            self._turn_errors.labels(flavor).inc()
        if turn.latency.silence_ms is not None:
            parts = turn.latency.parts_ms.model_dump(exclude_none=True)
            for part, milliseconds in {"silence": turn.latency.silence_ms, **parts}.items():
                self._latency.labels(flavor, part).observe(milliseconds / 1000)

    def ended(self, info: CallInfo, record: CallRecord) -> None:
        self._active.dec()
        self._flavors.pop(info.call_id, None)
        self._calls.labels(record.flavor or NO_FLAVOR, record.disposition.value, str(record.status or 200)).inc()
        for name, value in (record.media or {}).items():
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                self._media.labels(name).inc(value)


class _ReadinessCollector(Collector):
    """Flavors and engines as they are when Prometheus asks."""

    def __init__(self, engines: Callable[[], Sequence[EngineStatus]], flavors: Callable[[], Mapping[str, str]]) -> None:
        self._engines = engines
        self._flavors = flavors

    def collect(self) -> Iterable[Metric]:
        answering = GaugeMetricFamily("voxtrunk_flavor_ready", "1 where it can answer", labels=("flavor",))
        for flavor, problem in self._flavors().items():
            answering.add_metric((flavor,), float(not problem))
        yield answering
        ready = GaugeMetricFamily("voxtrunk_engine_ready", "1 where calls can use it", labels=("engine", "kind"))
        failures = CounterMetricFamily(
            "voxtrunk_engine_failures", "Failed attempts to start or check it", labels=("engine", "kind")
        )
        totals: dict[tuple[str, str], tuple[bool, int]] = {}
        for status in self._engines():
            key = (status.engine, status.kind.value)
            before, count = totals.get(key, (True, 0))
            totals[key] = (before and status.ready, count + status.failures)
        for (engine, kind), (all_ready, count) in totals.items():
            ready.add_metric((engine, kind), float(all_ready))
            failures.add_metric((engine, kind), count)
        yield ready
        yield failures
