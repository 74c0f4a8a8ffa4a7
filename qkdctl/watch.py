"""A live view of one link in the terminal: QBER per basis over time, knobs, counts, state."""

import os
import select
import sys
import termios
import tty
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from qkdctl.braille import LogPlot
from qkdctl.cli import text
from qkdctl.client import DaemonClient, DaemonError, NotReachedError

PERIOD_S = 0.5
"""Time between two looks at the daemon."""

KEPT_WINDOWS = 2000
SHOWN_EVENTS = 6
MIN_PLOT_ROWS, MAX_PLOT_ROWS = 5, 24
OTHER_LINES = 8
"""Heading, figures, what is tracked, frame and legend of the plot, and one line to spare."""

MARGIN = 12
"""Frame and labels of the plot, columns."""

QBER_RANGE = (0.001, 1.0)
QBER_LABELS = {0.5: "50 %", 0.1: "10 %", 0.01: "1 %", 0.001: "0.1 %"}
COLOUR_Z, COLOUR_X = "cyan", "magenta"

STATE_STYLES = {
    "tracking": "bold green",
    "calibrating": "bold yellow",
    "paused": "bold magenta",
    "degraded": "bold red",
    "safe": "bold red",
}


@dataclass
class View:
    """What the daemon said last, and the windows of the recent past."""

    status: Mapping[str, Any] | None = None
    knobs: list[Mapping[str, Any]] = field(default_factory=list)
    events: list[Mapping[str, Any]] = field(default_factory=list)
    windows: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_WINDOWS))
    trouble: str | None = None

    def look(self, daemon: DaemonClient) -> None:
        """Ask the daemon for everything that is shown."""
        self.status = daemon.call("status")
        self.knobs = daemon.call("knobs")
        self.events = daemon.call("history", kind="events", limit=SHOWN_EVENTS)["rows"]
        since_s = self.windows[-1]["time_s"] if self.windows else 0.0
        rows = daemon.call("history", kind="windows", limit=KEPT_WINDOWS, since_s=since_s)["rows"]
        self.windows.extend(row for row in rows if row["time_s"] > since_s)
        self.trouble = None

    def render(self, width: int, height: int) -> RenderableType:
        """Draw the view for a terminal of this size; the plot takes the lines that are left."""
        if self.status is None:
            return Text(self.trouble or "asking the daemon")
        lines_left = height - OTHER_LINES - len(self.knobs) - len(self.events)
        plot_rows = min(max(lines_left, MIN_PLOT_ROWS), MAX_PLOT_ROWS)
        plot = _qber_plot(self.windows, width - MARGIN, plot_rows)
        parts: list[RenderableType] = [
            _heading(self.status),
            _figures(self.status),
            *_tracking(self.status),
            Panel(plot, title="QBER", title_align="left"),
            _knob_table(self.knobs),
            Text("\n".join(map(text.event, self.events)), style="dim", no_wrap=True),
        ]
        if self.trouble:
            parts.insert(0, Text(self.trouble, style="bold red"))
        return Group(*parts)


def watch(path: Path, console: Console | None = None) -> None:
    """Show the daemon at a socket until ``q`` or Ctrl-C; one picture where there is no terminal.

    A daemon that goes away is waited for.

    Raises:
        NotReachedError: No daemon listens there at the start.
    """
    console = console or Console()
    view = View()
    with DaemonClient(path) as daemon:
        view.look(daemon)
    if not console.is_terminal:
        console.print(view.render(*console.size))
        return
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        for _ in _looks(path, view):
            live.update(view.render(*console.size), refresh=True)
            if pressed(PERIOD_S) == b"q":
                return


def _looks(path: Path, view: View) -> Iterator[None]:
    """Look at the daemon again and again, connecting anew where it went away."""
    while True:
        try:
            with DaemonClient(path) as daemon:
                while True:
                    view.look(daemon)
                    yield
        except (NotReachedError, DaemonError) as exc:
            view.trouble = str(exc)
            yield


