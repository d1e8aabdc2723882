"""Prometheus metrics of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_BUCKETS = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)


class Outcome(StrEnum):
    """What became of a request for a transcript."""

    RECOGNISED = "recognised"
    ABORTED = "aborted"
    """The client went away."""
    REFUSED = "refused"
    """Beyond the capacity, or before the model was ready."""
    INVALID = "invalid"
    """Not as the API wants it, or no audio."""
    FAILED = "failed"


class Load(NamedTuple):
    """Of the recogniser, now: requests in progress, utterances that wait for a batch; batches and utterances so far."""

    active: int
    waiting: int
    batches: int
    utterances: int


class Metrics:
    """Counts, and makes the page that Prometheus reads. `load` is asked when the page is."""

    def __init__(self, load: Callable[[], Load]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_LoadCollector(load))
        self._requests = Counter(
            "whisper_requests", "Requests, by what became of them", ("outcome",), registry=self._registry
        )
        for outcome in Outcome:
            self._requests.labels(outcome.value)
        self._seconds = Histogram(
            "whisper_request_seconds",
            "From the request, uploaded, to its transcript",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._audio = Counter("whisper_audio_seconds", "Audio recognised", registry=self._registry)

    def page(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def ended(self, outcome: Outcome) -> None:
        """A request is over."""
        self._requests.labels(outcome.value).inc()

    def recognised(self, audio_seconds: float, seconds: float) -> None:
        """A transcript of `audio_seconds` took `seconds`."""
        self._audio.inc(audio_seconds)
        self._seconds.observe(seconds)


class _LoadCollector(Collector):
    def __init__(self, load: Callable[[], Load]) -> None:
        self._load = load

    def collect(self) -> Iterable[Metric]:
        load = self._load()
        yield GaugeMetricFamily("whisper_active_requests", "Requests in progress", load.active)
        yield GaugeMetricFamily("whisper_waiting_utterances", "Utterances that wait for a batch", load.waiting)
        yield CounterMetricFamily("whisper_batches", "Batches recognised", load.batches)
        yield CounterMetricFamily("whisper_utterances", "Utterances in these batches", load.utterances)
