"""Drivers of what sets optical phase: piezos, fibre stretchers, modulator bias."""
