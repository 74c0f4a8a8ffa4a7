"""Voltage sources: the bias of a modulator, the drive of a phase shifter."""
