"""``qkdctl demo``: align a simulated bench on the wire, hold it, break it, recover, shut down.

The bench, the daemon and this story teller are three processes, as they would be in a laboratory.
What the report says of the true QBER and of violations comes from the bench's own knowledge.
"""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qkdctl.cli import text
from qkdctl.client import DaemonClient, DaemonError, NotReachedError
from qkdctl.config import PolarizationConfig, Testbed, TestbedFileError, load_testbed
from qkdctl.demo_story import Story
from qkdctl.simulate import ask_bench

EXAMPLE = "polarization-bb84.toml"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
RECOVERY_TIMEOUT_S = 30.0
HOLD_S = 10.0
HOLD_AFTER_FAULT_S = 6.0
CABLE_OUT_S = 2.0
SAMPLE_S = 0.25
WIDE_MISS_PP = 1.0
"""Excess QBER, in percentage points, above which the demo counts as failed."""

Say = Callable[[str], None]


class DemoError(Exception):
    """The story could not be told to its end; the text says where it stopped."""


@dataclass
class Bench:
    """The simulated bench, a process of its own, asked through its side channel."""

    control: Path
    testbed: Path
    story: Story

    def sample(self) -> dict[str, Any]:
        """Ask for the truth and keep it."""
        truth = ask_bench(self.control, {"do": "truth"})
        self.story.samples.append(truth | {"elapsed_s": self.story.elapsed_s()})
        return truth

    def fault(self, instrument: str, kind: str) -> None:
        """Inject a fault, or mend it."""
        ask_bench(self.control, {"do": "fault", "instrument": instrument, "kind": kind})


def run_demo(*, seed: int | None, as_json: bool, plot: Path | None, testbed: Path | None) -> int:
    """Tell the whole story and print a report.

    Args:
        seed: Seed of the simulated bench instead of the file's.
        as_json: Print one JSON object on stdout instead of text.
        plot: Where to save the plot; None is ``demo.png`` here.
        testbed: Testbed file instead of the built-in example.

    Returns:
        Exit status: 0 if everything went as it should, 1 otherwise, 2 mistakes in the file.
    """
    say: Say = _say_nothing if as_json else _say
    file = testbed or example_testbed()
    try:
        story = _story(load_testbed(file), seed)
        with tempfile.TemporaryDirectory(prefix="qkdctl-demo-") as directory:
            report = _tell(Path(directory), file, story, say)
    except TestbedFileError as exc:
        sys.stderr.write("".join(f"error: {problem}\n" for problem in exc.problems))
        return 2
    except (DemoError, DaemonError, NotReachedError) as exc:
        sys.stderr.write(f"error: {exc}\n")
        return 1
    _draw(story, report, plot or Path("demo.png"), say)
    sys.stdout.write(json.dumps(report) + "\n" if as_json else _summary(report))
    return 0 if _is_good(report) else 1


def _story(config: Testbed, seed: int | None) -> Story:
    stage = config.alignment
    has_plates = isinstance(stage, PolarizationConfig) and stage.actuator in (
        "paddles",
        "wave-plates",
    )
    knobs = [config.knobs[name] for name in stage.knobs]
    is_one_box = len({knob.instrument for knob in knobs}) == 1
    return Story(
        seed=config.simulation.seed if seed is None else seed,
        stage=config.aligning_stage,
        controller=knobs[0].instrument,
        channels=tuple(
            knob.channel if is_one_box else f"{knob.instrument}.{knob.channel}" for knob in knobs
        ),
        drive="angle, degrees" if has_plates else "voltage, V",
    )


def example_testbed() -> Path:
    """Return the built-in testbed file: inside the package in a wheel, beside it in a checkout."""
    inside = Path(__file__).parent / "examples" / EXAMPLE
    return inside if inside.exists() else Path(__file__).parent.parent / "examples" / EXAMPLE


def _tell(directory: Path, testbed: Path, story: Story, say: Say) -> dict[str, Any]:
    """Run bench and daemon, go through the chapters, return the report."""
    with _bench(directory, testbed, story) as bench:
        say("bench       simulated instruments serve their wire protocols")
        with _daemon(directory, bench.testbed) as daemon:
            say("daemon      all instruments identified, light shut")
            _calibrate(daemon, bench, story, say)
            _hold(daemon, bench, HOLD_S, say)
            recovered = _break(daemon, bench, story, say)
            _hold(daemon, bench, HOLD_AFTER_FAULT_S, say)
            end = bench.sample()
            story.mark("stop")
            daemon.call("stop")
        shut = bench.sample()
        say("stopped     light shut, outputs safe")
    return _report(story, end, shut, recovered)


