"""From the far end's packets to frames: jitter buffer, decoding, concealment."""
