"""Whisper as a transcription server for many connectors: voxtrunk's own engine behind OpenAI's interface."""

__version__ = "0.1.0"
