"""`chatterbox-service` for the micro checkpoints: with Chatterbox's classes as small as they were when these were made.

Runs in the environment of Chatterbox, as `python -m tests.engines.micro_chatterbox`; the options are the service's own.
"""

from __future__ import annotations

from tests.engines.checkpoints.chatterbox import shrink

if __name__ == "__main__":
    shrink()
    from chatterbox_service.__main__ import main

    main()
