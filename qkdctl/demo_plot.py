"""The demo's picture: QBER, expected excess, photons and drives over time."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from qkdctl.demo_story import Story

BLUE, ORANGE, GREEN, GREY, RED = "#1f5f99", "#d95f02", "#2a9d6f", "#777777", "#b2182b"


def draw(story: Story, report: dict[str, Any], path: Path) -> None:
    """Draw the story into a PNG file."""
    figure, (qber, photons, drives) = plt.subplots(
        3, 1, figsize=(9, 8), sharex=True, height_ratios=(3, 1.3, 1.7), layout="constrained"
    )
    _draw_qber(qber, story)
    _draw_photons(photons, story)
    _draw_drives(drives, story)
    drives.set_xlabel("time, s")
    figure.suptitle(
        f"qkdctl demo, seed {report['seed']}: {report['photons_to_align']:,} photons and "
        f"{report['settings_to_align']} settings to align; {report['excess_pp']:.3f} pp above the "
        "best reachable QBER at the end",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_qber(axes: Axes, story: Story) -> None:
    lit = [sample for sample in story.samples if sample["shutter_open"]]
    times = [sample["elapsed_s"] for sample in lit]
    axes.plot(times, [s["qber"] for s in lit], ".", color=BLUE, ms=4, label="true QBER (bench)")
    axes.plot(times, [s["qber_floor"] for s in lit], "-", color=GREY, lw=1, label="best reachable")
    measured = [p for p in story.progress if p["qber"] and p["qber"]["value"] is not None]
    axes.errorbar(
        [p["elapsed_s"] for p in measured],
        [p["qber"]["value"] for p in measured],
        yerr=(
            [p["qber"]["value"] - p["qber"]["low"] for p in measured],
            [p["qber"]["high"] - p["qber"]["value"] for p in measured],
        ),
        fmt="o",
        color=ORANGE,
        ms=4,
        lw=1,
        label="measured while aligning, 90 %",
    )
    claimed = [p for p in story.progress if p["expected_excess"] is not None]
    axes.plot(
        [p["elapsed_s"] for p in claimed],
        [p["expected_excess"] for p in claimed],
        "^",
        color=GREEN,
        ms=4,
        label="expected excess of the advice",
    )
    axes.set_yscale("log")
    axes.set_ylabel("QBER")
    _draw_marks(axes, story, with_names=True)
    axes.legend(loc="center right", fontsize=8, framealpha=0.9)


def _draw_photons(axes: Axes, story: Story) -> None:
    axes.step(
        [p["elapsed_s"] for p in story.progress],
        [p["photons"] for p in story.progress],
        where="post",
        color=ORANGE,
    )
    axes.set_yscale("log")
    axes.set_ylabel("photons spent\nto align")
    _draw_marks(axes, story)


def _draw_drives(axes: Axes, story: Story) -> None:
    times = [sample["elapsed_s"] for sample in story.samples]
    for channel in story.channels:
        axes.plot(
            times,
            [sample["drives"][channel] for sample in story.samples],
            lw=1,
            label=f"channel {channel}",
        )
    axes.set_ylabel(story.drive)
    axes.legend(loc="upper right", fontsize=8, ncols=len(story.channels))
    _draw_marks(axes, story)


def _draw_marks(axes: Axes, story: Story, *, with_names: bool = False) -> None:
    for name, at_s in story.marks.items():
        axes.axvline(at_s, color=RED if "out" in name else GREY, lw=0.8, ls=":")
        if with_names:
            axes.annotate(
                name,
                (at_s, 1.0),
                xycoords=("data", "axes fraction"),
                rotation=90,
                va="top",
                ha="right",
                fontsize=7,
                color=GREY,
            )
