"""HTTP: health, readiness, metrics, calls."""

from __future__ import annotations

from connector.api.http import CallList, CallSummary, EngineReadiness, HttpApi, Readiness, Service, application
from connector.api.metrics import Metrics

__all__ = [
    "CallList",
    "CallSummary",
    "EngineReadiness",
    "HttpApi",
    "Metrics",
    "Readiness",
    "Service",
    "application",
]
