import dataclasses
from typing import Any

import numpy as np
import pytest

from benchmarks.tasks.cases import read
from benchmarks.tasks.link import BudgetSpentError, Link, Step, follow
from benchmarks.tasks.scoring import Trace, figure, ratios
from benchmarks.twin import HALF_WAVE_V, Twin, TwinOptions

_, SCORING, CASES = read()

SETTING = [1.0, -2.0, 0.5, 3.0]

FROZEN = {
    "matched": 23689,
    "few-settings": 23689,
    "zx-only": 23689,
    "pooled-only": 23689,
    "hysteresis-2": 23689,
    "hysteresis-10": 23689,
    "quadratic": 23608,
    "axes-10deg": 24956,
    "loss-20db": 23840,
    "drift-0.1": 24159,
    "efficiency": 23741,
    "non-orthogonal": 24478,
    "pdl-0.5db": 23816,
    "paddles": 13552,
    "twisted": 12422,
    "retarders-3": 20879,
    "retarders-4": 32403,
    "wave-plates": 31545,
    "warm-8h": 27825,
    "warm-8h-turned": 19511,
    "warm-8h-replugged": 47501,
}
"""Errors among about 50 000 sifted counts at the second of two settings, seed 3."""


def make_link(**changes: Any) -> Link:
    return dataclasses.replace(CASES["matched"], **changes).link(3, budget_photons=10_000)


def run_of(*excess: float, photons_each: int = 100) -> Trace:
    steps = [
        Step((k + 1) * photons_each, k + 1, 0.01 * k, value, np.nan)
        for k, value in enumerate(excess)
    ]
    return Trace(steps, [])


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_frozen_so_what_changes_it_needs_a_new_version(name: str) -> None:
    link = CASES[name].link(3, budget_photons=1_000_000)
    link.count(link.middle, 100)

    errors = link.count(link.middle + 0.2 * link.half_turn, 100_000).errors
    assert errors == pytest.approx(FROZEN[name], abs=5)


def test_every_detection_is_paid_for_whatever_it_tells() -> None:
    link = make_link(counts="matched")

    reading = link.count(SETTING, 1000)

    assert reading.table is not None
    assert reading.table.sum() == reading.sifted
    assert reading.sifted < 0.6 * link.photons


def test_a_pooled_receiver_tells_one_qber() -> None:
    reading = make_link(counts="pooled").count(SETTING, 1000)

    assert reading.table is None
    assert 0 < reading.qber < 1


def test_settings_outside_the_limits_are_brought_inside() -> None:
    inside, outside = make_link(), make_link()

    seen = [
        link.count(setting, 1000).errors
        for link, setting in ((inside, [5, -5, 5, 0]), (outside, [9, -9, 9, 0]))
    ]

    assert seen[0] == seen[1]


def test_recommending_costs_nothing_and_moves_nothing() -> None:
    quiet, eager = make_link(), make_link()

    for link in (quiet, eager):
        for _ in range(3):
            if link is eager:
                link.recommend(SETTING)
            link.count(link.middle, 1000)

    assert (quiet.photons, quiet.settings) == (eager.photons, eager.settings)
    assert [step.photons for step in eager.steps] != [0, 0, 0]


def test_settling_and_counting_take_time_and_one_sided_approach_twice_the_settling() -> None:
    direct, one_sided = (
        make_link(twin=TwinOptions(hysteresis_v=0.1, one_sided=flag)) for flag in (False, True)
    )

    times = [link.count(SETTING, 1000).time_s for link in (direct, one_sided)]

    assert times[0] == pytest.approx(0.011, abs=2e-4)
    assert times[1] - times[0] == pytest.approx(0.01, abs=1e-6)


def test_a_second_look_at_the_same_setting_needs_no_settling() -> None:
    link = make_link()

    first, second = (link.count(SETTING, 1000).time_s for _ in range(2))

    assert second - first == pytest.approx(0.001, rel=0.1)


def test_the_run_ends_with_the_budget() -> None:
    def greedy(link: Link, seed: int) -> None:
        while True:
            link.count(SETTING, 4000)
            link.recommend(SETTING)

    link = make_link()

    assert len(follow(greedy, link, 0)) == 3
    with pytest.raises(BudgetSpentError):
        link.count(SETTING, 1)


def test_a_method_that_says_nothing_leaves_the_drives_where_they_were() -> None:
    [step] = follow(lambda link, seed: None, make_link(), 0)

    assert step.excess == pytest.approx(Twin(3).excess_over_best(np.zeros(4)))


def test_the_time_of_a_suggestion_does_not_hold_that_of_the_bench() -> None:
    link = Link(Twin(1), HALF_WAVE_V, budget_photons=10_000)
    for _ in range(5):
        link.count(SETTING, 100)
        link.recommend(SETTING)  # looks for the best setting: long

    assert max(link.suggestion_s) < 0.05


def test_reached_means_held_to_the_end() -> None:
    run = run_of(0.1, 0.001, 0.01, 0.004, 0.001, 0.001)

    reached, loosely, never = (run.reached(threshold) for threshold in (0.002, 0.005, 0.0005))
    assert reached is not None
    assert loosely is not None
    assert (reached.settings, loosely.settings, never) == (5, 4, None)


def test_only_the_first_claim_counts() -> None:
    run = run_of(0.1, 0.01, 0.0001)
    steps = [
        dataclasses.replace(step, excess_q90=bound)
        for step, bound in zip(run.steps, (np.nan, 0.001, 0.0005), strict=True)
    ]

    claim = Trace(steps, []).claim(0.002)

    assert claim is not None
    assert claim.excess == 0.01


def test_a_start_that_only_one_finishes_counts_as_infinite_or_as_nothing() -> None:
    good, bad = run_of(0.1, 0.001), run_of(0.1, 0.1)
    slow = run_of(0.1, 0.001, photons_each=300)

    *_, row = ratios([good, good, bad, bad], [slow, bad, slow, bad], SCORING)

    assert row["metric"] == "times_ours_to_0.2pp"
    assert (row["n"], row["median"], row["p90"]) == (3, 3.0, None)


def test_the_interval_of_a_median_narrows_with_the_number_of_runs() -> None:
    values = np.random.default_rng(1).exponential(size=400)

    few, many = (figure("x", "y", values[:n].tolist(), SCORING) for n in (20, 400))

    assert few["low"] <= few["median"] <= few["high"]
    assert many["high"] - many["low"] < 0.5 * (few["high"] - few["low"])


def test_what_is_infinite_is_none() -> None:
    row = figure("x", "y", [1.0, np.inf, np.inf], SCORING)

    assert (row["median"], row["mean"], row["p90"], row["high"]) == (None, None, None, None)
    assert row["low"] == 1.0
