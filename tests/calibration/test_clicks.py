import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from calibration.clicks import Clicks, Window, estimate_share

TABLES = arrays(np.int64, (4, 4), elements=st.integers(0, 10**6))


def test_a_table_reduces_to_four_binomials_by_measured_and_sent_basis() -> None:
    table = np.array(
        [
            [90, 10, 3, 4],
            [20, 80, 5, 6],
            [7, 8, 70, 30],
            [9, 2, 40, 60],
        ]
    )

    counts, errors = Clicks(table).by_basis()

    assert counts.tolist() == [[200, 26], [18, 200]]  # measured in Z: sent in Z, sent in X
    assert errors.tolist() == [[30, 17], [9, 70]]


def test_qber_is_the_share_of_errors_among_sifted_counts() -> None:
    clicks = Clicks(np.array([[99, 1, 5, 5], [1, 99, 5, 5], [5, 5, 97, 3], [5, 5, 3, 97]]))

    assert clicks.qber_z.value == 0.01
    assert clicks.qber_x.value == 0.03
    assert clicks.qber.value == 0.02


def test_only_the_signal_of_a_window_follows_inverted_bits() -> None:
    table = np.array([[1, 99, 5, 6], [98, 2, 5, 6], [5, 6, 97, 3], [5, 6, 3, 97]])
    window = Window(
        start_s=0.0,
        duration_s=1.0,
        source="scan",
        disclosure="calibration",
        intensities=("signal",),
        clicks=table[np.newaxis],
        singles=table.sum(axis=0),
        inverted=("Z",),
    )

    assert window.signal.qber_z.value == pytest.approx(0.015)
    assert window.signal.qber_x.value == 0.03
    assert window.signal.table.sum(axis=0).tolist() == window.singles[[1, 0, 2, 3]].tolist()


@given(TABLES)
def test_every_qber_lies_within_its_interval(table: NDArray[np.int64]) -> None:
    clicks = Clicks(table)

    for estimate in (clicks.qber, clicks.qber_z, clicks.qber_x):
        assert 0 <= estimate.low <= estimate.high <= 1
        assert np.isnan(estimate.value) or estimate.low <= estimate.value <= estimate.high


@given(TABLES, TABLES)
def test_adding_counts_adds_their_binomials(
    first: NDArray[np.int64], second: NDArray[np.int64]
) -> None:
    together = Clicks(first) + Clicks(second)

    assert together.sifted == Clicks(first).sifted + Clicks(second).sifted
    assert together.errors == Clicks(first).errors + Clicks(second).errors


@given(st.floats(0.05, 1))
def test_a_weaker_detector_leaves_the_qber_as_it_is(efficiency: float) -> None:
    mean = np.full((4, 4), 1e6)
    mean[:2, :2] = [[9e5, 1e5], [1e5, 9e5]]
    weakened = np.round(mean * [1, efficiency, 1, 1]).astype(np.int64)

    assert Clicks(weakened).qber_z.value == pytest.approx(0.1, abs=1e-5)


def test_nothing_seen_says_nothing() -> None:
    estimate = Clicks(np.zeros((4, 4), dtype=np.int64)).qber

    assert np.isnan(estimate.value)
    assert (estimate.low, estimate.high) == (0, 1)


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    # C. J. Clopper and E. S. Pearson (1934): 0 of n gives 1 - (alpha / 2)^(1 / n); the others are
    # solutions of the two binomial tails, computed independently.
    [(0, 10, 0.0, 0.2588656), (10, 10, 0.7411344, 1.0), (2, 20, 0.0180655, 0.2826185)],
)
def test_the_interval_is_clopper_and_pearsons(
    hits: int, trials: int, low: float, high: float
) -> None:
    estimate = estimate_share(hits, trials, confidence=0.9)

    assert estimate.low == pytest.approx(low, abs=1e-6)
    assert estimate.high == pytest.approx(high, abs=1e-6)


@pytest.mark.parametrize(("hits", "trials"), [(-1, 3), (4, 3)])
def test_impossible_shares_are_refused(hits: int, trials: int) -> None:
    with pytest.raises(ValueError, match="hits in"):
        estimate_share(hits, trials)


@pytest.mark.parametrize("table", [np.zeros((3, 4)), -np.ones((4, 4))])
def test_what_is_not_a_table_of_counts_is_refused(table: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="4 x 4"):
        Clicks(table)
