"""Measurement windows, estimators, samplers, stages and trackers."""
