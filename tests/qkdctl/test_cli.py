import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import qkdctl
from qkdctl import paths
from qkdctl.cli import text
from qkdctl.cli.calibration import progress_line, report_text
from qkdctl.cli.main import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def at(fake_daemon: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let commands find the fake daemon."""
    monkeypatch.setenv("QKDCTL_SOCKET", str(fake_daemon.path))
    return fake_daemon


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands find no daemon."""
    monkeypatch.delenv("QKDCTL_SOCKET", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(paths, "SYSTEM_RUNTIME_DIRECTORY", tmp_path / "run")


# the program as a whole


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "qkdctl.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(program: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = program.communicate(timeout=30)
    return program.returncode, output, errors


def test_the_version_is_told() -> None:
    assert finish(start("--version")) == (0, f"qkdctl {qkdctl.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("status",), 0, ""),
        (("knob", "set", "epc-1", "7"), 1, "error: epc-1: 7 V is outside -5 to 5 V"),
        (("knob", "set", "epc-1", "high"), 2, "'high' is not a valid float"),
        (("status", "--socket", "/nowhere.sock"), 3, "error: no daemon listens at /nowhere.sock"),
    ],
)
def test_the_exit_status_says_how_it_went(
    at: Any, arguments: tuple[str, ...], status: int, words: str
) -> None:
    returned, output, errors = finish(start(*arguments))

    assert returned == status
    assert words in errors
    assert "Traceback" not in errors
    assert bool(output) == (status == 0)


@pytest.mark.parametrize("command", ["--help", "status"])
def test_nothing_heavy_is_imported_for_a_quick_look(at: Any, command: str) -> None:
    heavy = ("numpy", "scipy", "pydantic", "rich", "asyncio", "optuna", "pyvisa")
    code = (
        "import sys\n"
        "from qkdctl.cli.main import main\n"
        f"main([{command!r}], standalone_mode=False)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )

    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert output.splitlines()[-1] == "[]"


def test_every_command_explains_itself() -> None:
    for name, command in main.commands.items():
        assert command.help, name
        assert run(name, "--help").exit_code == 0


# looking


def test_status_is_told_in_words(at: Any) -> None:
    found = run("status")

    assert found.exit_code == 0
    assert "idle for 1 min 15 s" in found.stdout
    assert "1.23 % (1.10 % to 1.37 %)" in found.stdout
    assert "voa FAILS: voa: no answer; epc ok" in found.stdout
    assert "epc-1 1.5, epc-2 -" in found.stdout


def test_status_says_what_became_of_what_the_stack_posted(at: Any) -> None:
    feed = {"accepted": 91, "refused": {"duplicate": 2}, "missing": 3, "dropped": 0, "delay_s": 0.4}
    answer = {**json.loads(run("status", "--json").stdout), "feed": feed}
    at.operations.status = lambda: _later(answer)

    assert "91 windows, 2 refused, 3 missing, 0.4 s late" in run("status").stdout


def test_status_explains_an_unclean_end(at: Any) -> None:
    answer = {**json.loads(run("status", "--json").stdout), "last_run": "ended by a crash"}
    at.operations.status = lambda: _later(answer)

    assert "ended by a crash" in run("status").stdout


def test_status_tells_what_is_held_and_at_what_cost(at: Any, held: dict[str, Any]) -> None:
    at.operations.held = held

    told = run("status").stdout

    assert "  limit      0.015 pp, 1.3 times" in told
    assert "polarization frozen, delay frozen (stray light)" in told
    assert "4.85 % of the key of 5.00 % allowed" in told
    assert "stray-light: QBER 7.00%" in told


def test_status_and_events_say_which_bits_are_inverted(at: Any) -> None:
    answer = {**json.loads(run("status", "--json").stdout), "inverted": ["Z", "X"]}
    at.operations.status = lambda: _later(answer)

    assert "bits of Z and X" in run("status").stdout
    assert text.event_details({"kind": "inverted", "inverted": ["X"]}).startswith("bits of X are")
    assert text.event_details({"kind": "inverted", "inverted": []}).startswith("no bits are")


async def _later(answer: Any) -> Any:
    return answer


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("status",), "state"),
        (("instruments",), "instruments"),
        (("knobs",), "knobs"),
        (("history",), "rows"),
        (("history", "trials"), "rows"),
        (("events",), "events"),
        (("knob", "set", "epc-1", "1"), "value"),
        (("safe",), "state"),
        (("api",), "openrpc"),
    ],
)
def test_json_is_one_object(at: Any, command: tuple[str, ...], key: str) -> None:
    arguments = command if command == ("api",) else (*command, "--json")

    assert key in json.loads(run(*arguments).stdout)


