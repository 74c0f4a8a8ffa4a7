import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from calibration.clicks import STATES
from calibration.scan import scan_window

INPUTS = {"H": 4, "V": 3, "D": 2, "A": 1}


def counted(table: NDArray[np.int64]) -> dict[str, dict[int, int]]:
    return {
        state: {INPUTS[detector]: int(table[i, j]) for j, detector in enumerate(STATES)}
        for i, state in enumerate(STATES)
    }


@given(arrays(np.int64, (4, 4), elements=st.integers(0, 10**6)))
def test_counts_end_up_at_their_state_and_detector(table: NDArray[np.int64]) -> None:
    window = scan_window(counted(table), INPUTS, 0.25, start_s=3.0)

    assert window.signal.table.tolist() == table.tolist()
    assert window.photons == table.sum()
    assert (window.duration_s, window.intensities) == (1.0, ("signal",))


@pytest.mark.parametrize(("total", "is_dark"), [(4000, True), (4200, True), (4400, False)])
def test_a_scan_that_the_dark_counts_explain_is_dark(total: int, is_dark: bool) -> None:
    table = np.full((4, 4), total // 16)

    window = scan_window(counted(table), INPUTS, 1.0, start_s=0.0, dark_rate_hz=250.0)

    assert ("dark" in window.flags) == is_dark


def test_nothing_counted_is_dark() -> None:
    assert scan_window(
        counted(np.zeros((4, 4), dtype=np.int64)), INPUTS, 1.0, start_s=0.0
    ).flags == {"dark"}


def test_one_count_too_fast_in_one_state_is_saturated() -> None:
    table = np.full((4, 4), 100)
    table[2, 1] = 1001

    window = scan_window(counted(table), INPUTS, 0.001, start_s=0.0, max_rate_hz=1e6)

    assert window.flags == {"saturated"}


@pytest.mark.parametrize(
    ("left_out", "complaint"),
    [
        ("state", "state D was not scanned"),
        ("detector", "detector D has no counter input"),
        ("counts", r"no counts of detector D \(input 2\)"),
    ],
)
def test_an_incomplete_scan_is_refused(left_out: str, complaint: str) -> None:
    counts, inputs = counted(np.ones((4, 4), dtype=np.int64)), dict(INPUTS)
    if left_out == "state":
        del counts["D"]
    elif left_out == "detector":
        del inputs["D"]
    else:
        del counts["H"][INPUTS["D"]]

    with pytest.raises(ValueError, match=complaint):
        scan_window(counts, inputs, 1.0, start_s=0.0)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_exposure_is_refused(duration_s: float) -> None:
    with pytest.raises(ValueError, match="exposure"):
        scan_window(counted(np.ones((4, 4), dtype=np.int64)), INPUTS, duration_s, start_s=0.0)
