"""`chatterbox-service`: see `--help`."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys

from chatterbox_service.app import EngineLost, serve
from chatterbox_service.engine import Engine
from chatterbox_service.fetch import ModelUnavailable, model_folder
from chatterbox_service.settings import Settings, parse

log = logging.getLogger("chatterbox_service")


def main() -> None:
    """Runs the service, or fetches its model; the exit status is as `--help` says."""
    settings, fetch_only = parse(sys.argv[1:], os.environ)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=settings.log_level.upper())
    try:
        if fetch_only:
            sys.stdout.write(f"{model_folder(settings.model)}\n")
        else:
            asyncio.run(serve(settings, lambda: _open(settings)))
    except (ModelUnavailable, EngineLost, OSError) as error:
        sys.exit(f"chatterbox-service: {error}")


async def _open(settings: Settings) -> Engine:
    """The engine; raises `ModelUnavailable`."""
    folder = settings.folder or await asyncio.to_thread(model_folder, settings.model, download=settings.download)
    # Its packages take many seconds to import, in which the service already says that it is alive.
    models, chatterbox = await asyncio.to_thread(
        lambda: [importlib.import_module(f"chatterbox_service.{name}") for name in ("models", "chatterbox")]
    )
    try:
        engine: Engine = await chatterbox.open_engine(
            settings.model,
            folder=folder,
            device=settings.device,
            capacity=settings.streams,
            attention=settings.attention,
        )
    except models.ModelError as error:
        raise ModelUnavailable(str(error)) from error
    return engine


if __name__ == "__main__":
    main()
