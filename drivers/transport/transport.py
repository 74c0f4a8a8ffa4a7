"""Dialogues with one instrument: framing, timeouts, the lock, recovery and the traffic log."""
