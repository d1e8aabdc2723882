"""Prometheus metrics of the service."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_FIRST_BUCKETS = (0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_FACTOR_BUCKETS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 4.0)


class Outcome(StrEnum):
    """What became of a request for speech."""

    SPOKEN = "spoken"
    ABORTED = "aborted"
    """The client went away."""
    REFUSED = "refused"
    """Beyond the capacity, or before the model was ready."""
    INVALID = "invalid"
    """Not as the API wants it, or for a voice that there is not."""
    FAILED = "failed"


class Metrics:
    """Counts, and makes the page that Prometheus reads. The gauges ask when the page is asked for."""

    def __init__(self, *, active: Callable[[], int], waiting: Callable[[], int], capacity: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "chatterbox_requests", "Requests for speech, by what became of them", ("outcome",), registry=self._registry
        )
        for outcome in Outcome:
            self._requests.labels(outcome.value)
        self._first = Histogram(
            "chatterbox_first_audio_seconds",
            "From the request to its first audio",
            buckets=_FIRST_BUCKETS,
            registry=self._registry,
        )
        self._factor = Histogram(
            "chatterbox_real_time_factor",
            "Time to make speech, per second of speech; below 1 the listener hears no gap",
            buckets=_FACTOR_BUCKETS,
            registry=self._registry,
        )
        self._audio = Counter("chatterbox_audio_seconds", "Speech made", registry=self._registry)
        self._characters = Counter("chatterbox_characters", "Text accepted", registry=self._registry)
        for name, text, value in (
            ("active_streams", "Streams being spoken", active),
            ("waiting_requests", "Requests that wait for a place", waiting),
            ("capacity_streams", "Streams that may be spoken at once; 0 before the model is ready", capacity),
        ):
            Gauge(f"chatterbox_{name}", text, registry=self._registry).set_function(value)

    def page(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def ended(self, outcome: Outcome) -> None:
        """A request is over."""
        self._requests.labels(outcome.value).inc()

    def accepted(self, characters: int) -> None:
        """A text of so many characters is going to be spoken."""
        self._characters.inc(characters)

    def began(self, seconds: float) -> None:
        """A request's first audio was ready after `seconds`."""
        self._first.observe(seconds)

    def made(self, audio_seconds: float, seconds: float) -> None:
        """`audio_seconds` of speech were made for a request, in `seconds`."""
        self._audio.inc(audio_seconds)
        if audio_seconds > 0:
            self._factor.observe(seconds / audio_seconds)
