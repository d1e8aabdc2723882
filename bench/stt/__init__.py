"""Whisper for live calls: `python -m bench.stt`."""

import connector  # noqa: F401 - first of all: numpy takes its threads from what it sets
