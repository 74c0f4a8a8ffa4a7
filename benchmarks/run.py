"""What ``qkdctl bench`` does: run a task over seeds, print its figures beside their bounds."""

import importlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol, cast

from qkdctl.cli.text import table

TASKS: Mapping[str, str] = {
    "alignment": "benchmarks.alignment",
    "phase": "benchmarks.phase",
    "signal": "benchmarks.signal",
    "outer": "benchmarks.outer",
    "tags": "benchmarks.tags",
    "tracking": "benchmarks.tracking",
    "day": "benchmarks.day",
}
"""Module of each task."""

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

HEADER = ("METHOD", "CASE", "METRIC", "UNIT", "N", "MEDIAN", "MEAN", "P90", "BOUND", "RATIO")

PANELS_A_LINE = 3

Row = Mapping[str, Any]
"""One figure: method, case, metric, unit, n, median, mean, p90 and bound.

Where the median has an interval, also low and high. A quantile that is infinite, because too many
runs never got there, is null; so is the bound where none is known.
"""


class Task(Protocol):
    """A module that measures something; frozen, so that figures stay comparable.

    Attributes:
        VERSION: Raised by every change that alters figures.
        METHODS: What can be compared, ours first.
        CASES: Under which circumstances.

    It may have ``OPTIONS``, names of what else its ``run`` takes; ``PLOTTED``, the metrics that a
    picture shows; and ``left_out(methods, cases)``, which says in one line each what is not run and
    why.
    """

    VERSION: int
    METHODS: Collection[str]
    CASES: Collection[str]

    def run(
        self, seeds: range, methods: Sequence[str], cases: Sequence[str], **options: int
    ) -> list[Row]:
        """Run every method on every case with every seed."""
        ...


class BenchError(Exception):
    """There is no such task, method or case; the text lists those on offer."""


def run_bench(
    task: str,
    seeds: range,
    methods: Sequence[str] | None = None,
    cases: Sequence[str] | None = None,
    *,
    as_json: bool = False,
    plot: Path | None = None,
    **options: int,
) -> int:
    """Run a task and print its figures.

    Args:
        task: Name of the task.
        seeds: Seeds to run.
        methods: Methods to compare; None for all.
        cases: Cases to run; None for all.
        as_json: Print one JSON object instead of a table.
        plot: File for a picture of the figures, or None.
        options: What else the task offers, such as ``budget_photons``.

    Returns:
        Exit status: 0 done, 1 the picture cannot be made, 2 there is no such task, method, case or
        option.
    """
    try:
        report = measure(task, seeds, methods, cases, **options)
    except BenchError as exc:
        sys.stderr.write(f"error: {exc}\n")
        return EXIT_USAGE
    sys.stdout.write(json.dumps(report) + "\n" if as_json else figures_text(report) + "\n")
    if plot is None:
        return EXIT_DONE
    try:
        save_plot(report, plot)
    except ImportError:
        sys.stderr.write("error: --plot needs matplotlib; install qkdctl[plot]\n")
        return EXIT_FAILED
    except (OSError, ValueError) as exc:
        sys.stderr.write(f"error: {plot}: {exc}\n")
        return EXIT_FAILED
    return EXIT_DONE


def measure(
    task: str,
    seeds: range,
    methods: Sequence[str] | None,
    cases: Sequence[str] | None,
    **options: int,
) -> dict[str, Any]:
    """Run a task and return the whole report, JSON-able.

    Raises:
        BenchError: There is no such task, method, case or option.
    """
    module = load_task(task)
    chosen_methods = _choose("method", methods, module.METHODS)
    chosen_cases = _choose("case", cases, module.CASES)
    _choose("option", list(options), getattr(module, "OPTIONS", ()))
    left_out = getattr(module, "left_out", None)
    remarks = left_out(chosen_methods, chosen_cases) if left_out is not None else []
    return {
        "task": task,
        "version": module.VERSION,
        "seeds": [seeds.start, seeds.stop],
        "cores": len(os.sched_getaffinity(0)),
        "commit": _commit(),
        **options,
        **({"left_out": remarks} if remarks else {}),
        "rows": list(module.run(seeds, chosen_methods, chosen_cases, **options)),
    }


def load_task(name: str) -> Task:
    """Import the module of a task; raise BenchError where there is none."""
    if name not in TASKS:
        raise BenchError(f"there is no task {name!r}; tasks are: {', '.join(TASKS)}")
    return cast(Task, importlib.import_module(TASKS[name]))


def _choose(what: str, wanted: Sequence[str] | None, offered: Collection[str]) -> list[str]:
    if wanted is None:
        return list(offered)
    chosen, left = [], list(wanted)
    while left:
        # Names may have commas, at which the command line has split them: the longest one counts.
        candidates = [",".join(left[:parts]) for parts in range(len(left), 0, -1)]
        name = next((each for each in candidates if each in offered), None)
        if name is None:
            raise BenchError(f"there is no {what} {left[0]!r}; {what}s are: {', '.join(offered)}")
        chosen.append(name)
        left = left[1 + name.count(",") :]
    return chosen


