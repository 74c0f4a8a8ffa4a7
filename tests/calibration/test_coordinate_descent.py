import math

import numpy as np
import optuna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from calibration.coordinate_descent import (
    CoordinateDescent,
    CoordinateDescentSampler,
    DescentSearch,
)
from calibration.trials import CLICKS

PERIOD_V = 5.0
LIMITS_V = (-5.0, 5.0)
SPACE = {f"v{n}": FloatDistribution(*LIMITS_V) for n in range(3)}
START = {"v0": 1.0, "v1": -2.0, "v2": 4.5}


class Valley:
    """QBER that is a sinusoid in each knob, with its minimum at a known point."""

    def __init__(self, minimum_v: tuple[float, ...], period_error: float = 0.0) -> None:
        self._minimum_v = np.array(minimum_v)
        self._period_v = PERIOD_V * (1 + period_error)

    def qber(self, point: tuple[float, ...]) -> float:
        angle = 2 * np.pi * (np.array(point) - self._minimum_v) / self._period_v
        return float(0.01 + 0.49 * (1 - np.prod((1 + np.cos(angle)) / 2)))


def descend(valley: Valley, start: tuple[float, ...], sweeps: int) -> CoordinateDescent:
    descent = CoordinateDescent(start, [LIMITS_V] * len(start), [PERIOD_V] * len(start))
    while descent.sweeps < sweeps:
        point = descent.next_point()
        assert all(LIMITS_V[0] <= value <= LIMITS_V[1] for value in point)
        descent.tell(valley.qber(point), 0.0)
    return descent


volts = st.floats(*LIMITS_V)


@given(start=st.tuples(volts, volts, volts), minimum=st.tuples(volts, volts, volts))
@settings(max_examples=50)
def test_one_sweep_without_noise_reaches_the_minimum_from_anywhere_within_the_limits(
    start: tuple[float, ...], minimum: tuple[float, ...]
) -> None:
    away = [math.remainder(s - m, PERIOD_V) for s, m in zip(start, minimum, strict=True)]
    # Where another knob stands at its worst, the product is flat.
    assume(all(abs(v) < 0.4 * PERIOD_V for v in away))

    valley = Valley(minimum)

    assert valley.qber(descend(valley, start, sweeps=1).point) == pytest.approx(0.01, abs=1e-6)


def test_a_point_near_a_limit_is_read_a_period_away_with_all_readings_a_third_apart() -> None:
    descent = CoordinateDescent((4.5,), [LIMITS_V], [PERIOD_V])
    readings = []
    for _ in range(3):
        readings.append(descent.next_point()[0])
        descent.tell(0.25, 0.0)

    assert readings == pytest.approx([-0.5, -0.5 + PERIOD_V / 3, -0.5 - PERIOD_V / 3])


def test_a_wrong_period_no_longer_matters_once_the_descent_has_converged() -> None:
    valley = Valley((0.5, -1.0, 1.5), period_error=0.1)

    assert valley.qber(descend(valley, (1.5, 0.0, 0.5), sweeps=6).point) < 0.0101


def test_the_gain_of_a_sweep_is_what_the_fits_promise() -> None:
    valley = Valley((0.5, -1.0, 1.5))
    start = (1.0, -0.5, 1.0)

    first, second = descend(valley, start, sweeps=1), descend(valley, start, sweeps=2)

    assert first.last_gain == pytest.approx(valley.qber(start) - 0.01, abs=1e-9)
    assert second.last_gain == pytest.approx(0, abs=1e-9)


def test_a_knob_whose_effect_drowns_in_noise_is_left_where_it_is() -> None:
    descent = CoordinateDescent((1.0,), [LIMITS_V], [PERIOD_V])

    for qber in (0.30, 0.31, 0.29):
        descent.tell(qber, 0.01**2)

    assert descent.point == (1.0,)


@given(volts, volts, volts, volts)
def test_no_reading_is_ever_wanted_outside_of_the_limits(
    start: float, one: float, two: float, three: float
) -> None:
    descent = CoordinateDescent((start,), [LIMITS_V], [8.0])
    for reading in (one, two, three, one, two):
        assert LIMITS_V[0] <= descent.next_point()[0] <= LIMITS_V[1]
        descent.tell(abs(reading) / 5, 0.0)


def table(qber: float, sifted: int = 10_000) -> list[list[int]]:
    wrong = round(qber * sifted / 4)
    right = sifted // 4 - wrong
    return [[right, wrong, 0, 0], [wrong, right, 0, 0], [0, 0, right, wrong], [0, 0, wrong, right]]


def run_trials(study: optuna.Study, valley: Valley, count: int) -> None:
    for _ in range(count):
        trial = study.ask()
        point = tuple(trial.suggest_float(name, *LIMITS_V) for name in SPACE)
        trial.set_user_attr(CLICKS, table(valley.qber(point)))
        study.tell(trial, valley.qber(point))


def test_a_new_sampler_on_an_old_study_goes_on_where_the_former_one_stopped() -> None:
    valley = Valley((0.5, -1.0, 3.5))
    whole = optuna.create_study(sampler=CoordinateDescentSampler(SPACE, START, PERIOD_V))
    run_trials(whole, valley, 15)

    halved = optuna.create_study(sampler=CoordinateDescentSampler(SPACE, START, PERIOD_V))
    run_trials(halved, valley, 7)
    halved.sampler = CoordinateDescentSampler(SPACE, START, PERIOD_V)
    run_trials(halved, valley, 8)

    assert [trial.params for trial in halved.trials] == [trial.params for trial in whole.trials]


def test_trials_that_the_descent_did_not_ask_for_and_failed_ones_are_passed_over() -> None:
    valley = Valley((0.5, -1.0, 3.5))
    sampler = CoordinateDescentSampler(SPACE, START, PERIOD_V)
    study = optuna.create_study(sampler=sampler)
    run_trials(study, valley, 2)
    wanted = sampler.replay(study)[0].next_point()

    study.add_trial(
        create_trial(
            value=0.2,
            params=dict.fromkeys(SPACE, 0.123),
            distributions=dict(SPACE),
            user_attrs={CLICKS: table(0.2)},
        )
    )
    failed = study.ask()
    failed.suggest_float("v0", *LIMITS_V)
    study.tell(failed, state=TrialState.FAIL)

    assert sampler.replay(study)[0].next_point() == wanted


def test_the_search_ends_when_a_sweep_gains_little_and_predicts_its_last_reading() -> None:
    valley = Valley((0.5, -1.0, 3.5))
    sampler = CoordinateDescentSampler(SPACE, START, {"v0": 5.0, "v1": 5.0, "v2": 5.0})
    search = DescentSearch(sampler, SPACE, target_excess=0.003)
    study = optuna.create_study(sampler=sampler)
    sweep = 3 * len(SPACE) + 1

    run_trials(study, valley, sweep)
    after_one = search.assess(study)
    run_trials(study, valley, sweep)
    after_two = search.assess(study)

    assert not after_one.is_final
    assert after_two.is_final
    assert after_two.predicted_qber == pytest.approx(0.01, abs=1e-3)
    assert after_two.ceiling is not None
    assert after_two.ceiling > 0.01


def test_the_search_counts_longer_for_a_finer_target() -> None:
    sampler = CoordinateDescentSampler(SPACE, START, PERIOD_V)

    coarse, fine = (
        DescentSearch(sampler, SPACE, target_excess=target).photons({}) for target in (0.05, 0.001)
    )

    assert (coarse, fine) == (1000, 9000)
