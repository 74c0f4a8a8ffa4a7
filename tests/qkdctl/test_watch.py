import io
import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from qkdctl.braille import LogPlot
from qkdctl.client import DaemonClient, NotReachedError
from qkdctl.watch import View, watch


def drawn(view: View, width: int = 100, height: int = 40) -> str:
    console = Console(file=io.StringIO(), record=True, width=width, color_system=None)
    console.print(view.render(width, height))
    return console.export_text()


@pytest.fixture
def view(fake_daemon: Any) -> View:
    view = View()
    with DaemonClient(fake_daemon.path) as daemon:
        view.look(daemon)
    return view


def test_state_qber_knobs_and_events_are_in_the_picture(view: View) -> None:
    picture = drawn(view)

    assert "alice-bob  idle for 1 min 15 s  waiting" in picture
    assert "QBER 1.23 % (1.10 % to 1.37 %)" in picture
    assert "1 012 345 detections/s" in picture
    assert "voa FAILS" in picture
    assert "instrument: epc: gone" in picture


def test_what_is_held_is_shown_with_its_limit_its_cost_and_its_alarms(
    fake_daemon: Any, held: dict[str, Any]
) -> None:
    fake_daemon.operations.held = held
    view = View()
    with DaemonClient(fake_daemon.path) as daemon:
        view.look(daemon)
    picture = drawn(view, width=140)

    assert "excess 0.020 pp, limit 0.015 pp, 1.3 times" in picture
    assert "polarization frozen, delay frozen (stray light)" in picture
    assert "costs 4.85 % of the key of 5.00 % allowed: 4.80 % looked at" in picture
    assert "stray-light: QBER 7.00% where 1.23% is usual" in picture


def test_a_knob_is_drawn_where_it_stands_within_its_limits(view: View) -> None:
    [line] = [line for line in drawn(view).splitlines() if line.startswith("epc-1")]

    scale = line.split("-5 ")[1].split(" 5")[0]
    assert len(scale) == 24
    assert scale.index("●") == 15
    assert line.endswith("1.5 V")


def test_a_knob_of_unknown_setting_has_no_mark(view: View) -> None:
    [line] = [line for line in drawn(view).splitlines() if line.startswith("epc-2")]

    assert "●" not in line


def test_only_windows_that_are_new_are_taken(view: View, fake_daemon: Any) -> None:
    windows = fake_daemon.operations.rows["windows"]
    with DaemonClient(fake_daemon.path) as daemon:
        view.look(daemon)
        windows.append({**windows[-1], "time_s": windows[-1]["time_s"] + 1})
        view.look(daemon)

    times = [window["time_s"] for window in view.windows]
    assert times == sorted({window["time_s"] for window in windows})


def test_without_windows_and_without_a_daemon_there_is_still_a_picture(fake_daemon: Any) -> None:
    fake_daemon.operations.rows["windows"] = []
    view = View()
    assert "asking the daemon" in drawn(view)
    with DaemonClient(fake_daemon.path) as daemon:
        view.look(daemon)

    assert "no window measured yet" in drawn(view)


def test_trouble_is_shown_above_what_was_seen_last(view: View) -> None:
    view.trouble = "the daemon went away"

    assert drawn(view).startswith("the daemon went away")


@pytest.mark.parametrize("width", [20, 40, 80, 250])
def test_a_terminal_of_any_width_will_do(view: View, width: int) -> None:
    assert max(map(len, drawn(view, width).splitlines())) <= width


@pytest.mark.parametrize("height", [24, 30, 40])
def test_the_plot_leaves_room_for_the_rest(view: View, height: int) -> None:
    assert len(drawn(view, height=height).splitlines()) < height


def test_where_there_is_no_terminal_one_picture_is_printed(fake_daemon: Any) -> None:
    output = io.StringIO()

    watch(fake_daemon.path, Console(file=output, width=100))

    assert output.getvalue().count("alice-bob") == 1


def test_without_a_daemon_nothing_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(NotReachedError):
        watch(tmp_path / "none.sock", Console(file=io.StringIO()))


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, path: Path) -> None:
        self._master, terminal = pty.openpty()
        self.program = subprocess.Popen(
            [sys.executable, "-m", "qkdctl.cli.main", "watch", "--socket", str(path)],
            stdin=terminal,
            stdout=terminal,
            stderr=subprocess.PIPE,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
        )
        os.close(terminal)

    def wait_for(self, words: bytes) -> None:
        shown = b""
        while words not in shown:
            shown += os.read(self._master, 65536)

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def finish(self) -> tuple[int, bytes]:
        """Read the rest, as a terminal does: who draws the last picture waits for its reader."""
        with suppress(OSError):  # how Linux reports that nobody writes to the terminal any more
            while os.read(self._master, 65536):
                pass
        _, errors = self.program.communicate(timeout=30)
        os.close(self._master)
        return self.program.returncode, errors


def test_on_a_terminal_it_goes_on_until_q_even_without_its_daemon(fake_daemon: Any) -> None:
    terminal = Terminal(fake_daemon.path)
    terminal.wait_for(b"alice-bob")
    fake_daemon.do(fake_daemon.operations.stopped.set)
    terminal.wait_for(b"no daemon listens")
    terminal.press(b"q")

    assert terminal.finish() == (0, b"")


def test_ctrl_c_ends_it_too(fake_daemon: Any) -> None:
    terminal = Terminal(fake_daemon.path)
    terminal.wait_for(b"alice-bob")
    terminal.program.send_signal(signal.SIGINT)

    assert terminal.finish() == (0, b"")


# the plot


def test_dots_are_where_the_logarithm_puts_them() -> None:
    plot = LogPlot(columns=2, rows=3, x_range=(0.0, 1.0), y_range=(0.01, 1.0))
    plot.add([(0.0, 0.01), (1.0, 1.0)], "cyan")

    assert plot.render({}).plain == " │⠀⠈\n │⠀⠀\n │⡀⠀"


def test_what_lies_above_or_below_sits_on_the_edge() -> None:
    plot = LogPlot(columns=1, rows=1, x_range=(0.0, 1.0), y_range=(0.01, 1.0))
    plot.add([(0.0, 7.0), (0.0, 0.0)], "cyan")

    assert plot.render({}).plain == " │⡁"


def test_what_lies_beside_is_left_out() -> None:
    plot = LogPlot(columns=1, rows=1, x_range=(0.0, 1.0), y_range=(0.01, 1.0))
    plot.add([(2.0, 0.1), (-1.0, 0.1)], "cyan")

    assert plot.render({}).plain == " │⠀"


def test_heights_are_labelled() -> None:
    plot = LogPlot(columns=1, rows=2, x_range=(0.0, 1.0), y_range=(0.01, 1.0))

    assert plot.render({1.0: "100 %", 0.01: "1 %"}).plain == "100 % │⠀\n  1 % │⠀"
