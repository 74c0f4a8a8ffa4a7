"""Transports and instruments of an optical QKD bench."""
