"""Chatterbox as a speech server that streams, and that many callers share."""

__version__ = "0.1.0"
