"""Calls: the life of one, its state table, and the registry of all."""

from __future__ import annotations

from connector.call.call import Call, Dialplan, Plan
from connector.call.monitor import CallMonitor, Monitors
from connector.call.pressure import Pressure
from connector.call.refusals import Refusals
from connector.call.registry import Registry
from connector.call.state import CallState, Event, State

__all__ = [
    "Call",
    "CallMonitor",
    "CallState",
    "Dialplan",
    "Event",
    "Monitors",
    "Plan",
    "Pressure",
    "Refusals",
    "Registry",
    "State",
]
