import pytest

from calibration.crowds import crowds_of


def test_behind_an_interferometer_the_crowd_in_the_middle_is_gated() -> None:
    crowds = crowds_of({"H": 1, "V": 2, "D": 3, "A": 4}, 0.2)

    assert set(crowds) == {1, 2, 3, 4}
    assert crowds[3].comb.offsets == (-0.2, 0.0, 0.2)
    assert crowds[3].gated == {"D": 0.0}


def test_early_and_late_at_one_detector_are_a_delay_apart() -> None:
    crowds = crowds_of({"H": 1, "V": 1, "D": 2, "A": 3}, 0.2)

    assert crowds[1].gated == {"H": -0.1, "V": 0.1}
    assert crowds[1].name == "H and V"


@pytest.mark.parametrize(
    ("inputs", "delay"),
    [({"H": 1, "V": 1, "D": 2, "A": 3}, None), ({"H": 1, "V": 2, "D": 3, "A": 3}, 0.2)],
    ids=["no interferometer", "phases at one input"],
)
def test_detectors_that_no_arrival_tells_apart_are_refused(
    inputs: dict[str, int], delay: float | None
) -> None:
    with pytest.raises(ValueError, match="share an input, and no arrival time tells them apart"):
        crowds_of(inputs, delay)
