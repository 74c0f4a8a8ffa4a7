"""Attenuators, variable and switched off by a shutter."""
