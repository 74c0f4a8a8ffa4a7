"""The trackers beside the alignment, as the daemon uses them: windows in, moves out."""

import tomllib
from collections.abc import Mapping
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


class Folding:
    """Delays in force, and how often they were set."""

    def __init__(self) -> None:
        self.in_force_ps = dict(DELAYS_PS)
        self.times_set = 0

    def delays_ps(self) -> dict[str, float]:
        return dict(self.in_force_ps)

    def set_delays(self, delays_ps: Mapping[str, float]) -> None:
        self.in_force_ps = dict(delays_ps)
        self.times_set += 1


def delay_side(folding: Folding) -> DelaySide:
    return DelaySide(DelayTracker(DELAYS_PS, gate_share=0.4, now_s=0.0), folding)


def test_the_bias_moves_only_when_enough_counts_are_put_together() -> None:
    side, moves = bias_side(), 0
    for second in range(200):
        proposed = side.propose(float(second))
        moves += bool(proposed)
        side.learn(window(duration_s=1.0, vacuum=60), proposed, second + 1.0, is_dark=False)
    assert 5 < moves < 100


def test_the_bias_is_dithered_about_what_is_held() -> None:
    side = bias_side()
    first = side.propose(0.0)["bias"]
    assert abs(first - NULL_V) == pytest.approx(0.07, rel=0.01)
    assert side.held() == {"bias": NULL_V}


def test_in_the_dark_the_bias_goes_back_to_what_is_held_and_stays() -> None:
    side = bias_side()
    side.learn(window(), side.propose(0.0), 0.5, is_dark=False)
    side.learn(window(vacuum=0), side.propose(0.5), 1.0, is_dark=True)
    back = side.propose(1.0)
    assert back == side.held()
    side.learn(window(vacuum=0), back, 1.5, is_dark=True)
    assert side.propose(1.5) == {}
    assert side.status()["state"] == "frozen"


def test_light_that_no_drift_explains_shows_in_the_status() -> None:
    side = bias_side()
    for second in range(20):
        proposed = side.propose(float(second))
        side.learn(window(duration_s=1.0, vacuum=20_000), proposed, second + 1.0, is_dark=False)
    assert side.status()["state"] == "lost"


def test_saturated_windows_are_not_learnt_from() -> None:
    bias, folding = bias_side(), Folding()
    delay = delay_side(folding)
    for side in (bias, delay):
        side.learn(window(arrival_ps=300.0, flags=("saturated",)), {}, 0.5, is_dark=False)
        assert side.status()["state"] == "starting"


def test_delays_follow_the_arrivals() -> None:
    folding = Folding()
    side = delay_side(folding)
    side.learn(window(arrival_ps=40.0), side.propose(0.0), 0.5, is_dark=False)
    assert side.propose(0.5) == {}
    held = {f"receiver.delays_ps.{d}": pytest.approx(ps + 40, abs=1) for d, ps in DELAYS_PS.items()}
    assert side.held() == held
    assert side.status()["state"] == "following"


def test_delays_are_left_alone_within_the_dead_band() -> None:
    folding = Folding()
    side = delay_side(folding)
    for second in range(10):
        side.learn(window(arrival_ps=1.0), side.propose(second), second + 1.0, is_dark=False)
    assert folding.times_set == 0


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
    assert [side.name for side in sides] == ["bias", "delay"]
    assert sides[0].held() == {"modulator-bias": NULL_V}


def test_tracking_can_be_turned_off_for_each() -> None:
    config = document(bias={"enabled": False}, delay={"enabled": False})
    assert side_trackers(opened(config), 0.0) == []


def test_a_bias_that_is_not_known_is_not_tracked() -> None:
    bench = opened(document())
    bench.confirmed.clear()
    assert [side.name for side in side_trackers(bench, 0.0)] == ["delay"]


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
