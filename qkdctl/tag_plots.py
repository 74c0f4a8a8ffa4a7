"""Pictures of time tags: rates, histograms, correlations and folded patterns."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from timetags.correlation import Correlation
from timetags.fold import Folded
from timetags.histograms import Histogram
from timetags.rates import Rates

UNITS = ((1e12, "s"), (1e9, "ms"), (1e6, "µs"), (1e3, "ns"), (1.0, "ps"))


def draw_rates(rates: Rates, path: Path) -> None:
    """Draw the rate of each channel over time."""
    axes = _axes("time, s", "rate, Hz")
    for at, channel in enumerate(rates.channels):
        axes.step(rates.times_s, rates.rates_hz[:, at], where="post", label=f"channel {channel}")
    axes.set_ylim(bottom=0)
    _save(axes, path, has_legend=True)


def draw_histogram(histogram: Histogram, path: Path) -> None:
    """Draw a histogram of time differences."""
    scale, unit = _unit(histogram.bin_ps * len(histogram.counts))
    axes = _axes(f"time difference, {unit}", f"counts per {histogram.bin_ps} ps")
    edges = np.arange(len(histogram.counts) + 1) * (histogram.bin_ps / scale)
    axes.stairs(histogram.counts, edges, fill=True)
    _save(axes, path)


def draw_correlation(found: Correlation, path: Path) -> None:
    """Draw a second-order correlation with its errors."""
    scale, unit = _unit(int(found.lags_ps[-1]))
    axes = _axes(f"lag, {unit}" + _about(found), "g²")
    axes.errorbar(found.lags_ps / scale, found.g2, found.g2_error, fmt=".", ms=3, lw=0.7)
    axes.axhline(1, color="#777777", lw=0.8)
    axes.set_ylim(bottom=0)
    _save(axes, path)


def draw_folded(folded: Folded, path: Path) -> None:
    """Draw the counts of each detector over the slots of the pattern."""
    axes = _axes("slot", "counts")
    for at, channel in enumerate(folded.channels):
        axes.step(
            np.arange(len(folded.counts)),
            folded.counts[:, at],
            where="mid",
            label=f"channel {channel}",
        )
    axes.set_ylim(bottom=0)
    _save(axes, path, has_legend=True)


def _about(found: Correlation) -> str:
    return f" (about a delay of {found.delay_ps} ps)" if found.delay_ps else ""


def _unit(span_ps: int) -> tuple[float, str]:
    return next(((size, unit) for size, unit in UNITS if span_ps >= size), UNITS[-1])


def _axes(x_label: str, y_label: str) -> Axes:
    _, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return axes


def _save(axes: Axes, path: Path, *, has_legend: bool = False) -> None:
    if has_legend and axes.get_legend_handles_labels()[0]:
        axes.legend()
    plt.savefig(path, dpi=110)
    plt.close("all")
