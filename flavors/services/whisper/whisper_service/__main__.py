"""`whisper-service`, or `python -m whisper_service`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from connector.errors import EngineError
from whisper_service.app import serve
from whisper_service.settings import parse


def main() -> None:
    """Serves until it is stopped; exits as `--help` says."""
    settings = parse(sys.argv[1:], os.environ)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(serve(settings))
    except (EngineError, OSError) as error:
        sys.exit(f"whisper-service: {error}")


if __name__ == "__main__":
    main()
