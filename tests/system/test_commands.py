"""Commands as an operator gives them, each a process of its own."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "polarization-bb84.toml"

MISTAKES: dict[str, Callable[[str], str]] = {
    "unknown key": lambda text: text.replace("clock_hz = 1e8", "clock_hz = 1e8\nclok = 1"),
    "unknown driver": lambda text: text.replace("ozoptics-epc400", "ozoptics-epc500"),
    "limit inverted": lambda text: text.replace("minimum = -5.0", "minimum = 6.0", 1),
    "instrument limit inverted": lambda text: text.replace(
        "max_voltage_v = 5.0", "max_voltage_v = -5.0"
    ),
    "knob wider than its instrument": lambda text: text.replace(
        "max_voltage_v = 5.0", "max_voltage_v = 4.0"
    ),
    "two knobs on one channel": lambda text: text.replace('channel = "2"', 'channel = "1"'),
    "channel that does not exist": lambda text: text.replace('channel = "2"', 'channel = "7"'),
    "malformed resource": lambda text: text.replace("tcp://192.168.1.20:7000", "tcp:/nowhere"),
    "wrong role": lambda text: text.replace('tagger = "tagger"', 'tagger = "epc"'),
    "pattern with a hole": lambda text: text.replace('states = "HVDA"', 'states = "HVD"'),
    "not TOML": lambda text: text.replace("[link]", "[link"),
}
SEEN_LATE = ("knob wider than its instrument", "not TOML")
"""Mistakes that stand for all where another command must refuse them as well."""


@pytest.fixture
def run() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    def call(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "qkdctl", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return call


@pytest.mark.parametrize(
    ("command", "mistake"),
    [
        *(("check", mistake) for mistake in MISTAKES),
        *((command, mistake) for command in ("daemon", "simulate") for mistake in SEEN_LATE),
    ],
)
def test_a_wrong_testbed_file_is_answered_with_one_clear_error(
    run: Any, tmp_path: Path, mistake: str, command: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MISTAKES[mistake](EXAMPLE.read_text()))
    assert path.read_text() != EXAMPLE.read_text()

    done = run(command, path)

    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert re.fullmatch(rf"error: {path}.*; .*", line)


@pytest.mark.parametrize("command", ["check", "daemon", "simulate"])
def test_a_missing_file_is_answered_with_one_clear_error(run: Any, command: str) -> None:
    done = run(command, "/nowhere/mine.toml")
    assert done.returncode == 2
    assert done.stderr == "error: /nowhere/mine.toml: there is no such file; check the path\n"


def test_an_instrument_that_is_not_there_fails_the_connection_check(
    run: Any, laboratory: Any
) -> None:
    laboratory.serve()
    laboratory.fault("epc", "unplug")

    done = run("check", laboratory.testbed, "--connect")

    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "instruments.epc: cannot open" in line
    assert "voa: Keysight" in done.stdout


def test_a_daemon_whose_instrument_is_not_there_says_so_and_ends(
    run: Any, laboratory: Any, tmp_path: Path
) -> None:
    laboratory.serve()
    laboratory.fault("alice", "unplug")

    done = run("daemon", laboratory.testbed, "--state-dir", tmp_path, "--socket", tmp_path / "s")

    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "alice" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_without_a_daemon_exits_with_3(run: Any, tmp_path: Path) -> None:
    done = run("status", "--socket", tmp_path / "nobody.sock")
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")


def test_a_day_in_the_laboratory(run: Any, laboratory: Any) -> None:
    """Start, look, calibrate, watch, set a knob, read the record, stop: all by command."""
    laboratory.serve()
    process = laboratory.start_daemon()
    here = ("--socket", laboratory.socket)

    calibrated = run("calibrate", "--json", *here)
    assert calibrated.returncode == 0, calibrated.stderr
    outcomes = [result["outcome"] for result in json.loads(calibrated.stdout)["results"]]
    assert outcomes == ["skipped", "skipped", "accepted"]

    laboratory.wait_for_state("tracking")
    status = json.loads(run("status", "--json", *here).stdout)
    assert status["light_on"]
    assert "tracking" in run("watch", *here).stdout
    assert len(json.loads(run("instruments", "--json", *here).stdout)["instruments"]) == 5
    assert len(json.loads(run("knobs", "--json", *here).stdout)["knobs"]) == 4
    assert json.loads(run("history", "windows", "--json", *here).stdout)["rows"]
    assert run("knob", "set", "squeezer-1", "1.0", *here).returncode == 1, "in use by the tracker"

    assert run("safe", *here).returncode == 0
    assert not laboratory.truth()["shutter_open"]
    assert run("knob", "set", "squeezer-1", "1.0", *here).returncode == 0
    assert laboratory.truth()["drives"]["1"] == pytest.approx(1.0)
    assert run("knob", "set", "squeezer-1", "7.0", *here).returncode == 1

    assert run("resume", *here).returncode == 0
    laboratory.wait_for_state("tracking")
    assert run("stop", *here).returncode == 0
    assert process.wait(30) == 0
    truth = laboratory.truth()
    assert not truth["shutter_open"]
    assert set(truth["drives"].values()) == {0.0}
    assert truth["violations"] == 0


def test_ctrl_c_cancels_a_calibration_and_restores_the_setting(laboratory: Any) -> None:
    laboratory.serve()
    laboratory.start_daemon()
    with laboratory.client() as client:
        client.call("knob_set", name="squeezer-3", value=-1.5)
    calibrate = subprocess.Popen(
        [sys.executable, "-m", "qkdctl", "calibrate", "--socket", laboratory.socket],
        stderr=subprocess.PIPE,
        text=True,
    )
    with calibrate:
        assert calibrate.stderr is not None
        for line in calibrate.stderr:
            if "search" in line:
                break
        assert laboratory.truth()["shutter_open"]
        calibrate.send_signal(signal.SIGINT)
        calibrate.stderr.read()
    assert calibrate.returncode == 1
    assert laboratory.truth()["drives"]["3"] == pytest.approx(-1.5)
    laboratory.wait_for_state("idle")
    assert not laboratory.truth()["shutter_open"]


def test_a_cable_pulled_and_put_back_is_survived_on_real_wires(laboratory: Any) -> None:
    laboratory.serve()
    laboratory.start_daemon()
    with laboratory.client() as client:
        for _ in client.stream("calibrate", stages=[]):
            pass
    laboratory.wait_for_state("tracking")
    for instrument in ("epc", "tagger", "alice"):
        laboratory.fault(instrument, "unplug")
        assert instrument in laboratory.wait_for_state("degraded")["reason"]
        assert not laboratory.truth()["shutter_open"]
        laboratory.fault(instrument, "plug")
        laboratory.wait_for_state("tracking")
    assert laboratory.truth()["violations"] == 0


def test_bench_and_daemon_run_in_one_process_too(laboratory: Any) -> None:
    process = laboratory.start_daemon("--simulate", testbed=EXAMPLE)
    with laboratory.client() as client:
        stream = client.stream("calibrate", stages=[])
        for _ in stream:
            pass
    assert stream.result["results"][-1]["outcome"] == "accepted"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_the_trace_holds_every_byte_of_the_controller(laboratory: Any) -> None:
    laboratory.serve()
    trace = laboratory.directory / "trace.txt"
    laboratory.start_daemon("--trace", trace)
    assert re.search(r"epc > b'V\?\\r\\n'", trace.read_text())
    assert re.search(r"epc < b'.*Done\\r\\n'", trace.read_text())


def test_help_and_status_import_nothing_heavy() -> None:
    script = (
        "import sys; from qkdctl.cli.main import main\n"
        "try: main(['status', '--socket', '/nowhere'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'scipy', 'optuna', 'pydantic', 'rich', 'pyvisa'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stderr=subprocess.DEVNULL)
