"""What a call leaves behind: stereo recording, transcript, call detail record, latency from the wire."""

from __future__ import annotations

from connector.record.archive import Archive, Broken, Found
from connector.record.cdr import (
    CallRecord,
    CdrStore,
    Disposition,
    Files,
    Pause,
    Redirection,
    Service,
    Step,
    Summary,
    Turn,
    redact,
)
from connector.record.disk import Disk
from connector.record.files import CallFiles, FileCdrStore
from connector.record.formats import load as load_format
from connector.record.journal import Journals
from connector.record.latency import Latency, Parts, WireLatency, WireTurn, latency, percentiles
from connector.record.media import MediaStatistics
from connector.record.recorder import CallRecorder, Ending
from connector.record.recording import Recording

__all__ = [
    "Archive",
    "Broken",
    "CallFiles",
    "CallRecord",
    "CallRecorder",
    "CdrStore",
    "Disk",
    "Disposition",
    "Ending",
    "FileCdrStore",
    "Files",
    "Found",
    "Journals",
    "Latency",
    "MediaStatistics",
    "Parts",
    "Pause",
    "Recording",
    "Redirection",
    "Service",
    "Step",
    "Summary",
    "Turn",
    "WireLatency",
    "WireTurn",
    "latency",
    "load_format",
    "percentiles",
    "redact",
]
