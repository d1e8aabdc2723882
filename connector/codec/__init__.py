"""Codecs by name, and sample-rate conversion."""
