"""The trackers beside the alignment, as the daemon uses them: windows in, moves out."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.clicks import STATES, Window
from calibration.folding import Pattern
from calibration.tracking.bias import BiasTracker, ModulatorNull
from calibration.tracking.delay import DelayTracker
from drivers.transport.channel import ChannelError
from drivers.transport.connect import Connector
from qkdctl.config import Testbed, TestbedFileError, parse_testbed
from qkdctl.side_tracking import BiasSide, DelaySide, side_trackers
from qkdctl.simulate import build_bench, with_resources
from qkdctl.testbed import OpenTestbed

EXAMPLES = Path(__file__).parents[2] / "examples"
PATTERN = Pattern("HVDA", ("signal", "signal", "signal", "decoy", "vacuum"), 1e8)
LEVELS = {"signal": 0.5, "decoy": 0.1, "vacuum": 0.0005}
NULL_V = 1.3
DELAYS_PS = dict(zip(STATES, (21_200.0, 11_350.0, -9100.0, 21_100.0), strict=True))


def window(
    duration_s: float = 0.5, vacuum: int = 30, arrival_ps: float = 0.0, flags: tuple[str, ...] = ()
) -> Window:
    """Make a window as of a modulator near its null, at 6e4 counts of light per second."""
    clicks = np.zeros((3, 4, 4), dtype=np.int64)
    for row, count in enumerate((3 * 60_000 * duration_s, 12_000 * duration_s, vacuum)):
        clicks[row] = np.diag(np.full(4, int(count) // 4))
    return Window(
        *(0.0, duration_s, "pattern", "calibration", ("signal", "decoy", "vacuum")),
        clicks=clicks,
        singles=clicks.sum(axis=(0, 1)),
        timing_mean_ps=np.full(4, arrival_ps),
        timing_std_ps=np.full(4, 100.0),
        flags=frozenset(flags),
    )


def bias_side() -> BiasSide:
    null = ModulatorNull(NULL_V, 0.1, 5.0, 0.1, 1e-3)
    tracker = BiasTracker(null, {"bias": NULL_V}, {"bias": (-8.0, 8.0)}, now_s=0.0)
    return BiasSide(
        *(tracker, "bias", NULL_V),
        pattern=PATTERN,
        levels=LEVELS,
        vacuum="vacuum",
        gate_share=0.4,
    )


IN_FORCE = {f"receiver.delays_ps.{detector}": ps for detector, ps in DELAYS_PS.items()}


def delay_side() -> DelaySide:
    return DelaySide(DelayTracker(DELAYS_PS, gate_share=0.4, now_s=0.0), DELAYS_PS)


def test_the_bias_moves_only_when_enough_counts_are_put_together() -> None:
    side, bias_v, moves = bias_side(), NULL_V, 0
    for second in range(200):
        report = side.follow(window(duration_s=1.0, vacuum=60), {"bias": bias_v}, second + 1.0)
        moves += bool(report.moves)
        bias_v = report.moves.get("bias", bias_v)
    assert 5 < moves < 100


def test_the_bias_is_dithered_about_what_is_held() -> None:
    side = bias_side()
    moved_v = side.follow(window(), {"bias": NULL_V}, 0.5).moves["bias"]
    assert 0.001 < abs(moved_v - side.held()["bias"]) < 0.1


def test_in_the_dark_the_bias_goes_back_to_what_is_held_and_stays() -> None:
    side = bias_side()
    dithered = dict(side.follow(window(), {"bias": NULL_V}, 0.5).moves)
    back = dict(side.follow(window(vacuum=0, flags=("dark",)), dithered, 1.0).moves)
    assert back == side.held()
    assert side.follow(window(vacuum=0, flags=("dark",)), back, 1.5).moves == {}


def test_light_that_no_drift_explains_says_why_the_stage_must_be_run_anew() -> None:
    side, bias_v = bias_side(), NULL_V
    for second in range(20):
        bright = window(duration_s=1.0, vacuum=20_000)
        report = side.follow(bright, {"bias": bias_v}, second + 1.0)
        bias_v = report.moves.get("bias", bias_v)
    assert "more light in the 'vacuum' slots" in (report.lost or "")


def test_saturated_windows_are_not_learnt_from() -> None:
    saturated = window(arrival_ps=300.0, flags=("saturated",))
    for side in (bias_side(), delay_side()):
        report = side.follow(saturated, {"bias": NULL_V, **IN_FORCE}, 0.5)
        assert (report.moves, report.figures) == ({}, {})


def test_delays_follow_the_arrivals() -> None:
    side = delay_side()
    report = side.follow(window(arrival_ps=40.0), IN_FORCE, 0.5)
    held = {name: pytest.approx(ps + 40, abs=1) for name, ps in IN_FORCE.items()}
    assert report.moves == held
    assert side.held() == held
    assert report.figures["error_ps"] == pytest.approx(40, abs=1)


def test_delays_are_left_alone_within_the_dead_band() -> None:
    side = delay_side()
    for second in range(10):
        assert side.follow(window(arrival_ps=1.0), IN_FORCE, second + 1.0).moves == {}


def document(example: str = "full-bench.toml", **tracking: Any) -> dict[str, Any]:
    read = tomllib.loads((EXAMPLES / example).read_text())
    return {**read, "tracking": {**read.get("tracking", {}), **tracking}}


def opened(config: dict[str, Any]) -> OpenTestbed:
    """Make a testbed on simulated instruments, its bias known."""
    served = build_bench(parse_testbed(config, "file"), "file").in_memory(error=ChannelError)
    testbed: Testbed = parse_testbed(with_resources(config, served.resources), "file")
    bench = OpenTestbed(testbed, Connector(memory=served.channels), lambda: 0.0)
    bench.confirmed["modulator-bias"] = NULL_V
    return bench


def test_what_the_stages_set_is_tracked_without_being_asked_for() -> None:
    sides = side_trackers(opened(document()), 0.0)
    assert [side.stage for side in sides] == ["bias", "delay"]
    assert sides[0].held() == {"modulator-bias": NULL_V}


def test_tracking_can_be_turned_off_for_each() -> None:
    config = document(bias={"enabled": False}, delay={"enabled": False})
    assert side_trackers(opened(config), 0.0) == []


def test_a_bias_that_is_not_known_is_not_tracked() -> None:
    bench = opened(document())
    bench.confirmed.clear()
    assert [side.stage for side in side_trackers(bench, 0.0)] == ["delay"]


def test_a_link_without_these_stages_has_nothing_to_track() -> None:
    config = document("polarization-bb84.toml")
    config["stages"].pop("delay")
    assert side_trackers(opened(config), 0.0) == []


def test_a_section_for_what_cannot_be_tracked_is_a_mistake_with_its_reason() -> None:
    config = document("polarization-bb84.toml", bias={"drift_v_per_sqrt_s": 0.01})
    with pytest.raises(TestbedFileError, match=r"tracking\.bias.*there is no stages\.bias"):
        parse_testbed(config, "file")


def test_a_pattern_without_decoys_cannot_track_the_bias() -> None:
    config = document(bias={"enabled": True})
    config["link"]["pattern"]["intensities"] = ["signal", "signal", "vacuum"]
    with pytest.raises(TestbedFileError, match=r"tracking\.bias.*sends no decoy"):
        parse_testbed(config, "file")
