"""Drivers of single-photon detectors."""
