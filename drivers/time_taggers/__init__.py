"""Time taggers and counters."""
