"""The optical twin and simulated instruments that speak the real wire protocols."""