def test_instruments_are_listed(at: Any) -> None:
    header, line = run("instruments").stdout.splitlines()

    assert header.split() == ["NAME", "LINK", "KIND", "RESOURCE", "ERRORS", "IDENTITY"]
    assert "1 of 12" in line
    assert line.index("OZ Optics") == header.index("IDENTITY")


def test_knobs_are_listed_with_their_limits(at: Any) -> None:
    _, known, unknown = run("knobs").stdout.splitlines()

    assert known.split("  ")[0] == "epc-1"
    assert "-5 to 5 V" in known
    assert " -  " in unknown


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("windows", "200 000  saturated"),
        ("trials", "epc-1 0.25"),
        ("events", "alarm        instrument: epc: gone"),
    ],
)
def test_the_record_is_shown(at: Any, kind: str, words: str) -> None:
    assert words in run("history", kind).stdout


def test_an_empty_record_is_no_failure(at: Any) -> None:
    found = run("history", "calibrations")

    assert (found.exit_code, found.stdout) == (0, "")
    assert found.stderr == "no calibrations on record\n"


def test_the_record_may_be_limited_to_the_recent_past(at: Any) -> None:
    at.operations.rows["windows"][0]["time_s"] = 0.0

    assert len(json.loads(run("history", "--since", "1h", "--json").stdout)["rows"]) == 1


def test_a_time_span_that_is_none_is_wrong_usage(at: Any) -> None:
    found = run("history", "--since", "yesterday")

    assert found.exit_code == 2
    assert "write 90s, 15min, 2h or 3d" in found.stderr


def test_events_of_one_kind_are_shown(at: Any) -> None:
    [line] = run("events", "--kind", "alarm").stdout.splitlines()

    assert "epc: gone" in line


def test_events_are_followed_without_the_frequent_ones(at: Any) -> None:
    program = start("events", "--follow", "--json")
    at.wait_for(at.operations.subscribed)
    for kind in ("window", "note"):
        at.do(at.operations.happenings.put_nowait, {"time_s": 1.0, "kind": kind, "text": "hi"})
    assert program.stdout
    line = program.stdout.readline()
    program.send_signal(signal.SIGINT)

    assert finish(program) == (0, "", "")
    assert json.loads(line) == {"time_s": 1.0, "kind": "note", "text": "hi"}


# which daemon


def test_without_a_daemon_the_status_is_three(nobody: None) -> None:
    found = run("status", "--link", "carol")

    assert found.exit_code == 3
    assert found.stderr.startswith("error: no daemon runs for link 'carol'; ")


