"""Models of the hub that an engine fetches at its start: before it is loaded, progress in the log, never in a call."""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Event

from connector.config import hub
from connector.errors import ModelFetchError
from connector.interfaces import EngineDescriptor, EngineOptions, HubModel

log = logging.getLogger(__name__)

STEP_PERCENT = 10
"""Progress is logged in such steps."""


def fetch_missing(
    descriptor: EngineDescriptor, options: EngineOptions, models: Path, stop: Event, asked: hub.Hub | None = None
) -> None:
    """Fetches what the engine wants of the hub, where its options say so and it is not there; raises `ModelFetchError`.

    Blocks, for a thread, until `stop` is set. What breaks off goes on at the next start. `asked`: the hub, by default
    that of the environment.
    """
    if not descriptor.downloads(options):
        return
    for model in descriptor.hub(options):
        if not hub.is_had(model, models):
            download = _Download(model, stop)
            hub.fetch(model, models, download.progress, asked, download.pause)


class _Download:
    """Tells how far it is, and ends where it is to stop."""

    def __init__(self, model: HubModel, stop: Event) -> None:
        self._model = model
        self._stop = stop
        self._told = -1

    def progress(self, done: int, total: int | None) -> None:
        self.pause(0)
        step = 100 * done // total // STEP_PERCENT if total else 0
        if step > self._told:
            self._told = step
            told = {"model": self._model.repository, "percent": step * STEP_PERCENT, "bytes": total}
            log.info("fetching a model", extra=told)

    def pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise ModelFetchError(f"{self._model.repository}: stopped", "it goes on at the next start")
