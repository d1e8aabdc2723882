"""Chatterbox as a speech server that streams, and that many callers share."""

import os

__version__ = "0.1.0"

# Before torch computes anything. On a CPU, oneDNN keeps code for each shape that it has met, 1024 of them, and windows
# of speech have a thousand shapes: a process would grow by half a gigabyte in its first thousand requests.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
