"""Trackers: each holds the optimum of a stage under drift, while key is made."""
