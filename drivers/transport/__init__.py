"""Wires to instruments: one place for framing, timeouts, locking, logging and error mapping."""