@contextmanager
def _keys() -> Iterator[Callable[[float], bytes]]:
    """Give a function that waits for a key, at most for a time; keys are not echoed."""
    if not sys.stdin.isatty():
        yield lambda wait_s: b"".join(select.select([], [], [], wait_s)[0])
        return
    descriptor = sys.stdin.fileno()

    def key_within(wait_s: float) -> bytes:
        ready, _, _ = select.select([descriptor], [], [], wait_s)
        return os.read(descriptor, 1) if ready else b""

    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield key_within
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _heading(status: Mapping[str, Any]) -> Text:
    heading = Text(no_wrap=True)
    heading.append(f"{status['link']}  ", style="bold")
    heading.append(status["state"], style=STATE_STYLES.get(status["state"], "bold"))
    heading.append(f" for {text.duration(status['now_s'] - status['since_s'])}")
    if status["reason"]:
        heading.append(f"  {status['reason']}", style="dim")
    return heading


def _figures(status: Mapping[str, Any]) -> Text:
    light = {True: "on", False: "shut", None: "UNKNOWN"}[status["light_on"]]
    failing = ", ".join(name for name, at in status["instruments"].items() if not at["ok"])
    figures = Text("   ").join(
        [
            Text(f"QBER {text.interval(status['qber'])}"),
            Text(f"excess {text.held_excess(status)}"),
            Text(f"{text.count(status['detection_rate_hz'])} detections/s"),
            *([Text(f"key {text.key_rate(status)}")] if text.key_rate(status) else []),
            Text(f"light {light}", style="" if status["light_on"] else "yellow"),
        ]
    )
    if failing:
        figures.append(f"   {failing} FAILS", style="bold red")
    return figures


def _tracking(status: Mapping[str, Any]) -> list[Text]:
    """Say what is tracked at what cost, then what is wrong with it; nothing where nothing is."""
    tracking, alarms = status.get("tracking"), status.get("alarms", {})
    lines = []
    if tracking is not None:
        said = f"{text.trackers(tracking)}   costs {text.key_cost(tracking)}"
        lines.append(Text(said, no_wrap=True))
    if alarms:
        said = "   ".join(f"{name}: {each}" for name, each in alarms.items())
        lines.append(Text(said, style="bold red", no_wrap=True))
    return lines


def _qber_plot(windows: deque[Mapping[str, Any]], columns: int, rows: int) -> RenderableType:
    if not windows:
        return Text("no window measured yet", style="dim")
    ends = windows[0]["time_s"], max(windows[-1]["time_s"], windows[0]["time_s"] + 1)
    plot = LogPlot(max(columns, 10), rows, ends, QBER_RANGE)
    for key, colour in (("qber_z", COLOUR_Z), ("qber_x", COLOUR_X)):
        plot.add(
            (
                (window["time_s"], window[key]["value"])
                for window in windows
                if window[key] is not None and window[key]["value"] is not None
            ),
            colour,
        )
    legend = Text(f"last {text.duration(ends[1] - ends[0])}   ", style="dim")
    legend.append("• Z basis  ", style=COLOUR_Z)
    legend.append("• X basis", style=COLOUR_X)
    return Group(plot.render(QBER_LABELS), legend)


def _knob_table(knobs: list[Mapping[str, Any]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for knob in knobs:
        table.add_row(
            knob["name"], _gauge(knob), text.value(knob["value"], knob["unit"]), style="none"
        )
    return table


def _gauge(knob: Mapping[str, Any], width: int = 24) -> str:
    """Draw where within its limits a knob stands."""
    if knob["value"] is None:
        return f"{knob['minimum']:g} {'·' * width} {knob['maximum']:g}"
    share = (knob["value"] - knob["minimum"]) / (knob["maximum"] - knob["minimum"])
    at = round(min(max(share, 0), 1) * (width - 1))
    scale = "─" * at + "●" + "─" * (width - 1 - at)
    return f"{knob['minimum']:g} {scale} {knob['maximum']:g}"
