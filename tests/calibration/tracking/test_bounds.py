import math

import pytest

from calibration.tracking.bounds import error_counts_bound, four_phase_bound, polarization_bound

PUBLISHED_FIBRE = [  # drift, detections/s, excess in %, dither in rad
    (0.0001, 1e5, 0.0010, 0.004),
    (0.001, 1e5, 0.0045, 0.008),
    (0.01, 1e4, 0.0481, 0.024),
    (0.01, 1e5, 0.0217, 0.016),
    (0.01, 1e6, 0.0099, 0.011),
    (0.1, 1e4, 0.2492, 0.051),
    (0.1, 1e5, 0.1082, 0.035),
    (1.0, 1e4, 1.4764, 0.104),
    (1.0, 1e5, 0.5931, 0.074),
]

PUBLISHED_PHASE = [  # drift variance, counts/s, four-phase and error-counts excess in %
    (0.0001, 1e4, 0.0036, 0.0279),
    (0.01, 1e4, 0.0357, 0.1325),
    (0.01, 1e5, 0.0113, 0.0606),
    (1.0, 1e4, 0.3571, 0.6690),
    (1.0, 1e7, 0.0113, 0.0606),
]


@pytest.mark.parametrize(("drift_rad", "rate_hz", "excess_pp", "dither_rad"), PUBLISHED_FIBRE)
def test_the_polarization_bound_is_the_published_one(
    drift_rad: float, rate_hz: float, excess_pp: float, dither_rad: float
) -> None:
    bound = polarization_bound(drift_rad, rate_hz)

    assert 100 * bound.excess == pytest.approx(excess_pp, abs=0.6e-4, rel=0.003)
    assert bound.dither_rad == pytest.approx(dither_rad, abs=1e-3)


@pytest.mark.parametrize(("variance", "rate_hz", "four_phase_pp", "errors_pp"), PUBLISHED_PHASE)
def test_the_phase_bounds_are_the_published_ones(
    variance: float, rate_hz: float, four_phase_pp: float, errors_pp: float
) -> None:
    drift_rad = math.sqrt(variance)

    assert 100 * four_phase_bound(drift_rad, rate_hz).excess == pytest.approx(
        four_phase_pp, abs=0.6e-4
    )
    assert 100 * error_counts_bound(drift_rad, rate_hz).excess == pytest.approx(
        errors_pp, abs=0.6e-4
    )


def test_the_best_dither_is_as_large_as_what_is_not_known() -> None:
    bound = polarization_bound(0.001, 1e6)

    assert bound.dither_rad == pytest.approx(math.sqrt(bound.variance / 2), rel=0.02)


def test_the_published_window_follows_from_the_variance() -> None:
    assert polarization_bound(0.1, 1e5).window_s(0.1) == pytest.approx(0.0132, rel=0.01)


def test_a_link_at_rest_costs_nothing_to_hold() -> None:
    assert polarization_bound(0.0, 1e5).excess == 0
    assert error_counts_bound(0.0, 1e5).excess == 0
    assert four_phase_bound(0.0, 1e5).excess == 0


@pytest.mark.parametrize(
    ("drift_rad", "rate_hz", "floor", "named"),
    [(-0.1, 1e5, 0.005, "drift"), (0.1, 0.0, 0.005, "rate"), (0.1, 1e5, 0.5, "floor")],
)
def test_what_cannot_be_is_refused_by_name(
    drift_rad: float, rate_hz: float, floor: float, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        polarization_bound(drift_rad, rate_hz, floor=floor)