def figures_text(report: Mapping[str, Any]) -> str:
    """Lay the figures out as a table; the ratio is the median over the bound."""
    first, end = report["seeds"]
    title = (
        f"{report['task']}, version {report['version']}, seeds {first} to {end - 1}, "
        f"{report['cores']} cores, commit {report['commit'] or 'unknown'}"
    )
    rows = report["rows"]
    has_intervals = any("low" in row for row in rows)
    header = (*HEADER, "INTERVAL") if has_intervals else HEADER
    cells = [_cells(row) + ((_interval(row),) if has_intervals else ()) for row in rows]
    remarks = "".join(f"\nleft out: {remark}" for remark in report.get("left_out", ()))
    return f"{title}\n\n{table(header, cells)}{remarks}"


def _interval(row: Row) -> str:
    """Write the interval of the median."""
    return f"{_figure(row['low'])} to {_figure(row['high'])}" if "low" in row else "-"


def _cells(row: Row) -> tuple[str, ...]:
    median, bound = row["median"], row["bound"]
    ratio = f"{median / bound:.2f}" if bound and median is not None else "-"
    return (
        row["method"],
        row["case"],
        row["metric"],
        row["unit"],
        str(row["n"]),
        *(_figure(row[name]) for name in ("median", "mean", "p90")),
        "-" if bound is None else _figure(bound),
        ratio,
    )


def _figure(value: float | None) -> str:
    """Write a figure to three digits, and whole numbers in full."""
    if value is None:
        return "inf"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def save_plot(report: Mapping[str, Any], path: Path) -> None:
    """Draw one panel per metric: dot for the median, line to the 90 % quantile, tick for the bound.

    Raises:
        ImportError: matplotlib is missing.
        OSError: The file cannot be written.
        ValueError: Its ending names no format that is known.
    """
    from matplotlib.figure import Figure

    wanted = getattr(load_task(report["task"]), "PLOTTED", None)
    shown = [row for row in report["rows"] if wanted is None or row["metric"] in wanted]
    metrics = list(dict.fromkeys(row["metric"] for row in shown))
    labels = list(dict.fromkeys(map(_label, shown)))
    lines = max(1, math.ceil(len(metrics) / PANELS_A_LINE))
    size = 4 * PANELS_A_LINE, lines * (1 + 0.3 * len(labels))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(lines, PANELS_A_LINE, sharey=True, squeeze=False).flat
    for panel, metric in zip_longest(panels, metrics):
        if metric is None:
            panel.set_visible(False)
            continue
        rows = [row for row in shown if row["metric"] == metric]
        _draw(panel, rows, labels.index)
        panel.set_title(f"{metric} ({rows[0]['unit']})", fontsize="medium")
        panel.set_yticks(range(len(labels)), labels)
        panel.set_ylim(len(labels) - 0.5, -0.5)
    legend = (
        "dot: median, line: to the 90 % quantile, tick: bound, arrow or cross: one or both infinite"
    )
    figure.supxlabel(legend, fontsize="small")
    figure.savefig(path, dpi=150)


def _label(row: Row) -> str:
    return f"{row['method']}, {row['case']}"


def _draw(panel: Any, rows: Sequence[Row], height: Callable[[str], int]) -> None:
    shown = [row for row in rows if row["median"] is not None]
    for row in shown:
        y = height(_label(row))
        panel.plot(row["median"], y, "o", color="C0")
        if row["p90"] is not None:
            panel.plot([row["median"], row["p90"]], [y, y], "-", color="C0")
        if row["bound"] is not None:
            panel.plot(row["bound"], y, "|", color="C3", markersize=14)
    values = [row[name] for row in shown for name in ("median", "bound") if row[name] is not None]
    if values and min(values) > 0 and max(values) > 10 * min(values):
        panel.set_xscale("log")
    elif values and min(values) >= 0:
        panel.set_xlim(0, panel.get_xlim()[1])
    beside = panel.get_yaxis_transform()  # across in shares of the panel
    for row in rows:
        if row["median"] is None:
            panel.plot(0.98, height(_label(row)), "x", color="C7", transform=beside)
        elif row["p90"] is None:
            panel.plot(0.98, height(_label(row)), ">", color="C0", transform=beside)
    panel.grid(visible=True, axis="x", alpha=0.3)


def _commit() -> str | None:
    """Return the commit of this checkout, or None outside of one."""
    root = Path(__file__).parents[1]
    if not (root / "pyproject.toml").exists():  # installed, maybe below somebody else's checkout
        return None
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607 - git wherever it is
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
