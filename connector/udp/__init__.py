"""UDP: sockets, port pairs, latching, and the process's one 20 ms ticker."""
