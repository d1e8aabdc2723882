"""From speech of any rate to our packets: resampling, playout, encoding, packetizing."""
