"""What carries the bytes of simulated instruments: pseudo-terminals, sockets, or nothing at all."""
