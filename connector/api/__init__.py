"""HTTP: health, readiness, metrics, calls."""

from __future__ import annotations

from connector.api.calls import CallList, CallService, CallSummary, RecordingState, RecordList, RunningCall
from connector.api.http import ANSWERS, EngineReadiness, HttpApi, PartReadiness, Readiness, Service, application
from connector.api.metrics import Metrics

__all__ = [
    "ANSWERS",
    "CallList",
    "CallService",
    "CallSummary",
    "EngineReadiness",
    "HttpApi",
    "Metrics",
    "PartReadiness",
    "Readiness",
    "RecordList",
    "RecordingState",
    "RunningCall",
    "Service",
    "application",
]
