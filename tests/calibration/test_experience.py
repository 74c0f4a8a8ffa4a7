from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calibration.experience import LEAST_SPREAD, pooled_prior
from calibration.parameters import Prior
from calibration.posterior import RotationPosterior
from calibration.retarders import RetarderChain

CHAIN = RetarderChain.nominal(2.5)
UNSURE = CHAIN.with_prior(Prior(np.zeros(CHAIN.size - 6), np.full(CHAIN.size - 6, 1e-6)))
"""The same, of which nothing is known beforehand."""

KNOWN = 0.03
"""Standard deviation of every parameter after each study."""


def study(values: np.ndarray[Any, Any], chain: RetarderChain = CHAIN) -> dict[str, Any]:
    """Describe a study that found these errors and this floor, ``(P - 6,)``, all equally well."""
    start = replace(
        CHAIN.draw(np.random.default_rng(1), 1), errors=np.zeros((1, 12)), log_floor=np.zeros(1)
    )
    mode = CHAIN.step(start, np.concatenate([np.zeros(6), values])[None])
    covariance = KNOWN**2 * np.eye(CHAIN.size)[None]
    return RotationPosterior(chain, mode, covariance, np.ones(1)).to_dict()


def errors(rng: np.random.Generator, spread: float) -> np.ndarray[Any, Any]:
    return np.append(0.05 + spread * rng.normal(size=CHAIN.size - 7), np.log(0.01))


def test_without_studies_there_is_nothing_to_pool() -> None:
    assert pooled_prior([], CHAIN) is None
    assert pooled_prior([{"chain": {}}], CHAIN) is None


def test_studies_of_another_controller_are_left_out() -> None:
    other = RetarderChain.nominal(3.0)

    assert pooled_prior([study(errors(np.random.default_rng(2), 0.0), other)], CHAIN) is None


def test_many_studies_tell_the_mean_and_the_spread_between_them() -> None:
    rng = np.random.default_rng(3)

    pooled = pooled_prior([study(errors(rng, 0.1), UNSURE) for _ in range(60)], UNSURE)

    assert pooled is not None
    assert pooled.mean[:-1] == pytest.approx(0.05, abs=0.05)
    assert np.sqrt(1 / pooled.precision[:-1]) == pytest.approx(0.1, rel=0.35)


def test_studies_that_agree_by_chance_leave_some_doubt() -> None:
    same = errors(np.random.default_rng(4), 0.0)

    pooled = pooled_prior([study(same), study(same)], CHAIN)

    assert pooled is not None
    assert np.sqrt(1 / pooled.precision[:-1]).min() > LEAST_SPREAD


def test_offsets_are_pooled_across_the_seam_of_the_circle() -> None:
    values = [np.zeros(CHAIN.size - 6) for _ in range(2)]
    values[0][4], values[1][4] = np.pi - 0.02, -np.pi + 0.02
    for each in values:
        each[-1] = np.log(0.01)

    pooled = pooled_prior([study(each) for each in values], CHAIN)

    assert pooled is not None
    assert abs(pooled.mean[4]) == pytest.approx(np.pi, abs=0.03)
    assert np.sqrt(1 / pooled.precision[4]) < 0.1


def test_a_study_that_only_repeats_its_prior_is_not_counted_again() -> None:
    believed = errors(np.random.default_rng(5), 0.0)
    prior = Prior(believed, np.full(CHAIN.size - 6, 0.9 / KNOWN**2))

    pooled = pooled_prior([study(believed, CHAIN.with_prior(prior))], CHAIN)

    assert pooled is not None
    assert pooled.precision == pytest.approx(CHAIN.prior.precision)


def test_what_a_study_told_is_freed_of_its_prior() -> None:
    believed = errors(np.random.default_rng(6), 0.0)
    halfway = believed + 0.02
    as_good = Prior(believed, np.full(CHAIN.size - 6, 0.5 / KNOWN**2))

    pooled = pooled_prior([study(halfway, CHAIN.with_prior(as_good))], UNSURE)

    assert pooled is not None
    assert pooled.mean == pytest.approx(believed + 0.04, abs=1e-3)
