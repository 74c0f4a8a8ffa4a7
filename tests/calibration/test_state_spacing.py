"""Angles of the four states from counts in both bases."""

from math import cos, pi, radians

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import check_grad

from calibration.state_spacing import WANTED_RAD, Knowledge, StateLook, StateModel, fit_states

Floats = NDArray[np.float64]

DRIVES = Knowledge(scale=0.1, own_scale=0.02, place_rad=np.full(4, 0.01))
NOWHERE = DRIVES.of_nothing()
EFFICIENCIES = (0.2, 0.17, 0.22, 0.19)


def expected(
    angles: Floats,
    *,
    turn: float = 0.7,
    visibility: float = 0.98,
    efficiencies: tuple[float, ...] = EFFICIENCIES,
    clicks: float = 50_000,
    brightness: Floats | float = 1.0,
) -> Floats:
    """Return the clicks to expect of each state at each detector."""
    light = np.array(efficiencies) * (1 + visibility * np.cos(angles[:, None] + turn - WANTED_RAD))
    return np.asarray(np.broadcast_to(brightness, 4)[:, None] * clicks * light)


def look(counts: Floats, drives: Floats = WANTED_RAD, background: float = 0.0) -> StateLook:
    table = np.rint(counts + background).astype(np.int64)
    return StateLook(drives, table, np.ones((4, 4)), np.full((4, 4), background))


def angles_of(drives: Floats, scale: float) -> Floats:
    return np.asarray(scale * drives)


@given(
    scale=st.floats(0.75, 1.3),
    turn=st.floats(0, 2 * pi),
    visibility=st.floats(0.9, 0.995),
    efficiencies=st.tuples(*[st.floats(0.05, 0.3)] * 4),
    brightness=st.tuples(*[st.floats(0.7, 1.0)] * 4),
)
@settings(max_examples=40, deadline=None)
def test_one_look_tells_the_drives_whatever_link_and_detectors_are_like(
    scale: float,
    turn: float,
    visibility: float,
    efficiencies: tuple[float, ...],
    brightness: tuple[float, ...],
) -> None:
    seen = expected(
        angles_of(WANTED_RAD, scale),
        turn=turn,
        visibility=visibility,
        efficiencies=efficiencies,
        clicks=1e8,
        brightness=np.array(brightness),
    )

    fit = fit_states([look(seen)], DRIVES)

    drives = np.array([fit.drive_rad(state, WANTED_RAD[state]) for state in (1, 2, 3)])
    assert np.degrees(angles_of(drives, scale) - WANTED_RAD[1:]) == pytest.approx(0, abs=0.3)
    assert fit.brightness == pytest.approx(brightness / np.mean(brightness), rel=0.01)


def test_an_amplifier_that_saturates_at_one_state_is_found_out_in_a_second_look() -> None:
    bends = np.array([1.0, 1.0, 1.0, 0.97])
    drives = WANTED_RAD.copy()
    looks: list[StateLook] = []
    for _ in range(3):
        looks.append(look(expected(bends * drives, clicks=1e6), drives))
        fit = fit_states(looks, DRIVES)
        drives = np.array([fit.drive_rad(state, WANTED_RAD[state]) for state in range(4)])

    assert np.degrees(bends * drives - WANTED_RAD) == pytest.approx(0, abs=0.2)


def test_the_figure_is_the_largest_deviation_from_a_quarter_of_a_turn() -> None:
    angles = WANTED_RAD + np.radians([0.0, 2.0, -5.0, 1.0])

    error = fit_states([look(expected(angles, clicks=1e8))], NOWHERE).spacing_error_deg()

    assert error.value == pytest.approx(7.0, abs=0.1)
    assert error.low < 7.0 < error.high


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    noise = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        angles = WANTED_RAD + np.radians(3 * noise.standard_normal(4))
        counts = noise.poisson(expected(angles, turn=noise.uniform(0, 2 * pi)))
        error = fit_states([look(counts)], NOWHERE).spacing_error_deg()
        gaps = np.diff([*angles[[0, 2, 1, 3]], angles[0] + 2 * pi])
        held += error.low <= np.degrees(np.abs(gaps - pi / 2)).max() <= error.high

    assert held >= 54


def test_known_background_does_not_move_the_angles() -> None:
    angles = WANTED_RAD + np.radians([0.0, 8.0, 0.0, 0.0])

    fit = fit_states([look(expected(angles, clicks=1e6), background=3e4)], NOWHERE)

    assert np.degrees(fit.angle_rad[1]) == pytest.approx(188, abs=0.2)
    assert fit.visibility == pytest.approx((0.98, 0.98), abs=0.005)
    assert fit.misfit < 0.005


def test_states_that_lie_on_no_circle_are_seen_by_the_misfit() -> None:
    squashed = expected(WANTED_RAD, turn=0.0, clicks=1e6)
    squashed[2, :2] = squashed[2, 1::-1] * np.array([1.8, 0.2])  # D tells Z as if it were H

    assert fit_states([look(squashed)], NOWHERE).misfit > 0.1


def test_a_state_without_clicks_is_named() -> None:
    seen = expected(WANTED_RAD)
    seen[2] = 0

    with pytest.raises(ValueError, match="no clicks of state D"):
        fit_states([look(seen)], DRIVES)


@pytest.mark.parametrize("off_deg", [0.0, 5.0, 12.0])
def test_a_state_that_is_off_makes_the_error_rate_of_the_overlap(off_deg: float) -> None:
    off = np.radians([0.0, 0.0, 0.0, off_deg])
    seen = expected(WANTED_RAD + off, turn=0.0, efficiencies=(0.2,) * 4, clicks=1e7)

    fit = fit_states([look(seen)], NOWHERE)
    delta = fit.angle_rad[3] - WANTED_RAD[3]

    error_rate = seen[3, 2] / seen[3, 2:].sum()
    predicted = (1 - fit.visibility[1] * cos(delta)) / 2
    assert error_rate == pytest.approx((1 - 0.98 * cos(radians(off_deg))) / 2)
    assert predicted == pytest.approx(error_rate, abs=2e-4)


def test_the_slopes_of_the_shares_are_those_of_finite_differences() -> None:
    seen = [look(expected(WANTED_RAD, turn=turn), background=500.0) for turn in (0.3, 2.0)]
    model = StateModel(seen, DRIVES)
    point = model.start() + np.linspace(-0.1, 0.1, len(model.prior.mean))

    for row in range(8):
        for cell in range(4):
            place = row, cell
            wrong = check_grad(
                lambda x, at=place: float(model.shares(x)[0][at]),
                lambda x, at=place: model.shares(x)[1][at],
                point,
            )
            assert wrong < 1e-6