def test_several_daemons_are_a_question_of_usage(
    nobody: None, at: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QKDCTL_SOCKET")
    (tmp_path / "qkdctl").mkdir(mode=0o700)
    for name in ("alice", "bob"):
        (tmp_path / "qkdctl" / f"{name}.sock").hardlink_to(at.path)

    assert run("status").exit_code == 2
    assert run("status", "--link", "bob").exit_code == 0


# changing


def test_a_negative_setting_is_no_option(at: Any) -> None:
    found = run("knob", "set", "epc-1", "-1.25")

    assert (found.exit_code, found.stdout) == (0, "epc-1: -1.25 V\n")
    assert at.operations.knob_value_v == -1.25


def test_a_refusal_is_one_line_with_its_cure(at: Any) -> None:
    found = run("resume")

    assert found.exit_code == 1
    assert found.stderr == "error: nothing to resume; run a calibration\n"


def test_safe_then_resume(at: Any) -> None:
    assert run("safe").stdout == "safe: operator\n"
    assert run("resume").stdout == "idle: operator\n"


def test_a_calibration_is_paused_with_the_light_as_wanted_and_finished(at: Any) -> None:
    assert run("pause").stdout == "paused: operator\n"
    assert run("pause", "--keep-light").stdout == "paused: light on\n"
    assert run("finish").stdout == "calibrating: finishing\n"


@pytest.mark.parametrize(("options", "is_continued"), [((), False), (("--continue",), True)])
def test_an_unfinished_calibration_is_continued_if_wanted(
    at: Any, options: tuple[str, ...], is_continued: bool
) -> None:
    at.do(at.operations.go_on.set)

    assert run("calibrate", "polarization", *options).exit_code == 0
    assert at.operations.is_continued is is_continued


def test_stop_returns_once_the_daemon_has_ended(at: Any) -> None:
    found = run("stop")

    assert (found.exit_code, found.stdout) == (0, "safe: operator\n")
    assert not at.path.exists()


def test_a_calibration_is_summed_up_beside_its_bound(at: Any) -> None:
    at.do(at.operations.go_on.set)

    found = run("calibrate", "polarization")

    assert found.exit_code == 0
    assert "polarization: search, QBER 1.23 %" in found.stderr
    assert "polarization  accepted\n" in found.stdout
    assert "1.23 % (1.10 % to 1.37 %), 1.21 % predicted" in found.stdout
    assert "0.050 pp expected, 90 % below 0.120 pp" in found.stdout
    assert "0.025 pp with as many photons; this is 2.0 times that" in found.stdout
    assert "3 456 photons, 9 settings, 1 min 15 s" in found.stdout


def test_an_outer_loop_follows_the_stages_that_are_named(at: Any) -> None:
    at.do(at.operations.go_on.set)

    run("calibrate", "polarization", "--outer", "key-rate")

    assert at.operations.stages == ["polarization", "key-rate"]


def test_a_calibration_prints_its_report_as_json(at: Any) -> None:
    at.do(at.operations.go_on.set)

    found = run("calibrate", "--json")

    assert json.loads(found.stdout)["results"][0]["photons"] == 3456


def test_a_stage_that_was_rolled_back_is_a_failure(at: Any) -> None:
    at.operations.outcome = "rolled-back"
    at.do(at.operations.go_on.set)

    found = run("calibrate")

    assert found.exit_code == 1
    assert "rolled-back: QBER went up" in found.stdout


def test_a_stage_that_failed_at_once_is_told_without_figures() -> None:
    report = {"results": [{"outcome": "failed", "reason": "epc: no answer"}]}

    assert report_text(report) == "calibration  failed: epc: no answer"


def test_a_report_says_which_bits_are_inverted() -> None:
    result = {"stage": "polarization", "outcome": "skipped", "inverted": ["Z"]}

    assert "inverted      bits of Z" in report_text({"results": [result]})


SKIPPED = {
    "stage": "delay",
    "outcome": "skipped",
    "reason": "still good: timing error 3 ps",
    "figure": {"name": "timing error", "unit": "ps", "target": 0.0, "before": None, "after": None},
    "photons": 8000,
    "settings": 1,
    "duration_s": 0.1,
    "setting": {"receiver.delays_ps.H": 1200.0},
}


def test_a_stage_before_the_alignment_is_told_by_its_reason_cost_and_setting() -> None:
    told = report_text({"results": [SKIPPED]})

    assert "delay    skipped: still good: timing error 3 ps" in told
    assert "8 000 photons, 1 settings" in told
    assert "receiver.delays_ps.H 1200" in told
    assert "QBER" not in told


def test_progress_without_a_qber_is_its_note() -> None:
    progress = {"stage": "bias", "phase": "search", "photons": 20, "settings": 2, "qber": None}

    line = progress_line({**progress, "expected_excess": None, "note": "null near 1.3 V"})

    assert line == "bias: search, 20 photons, 2 settings, null near 1.3 V"


def test_ctrl_c_cancels_a_calibration_and_waits_until_the_bench_is_restored(at: Any) -> None:
    at.operations.finish_restoring.clear()
    program = start("calibrate")
    at.wait_for(at.operations.calibrating)
    assert program.stderr
    assert "search" in program.stderr.readline()
    program.send_signal(signal.SIGINT)
    at.wait_for(at.operations.restoring)
    assert program.poll() is None
    at.do(at.operations.finish_restoring.set)

    status, _, errors = finish(program)

    assert status == 1
    assert "waiting until the old setting is back" in errors
    assert errors.splitlines()[-1].startswith("error: calibrate was cancelled")


def test_a_second_ctrl_c_leaves_at_once(at: Any) -> None:
    at.operations.finish_restoring.clear()
    program = start("calibrate")
    at.wait_for(at.operations.calibrating)
    assert program.stderr
    program.stderr.readline()
    program.send_signal(signal.SIGINT)
    at.wait_for(at.operations.restoring)
    program.send_signal(signal.SIGINT)

    status, _, errors = finish(program)
    at.do(at.operations.finish_restoring.set)
    at.wait_for(at.operations.restored)

    assert status == 1
    assert "Traceback" not in errors


def test_another_terminal_can_cancel(at: Any) -> None:
    program = start("calibrate")
    at.wait_for(at.operations.calibrating)

    assert run("cancel").stdout == "cancelled; the old setting is back in force\n"
    assert finish(program)[0] == 1


def test_progress_is_shown_in_place_on_a_terminal(at: Any) -> None:
    master, terminal = pty.openpty()
    program = subprocess.Popen(
        [sys.executable, "-m", "qkdctl.cli.main", "calibrate", "--json"],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(terminal)
    at.wait_for(at.operations.calibrating)
    shown = b""
    while b"epc-1 0.5" not in shown:
        shown += os.read(master, 4096)
    at.do(at.operations.go_on.set)
    output, _ = program.communicate(timeout=30)
    os.close(master)

    assert b"polarization  search" in shown
    assert json.loads(output)["results"]


# running something here


@pytest.mark.parametrize(
    ("arguments", "module", "function", "expected"),
    [
        (
            ("check", "x.toml", "--connect", "--json"),
            "qkdctl.check",
            "run_check",
            ((Path("x.toml"),), {"connect": True, "as_json": True}),
        ),
        (
            ("simulate", "x.toml", "--seed", "3", "--write", "y.toml", "--control", "c.sock"),
            "qkdctl.simulate",
            "run_simulate",
            (
                (Path("x.toml"),),
                {"seed": 3, "write": Path("y.toml"), "control": Path("c.sock")},
            ),
        ),
        (
            ("daemon", "x.toml", "--simulate", "--state-dir", "d", "--trace", "t.log"),
            "qkdctl.daemon_main",
            "run_daemon",
            (
                (Path("x.toml"),),
                {
                    "simulate": True,
                    "seed": None,
                    "socket": None,
                    "state_dir": Path("d"),
                    "trace": Path("t.log"),
                },
            ),
        ),
        (
            ("demo", "--seed", "4", "--json", "--plot", "p.png"),
            "qkdctl.demo",
            "run_demo",
            ((), {"seed": 4, "as_json": True, "plot": Path("p.png"), "testbed": None}),
        ),
        (
            ("bench", "alignment", "--seeds", "2:5", "--methods", "ours, tpe", "--json"),
            "benchmarks.run",
            "run_bench",
            (
                ("alignment", range(2, 5), ("ours", "tpe"), None),
                {"as_json": True, "plot": None},
            ),
        ),
    ],
)
def test_a_command_hands_over_and_exits_with_what_comes_back(
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    module: str,
    function: str,
    expected: Any,
) -> None:
    calls = []

    def take(*positional: Any, **named: Any) -> int:
        calls.append((positional, named))
        return 1

    monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{function: take}))  # type: ignore[arg-type]

    assert run(*arguments).exit_code == 1
    assert calls == [expected]