@contextmanager
def _bench(directory: Path, testbed: Path, story: Story) -> Iterator[Bench]:
    served, control = directory / "testbed.toml", directory / "bench.sock"
    arguments = ["simulate", str(testbed), "--seed", str(story.seed), "--write", str(served)]
    arguments += ["--control", str(control)]
    with _process("simulated bench", directory, arguments) as process:
        _wait_for(lambda: served.exists() and _listens(control), process, "the simulated bench")
        yield Bench(control, served, story)


@contextmanager
def _daemon(directory: Path, testbed: Path) -> Iterator[DaemonClient]:
    control = directory / "daemon.sock"
    arguments = ["daemon", str(testbed), "--socket", str(control), "--state-dir", str(directory)]
    with _process("daemon", directory, arguments) as process:
        _wait_for(lambda: _listens(control), process, "the daemon")
        with DaemonClient(control) as client:
            _wait_for(lambda: client.call("status")["state"] != "starting", process, "the daemon")
            yield client
        _wait_for(lambda: process.poll() is not None, None, "the end of the daemon")


def _listens(path: Path) -> bool:
    """Whether somebody accepts connections: a socket is there a moment before that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True


@contextmanager
def _process(
    name: str, directory: Path, arguments: list[str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a qkdctl command beside us; on the way out it is told to stop and must do so."""
    log = directory / f"{name}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "qkdctl", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        yield process
    except (DemoError, NotReachedError) as exc:
        tail = log.read_text(errors="replace").strip().splitlines()[-5:]
        raise DemoError(f"{exc}; the {name} said: {' | '.join(tail) or 'nothing'}") from exc
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(
    condition: Callable[[], bool], process: "subprocess.Popen[bytes] | None", what: str
) -> None:
    """Wait until a condition holds, as long as the process that must bring it about lives."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if process is not None and process.poll() is not None:
            raise DemoError(f"{what} ended with status {process.returncode}")
        if time.monotonic() > deadline_s:
            raise DemoError(f"{what} is not ready after {START_TIMEOUT_S:g} s")
        time.sleep(0.05)


def _calibrate(daemon: DaemonClient, bench: Bench, story: Story, say: Say) -> None:
    """Calibrate all that the link needs, from wherever the bench happens to be."""
    bench.sample()
    story.mark("calibrate")
    stream = daemon.stream("calibrate", stages=[])
    for message in stream:
        progress = message["params"]
        is_aligning = progress["stage"] == story.stage
        if is_aligning:
            story.progress.append(progress | {"elapsed_s": story.elapsed_s()})
        bench.sample()
        label = progress["phase"] if is_aligning else progress["stage"]
        say(f"{label:<11} {_progress_line(progress)}")
    story.mark("calibrated")
    results = stream.result["results"]
    aligned = [
        result
        for result in results
        if result.get("stage") == story.stage and result["outcome"] == "accepted"
    ]
    if results[-1]["outcome"] not in {"accepted", "skipped"} or not aligned:
        raise DemoError(f"the calibration ended {results[-1]['outcome']}: {results[-1]['reason']}")
    story.result = aligned[-1]
    for result in results:
        if result is not story.result:
            say(f"{result['stage']:<11} {result['outcome']}: {result['reason']}")
    say(f"accepted    {story.result['reason']}")
    if story.result["expected_excess"] is not None:
        say(f"limit       {_limit_line(story.result)}")


def _hold(daemon: DaemonClient, bench: Bench, duration_s: float, say: Say) -> None:
    """Watch the daemon hold the setting under drift."""
    story = bench.story
    end_s = time.monotonic() + duration_s
    while time.monotonic() < end_s:
        truth, status = bench.sample(), daemon.call("status")
        story.windows.append(status | {"elapsed_s": story.elapsed_s()})
        time.sleep(SAMPLE_S)
    say(
        f"{status['state']:<11} true QBER {truth['qber']:.3%}, best reachable "
        f"{truth['qber_floor']:.3%}, {status['detection_rate_hz']:,.0f} detections/s"
    )
    if status["limit_excess"]:
        say(f"            {_held_line(status)}")
    if status["key_rate"] is not None:
        say(f"key rate    {text.key_rate(status)}, were the frames key")


def _break(daemon: DaemonClient, bench: Bench, story: Story, say: Say) -> bool:
    """Pull the controller's cable, put it back, and tell whether the daemon recovered."""
    story.mark("cable out")
    bench.fault(story.controller, "unplug")
    try:
        noticed = _wait_for_state(daemon, bench, "degraded")
        say(f"fault       the controller's cable was pulled: {daemon.call('status')['reason']}")
        time.sleep(CABLE_OUT_S)
    finally:
        bench.fault(story.controller, "plug")
        story.mark("cable in")
    recovered = noticed and _wait_for_state(daemon, bench, "tracking")
    story.mark("recovered")
    say("recovered   tracking again" if recovered else "fault       NOT recovered")
    return recovered


