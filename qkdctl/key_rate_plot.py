"""A picture of key rates over distance, with the ceilings that no protocol passes."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from keyrate.bounds import one_node, plob
from keyrate.comparison import Curve, Hardware

LEAST_SHOWN = 1e-10
"""Lowest rate of the picture, bit per pulse."""

STYLES = {"general": "-", "collective": "--", "individual": ":"}
"""Lines by the attacks that a rate holds against."""


def draw_rates(
    hardware: Hardware, lengths_km: NDArray[np.float64], curves: Mapping[str, Curve], path: Path
) -> None:
    """Draw all curves over distance, and save the picture."""
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    for name, curve in curves.items():
        shown = np.where(curve.bits_per_pulse > 0, curve.bits_per_pulse, np.nan)
        label = name if curve.security_class == "general" else f"{name} ({curve.security_class})"
        axes.semilogy(lengths_km, shown, STYLES[curve.security_class], label=label)
    fibre = hardware.fibre(lengths_km)
    axes.semilogy(lengths_km, plob(fibre), color="0.3", lw=1, label="repeaterless bound")
    axes.semilogy(lengths_km, one_node(fibre), color="0.7", lw=1, label="bound with one node")
    axes.set(xlabel="fibre, km", ylabel="secret key, bit per pulse")
    axes.set_ylim(LEAST_SHOWN, 10)
    axes.set_xlim(lengths_km[0], lengths_km[-1])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(path, dpi=140)
    plt.close(figure)