def test_seeds_that_are_no_range_are_wrong_usage() -> None:
    found = run("bench", "alignment", "--seeds", "7")

    assert found.exit_code == 2
    assert "write 0:60" in found.stderr


# words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "0.2 s"), (59, "59 s"), (75, "1 min 15 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_duration_is_written_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [(None, "-"), (0.00052, "0.052 %"), (0.0123, "1.23 %"), (0.48, "48.0 %"), (float("nan"), "-")],
)
def test_a_share_is_written_in_per_cent(share: float | None, words: str) -> None:
    assert text.percent(share) == words


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"kind": "state", "state": "safe", "reason": "operator"}, "safe: operator"),
        ({"kind": "note", "text": "all well"}, "all well"),
        ({"kind": "setting", "setting": {"epc-1": 1.5}, "by": "operator"}, "epc-1 1.5 (by oper"),
        ({"kind": "calibration", "stage": "polarization", "outcome": "failed"}, "polarization fai"),
        ({"kind": "progress", "stage": "polarization", "phase": "search"}, "polarization: search"),
        ({"kind": "window", "qber": None, "photons": 1234}, "QBER -, 1 234 photons"),
        ({"kind": "strange", "time_s": 0, "depth": 3}, "depth 3"),
    ],
)
def test_an_event_is_told_in_one_line(row: dict[str, Any], words: str) -> None:
    assert text.event_details(row).startswith(words)
