"""Where engines compute: threads, processes, and the services that see all calls in one batch."""

from connector.host.local import LocalEngineHost
from connector.host.processing import BatchedAudioService
from connector.host.vad import BatchedVadService

__all__ = ["BatchedAudioService", "BatchedVadService", "LocalEngineHost"]
