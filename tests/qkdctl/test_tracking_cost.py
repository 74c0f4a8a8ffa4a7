"""What tracking costs, and what a budget leaves of it; windows of invented counts."""

from typing import Any

import numpy as np
import pytest

from calibration.clicks import Disclosure, Window
from calibration.tracking.report import Proposal, TrackingReport
from qkdctl.tracking_cost import LEAST_DITHER, KeyCost, key_lost, key_share

WINDOW_S = 0.2
ALIGNED = Proposal({"a": 1.5, "b": 0.0}, {"a": 1.0, "b": 0.0}, (0.1, 0.0), WINDOW_S)


def window(
    disclosure: Disclosure = "calibration", looked_at: int = 160, singles: int = 4
) -> Window:
    clicks = np.zeros((1, 4, 4), dtype=np.int64)
    clicks[0] = looked_at // 16
    return Window(
        start_s=0.0,
        duration_s=WINDOW_S,
        source="pattern",
        disclosure=disclosure,
        intensities=("signal",),
        clicks=clicks,
        singles=clicks[0].sum(axis=0) + singles,
    )


def report(dither_qber: float, **other: Any) -> TrackingReport:
    told = {
        "expected_excess": 2 * dither_qber,
        "excess_q90": 4 * dither_qber,
        "innovation": 0.0,
        "lost": False,
        "photons": 160,
        "floor": 0.01,
        "drift_rad": 0.003,
        "dark": False,
        "limit_excess": dither_qber,
    }
    return TrackingReport(dither_qber=dither_qber, **(told | other))


def test_no_key_is_left_at_a_qber_of_eleven_per_cent() -> None:
    assert key_share(0.0) == 1
    assert key_share(0.09) > 0
    assert key_share(0.11) == 0


def test_a_part_of_the_qber_costs_the_key_that_there_would_be_without_it() -> None:
    assert key_lost(0.02, 0.01) == pytest.approx(1 - key_share(0.02) / key_share(0.01))
    assert key_lost(0.02, 0.0) == 0
    assert key_lost(0.3, 0.01) == 0


def test_a_calibration_frame_is_no_key_and_nothing_else_is_lost() -> None:
    cost = KeyCost(None).account(window(), report(0.001), elapsed_s=WINDOW_S, rested_s=0.0)
    assert cost.photons_not_key == 176
    assert (cost.looked_at_share, cost.dither_qber, cost.key_cost) == (1.0, 0.0, 1.0)


def test_sampled_counts_cost_themselves_and_the_dither_that_key_is_made_with() -> None:
    sampled = window("sampled", looked_at=160, singles=360)
    cost = KeyCost(None).account(sampled, report(0.001), elapsed_s=WINDOW_S, rested_s=0.0)
    assert (cost.photons_not_key, cost.looked_at_share) == (160, pytest.approx(0.1))
    assert cost.dither_qber == 0.001
    assert cost.key_cost == pytest.approx(0.1 + 0.9 * key_lost(0.012, 0.001))


def test_mismatched_bases_cost_nothing_to_look_at() -> None:
    cost = KeyCost(None).account(window("mismatched"), report(0.0), WINDOW_S, 0.0)
    assert (cost.photons_not_key, cost.key_cost) == (0, 0.0)


def test_without_a_budget_there_is_no_rest_and_the_dither_is_whole() -> None:
    cost = KeyCost(None)
    cost.account(window("sampled"), report(0.01), WINDOW_S, 0.0)
    assert cost.rest_s(window()) == 0
    assert cost.restrained(ALIGNED) == ALIGNED.setting


def test_calibration_frames_keep_a_budget_by_rest_without_dither() -> None:
    cost = KeyCost(0.05)
    rested_s = 0.0
    for _ in range(200):
        cost.account(window(), report(0.001), elapsed_s=WINDOW_S + rested_s, rested_s=rested_s)
        rested_s = cost.rest_s(window())
    assert rested_s == pytest.approx(19 * WINDOW_S)
    assert cost.key_cost == pytest.approx(0.05, rel=0.02)
    assert cost.dither_qber == 0
    assert not cost.is_over


def test_in_windows_of_key_the_dither_shrinks_until_it_costs_what_it_may() -> None:
    cost = KeyCost(0.01)
    few = window("sampled", looked_at=16, singles=100_000)
    for _ in range(2000):
        cost.account(few, report(0.002), WINDOW_S, 0.0)
    scale = cost.dither_scale
    assert LEAST_DITHER < scale < 1
    assert cost.restrained(ALIGNED) == {"a": pytest.approx(1.0 + 0.5 * scale), "b": 0.0}
    assert cost.key_cost == pytest.approx(0.01, rel=0.2)
    assert not cost.is_over


def test_a_budget_that_cannot_be_kept_is_over() -> None:
    cost = KeyCost(0.01)
    for _ in range(1000):
        cost.account(window("sampled", looked_at=1600, singles=400), report(0.002), WINDOW_S, 0.0)
    assert cost.dither_scale == LEAST_DITHER
    assert cost.is_over


def test_an_average_forgets_what_is_long_past() -> None:
    cost = KeyCost(None)
    cost.account(window(), None, elapsed_s=100.0, rested_s=0.0)
    for _ in range(100):
        cost.account(window("mismatched"), None, elapsed_s=60.0, rested_s=0.0)
    assert cost.looked_at_share < 1e-4
