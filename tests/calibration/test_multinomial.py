"""Shares fitted to counts."""

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.multinomial import Prior, fit_multinomial

Floats = NDArray[np.float64]

VAGUE = Prior(np.zeros(1), np.full(1, 100.0))


def odds(parameters: Floats) -> tuple[Floats, Floats]:
    """Return the shares of a coin in two rows, by its log odds."""
    share = 1 / (1 + np.exp(-parameters[0]))
    slope = share * (1 - share)
    shares = np.full((2, 2), (share, 1 - share))
    return shares, np.broadcast_to(np.array([[slope], [-slope]]), (2, 2, 1))


def test_the_fit_is_the_share_that_was_counted() -> None:
    fit = fit_multinomial(odds, np.array([[300, 100], [150, 50]]), VAGUE, np.zeros(1))

    assert fit.parameters[0] == pytest.approx(np.log(3), abs=1e-4)
    assert fit.covariance[0, 0] == pytest.approx(1 / (600 * 0.75 * 0.25), rel=1e-3)
    assert fit.misfit == 0


def test_a_prior_that_is_narrow_wins_over_few_counts() -> None:
    narrow = Prior(np.array([1.0]), np.array([0.01]))

    fit = fit_multinomial(odds, np.array([[1, 3], [0, 0]]), narrow, np.zeros(1))

    assert fit.parameters[0] == pytest.approx(1.0, abs=0.01)
    assert fit.covariance[0, 0] == pytest.approx(1e-4, rel=0.01)


def test_rows_that_contradict_each_other_are_seen_by_the_misfit() -> None:
    fit = fit_multinomial(odds, np.array([[6000, 4000], [4000, 6000]]), VAGUE, np.zeros(1))

    assert fit.misfit == pytest.approx(0.2, rel=0.02)  # 10 points of 50 either way


def test_without_counts_nothing_is_fitted() -> None:
    with pytest.raises(ValueError, match="no counts"):
        fit_multinomial(odds, np.zeros((2, 2), dtype=np.int64), VAGUE, np.zeros(1))
