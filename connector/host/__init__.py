"""Where engines compute: threads, processes, and the one voice activity detection for all calls."""

from connector.host.local import LocalEngineHost
from connector.host.vad import BatchedVadService

__all__ = ["BatchedVadService", "LocalEngineHost"]