def _wait_for_state(daemon: DaemonClient, bench: Bench, state: str) -> bool:
    deadline_s = time.monotonic() + RECOVERY_TIMEOUT_S
    while time.monotonic() < deadline_s:
        bench.sample()
        if daemon.call("status")["state"] == state:
            return True
        time.sleep(SAMPLE_S)
    return False


def _report(
    story: Story, end: dict[str, Any], shut: dict[str, Any], recovered: bool
) -> dict[str, Any]:
    before, result = story.result["qber_before"], story.result
    return {
        "seed": story.seed,
        "qber_start": before["value"] if before else None,
        "qber_end": end["qber"],
        "qber_floor": end["qber_floor"],
        "excess_pp": 100 * (end["qber"] - end["qber_floor"]),
        "photons_to_align": result["photons"],
        "settings_to_align": result["settings"],
        "seconds_to_align": round(result["duration_s"], 2),
        "fault_recovered": recovered,
        "light_off_at_end": not shut["shutter_open"],
        "violations": shut["violations"],
    }


def _is_good(report: dict[str, Any]) -> bool:
    went_well: bool = report["fault_recovered"] and report["light_off_at_end"]
    return went_well and report["violations"] == 0 and report["excess_pp"] <= WIDE_MISS_PP


def _progress_line(progress: dict[str, Any]) -> str:
    if progress["qber"] is None:
        return str(progress["note"])
    qber = progress["qber"]
    line = (
        f"QBER {qber['value']:7.2%} ({qber['low']:.2%} to {qber['high']:.2%}), "
        f"{progress['photons']:6,} photons, {progress['settings']:2} settings"
    )
    if progress["expected_excess"] is not None:
        line += f", expected excess {100 * progress['expected_excess']:.3f} pp"
    return line


def _limit_line(result: dict[str, Any]) -> str:
    expected, bound = result["expected_excess"], result["excess_bound"]
    return (
        f"expected excess {100 * expected:.3f} pp; the best design could reach "
        f"{100 * bound:.3f} pp with as many photons: {expected / bound:.1f} times the limit"
    )


def _held_line(status: dict[str, Any]) -> str:
    expected, limit = status["expected_excess"], status["limit_excess"]
    return (
        f"expected excess {100 * expected:.3f} pp; the least at this drift and rate is "
        f"{100 * limit:.3f} pp: {expected / limit:.1f} times the limit"
    )


def _summary(report: dict[str, Any]) -> str:
    return (
        f"\nseed {report['seed']}: QBER {report['qber_start']:.1%} -> {report['qber_end']:.3%} "
        f"(best reachable {report['qber_floor']:.3%}, excess {report['excess_pp']:.3f} pp)\n"
        f"  {report['photons_to_align']:,} photons, {report['settings_to_align']} settings, "
        f"{report['seconds_to_align']:.1f} s to align\n"
        f"  fault recovered: {_yes(report['fault_recovered'])}, "
        f"light off at the end: {_yes(report['light_off_at_end'])}, "
        f"violations seen by the bench: {report['violations']}\n"
    )


def _draw(story: Story, report: dict[str, Any], path: Path, say: Say) -> None:
    """Save the plot, where matplotlib is installed."""
    try:
        from qkdctl.demo_plot import draw
    except ImportError:
        sys.stderr.write("no plot: install the extra 'plot' (matplotlib)\n")
        return
    draw(story, report, path)
    say(f"plot        saved as {path}")


def _yes(value: bool) -> str:
    return "yes" if value else "NO"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _say_nothing(text: str) -> None:
    """Say nothing: JSON output is one object and nothing else."""
