"""Pipelines: what turns a caller's audio into an answer."""

from __future__ import annotations

from connector.config.model import Flavor
from connector.interfaces import AudioPort, Clock, Pipeline, PipelineObserver
from connector.pipeline.cascade import Cascade, CascadeEngines
from connector.pipeline.echo import Echo

__all__ = ["Cascade", "CascadeEngines", "Echo", "make"]


def make(
    flavor: Flavor, engines: CascadeEngines | None, port: AudioPort, observer: PipelineObserver, clock: Clock
) -> Pipeline:
    """The pipeline that `flavor` names. `engines`: what it runs on; None where it needs none.

    Raises `ValueError` where a cascade is to run without engines.
    """
    if flavor.pipeline == "echo":
        return Echo(port, observer)
    if engines is None:
        raise ValueError(f"flavor {flavor.name}: a cascade needs engines")
    return Cascade(flavor, engines, port, observer, clock)
