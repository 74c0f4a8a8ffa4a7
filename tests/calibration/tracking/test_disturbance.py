"""Causes of disturbances, told from counts drawn with known rates."""

from collections.abc import Callable

import numpy as np
import pytest

from calibration.clicks import Window
from calibration.tracking.disturbance import SETTLING_S, UNDISTURBED, Disturbances, Finding

GATE_SHARE = 0.4
DARK_HZ = 160.0
WINDOW_S = 0.2

Draw = Callable[..., Window]


@pytest.fixture
def draw() -> Draw:
    """Draw windows of a link: all slots carry the signal, gates cover GATE_SHARE of the time."""
    rng = np.random.default_rng(1000)

    def window(
        rate_hz: float = 20_000.0,
        qber: float = 0.01,
        stray_hz: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
        duration_s: float = WINDOW_S,
        flags: frozenset[str] = frozenset(),
    ) -> Window:
        shares = np.full((4, 4), 1 / 16)
        for first in (0, 2):
            block = np.array([[1 - qber, qber], [qber, 1 - qber]]) / 8
            shares[first : first + 2, first : first + 2] = block
        everywhere = np.array(stray_hz) + DARK_HZ / 4
        light = rate_hz * shares + GATE_SHARE * everywhere / 4
        clicks = rng.poisson(light * duration_s)
        outside = rng.poisson((1 - GATE_SHARE) * everywhere * duration_s)
        return Window(
            start_s=0.0,
            duration_s=duration_s,
            source="pattern",
            disclosure="calibration",
            intensities=("signal",),
            clicks=clicks[None],
            singles=clicks.sum(axis=0) + outside,
            flags=flags,
        )

    return window


@pytest.fixture
def watched(draw: Draw) -> Disturbances:
    """One that has seen what is usual."""
    disturbances = Disturbances(GATE_SHARE)
    for _ in range(20):
        disturbances.look(draw())
    return disturbances


def test_a_steady_link_is_disturbed_by_nothing(draw: Draw) -> None:
    for rate_hz in (500.0, 20_000.0, 1e6):
        disturbances = Disturbances(GATE_SHARE)
        found = {disturbances.look(draw(rate_hz)).cause for _ in range(500)}
        assert found == {None}, f"at {rate_hz:g} counts/s"


def test_rates_that_vary_by_a_decibel_are_usual(draw: Draw) -> None:
    disturbances = Disturbances(GATE_SHARE)
    rates_hz = 20_000 * 10 ** (0.1 * np.sin(np.arange(300) / 5))
    assert {disturbances.look(draw(rate_hz)).cause for rate_hz in rates_hz} == {None}


def test_a_qber_that_drifts_is_usual(draw: Draw) -> None:
    disturbances = Disturbances(GATE_SHARE)
    found = {disturbances.look(draw(qber=qber)).cause for qber in np.linspace(0.01, 0.06, 200)}
    assert found == {None}


def test_a_cut_is_dark_and_frozen(draw: Draw, watched: Disturbances) -> None:
    finding = watched.look(draw(0.0))
    assert (finding.cause, finding.is_dark, finding.is_frozen) == ("cut", True, True)
    assert finding.text.startswith("no light: ")
    assert "e+04 clicks/s is usual" in finding.text


def test_dark_counts_that_look_like_light_for_once_do_not_end_the_darkness(
    draw: Draw, watched: Disturbances
) -> None:
    assert all(watched.look(draw(0.0)).is_dark for _ in range(500))


def test_a_window_that_is_flagged_dark_is_dark_from_the_first_one_on(draw: Draw) -> None:
    assert Disturbances().look(draw(0.0, flags=frozenset({"dark"}))).is_dark


def test_light_is_back_with_its_second_window(draw: Draw, watched: Disturbances) -> None:
    watched.look(draw(0.0))
    found = [watched.look(draw()) for _ in range(2)]
    assert [each.is_dark for each in found] == [True, False]
    assert found[1] == UNDISTURBED


def test_a_bend_freezes_until_its_light_is_usual(draw: Draw, watched: Disturbances) -> None:
    found = [watched.look(draw(5_000.0)) for _ in range(round(SETTLING_S / WINDOW_S) + 2)]
    assert {each.cause for each in found[:-2]} == {"cut"}
    assert not any(each.is_dark for each in found)
    assert "dB: a bend" in found[0].text
    assert found[-1] == UNDISTURBED


def test_stray_light_is_told_by_clicks_outside_of_the_gates(
    draw: Draw, watched: Disturbances
) -> None:
    finding = watched.look(draw(stray_hz=(2_000.0,) * 4))
    assert (finding.cause, finding.is_frozen) == ("stray light", True)
    assert "more in all detectors" in finding.text


def test_a_detector_that_sees_more_of_it_is_named(draw: Draw, watched: Disturbances) -> None:
    finding = watched.look(draw(stray_hz=(0.0, 0.0, 8_000.0, 0.0)))
    assert finding.cause == "stray light"
    assert "detector D above all" in finding.text


def test_stray_light_does_not_become_usual(draw: Draw, watched: Disturbances) -> None:
    found = [watched.look(draw(stray_hz=(2_000.0,) * 4)) for _ in range(200)]
    assert {each.cause for each in found} == {"stray light"}


def test_without_gates_the_sum_of_all_counts_tells_stray_light(draw: Draw) -> None:
    disturbances = Disturbances()
    for _ in range(20):
        disturbances.look(draw())
    assert disturbances.look(draw(stray_hz=(8_000.0,) * 4)).cause == "stray light"


@pytest.mark.parametrize("gate_share", [GATE_SHARE, 1.0])
@pytest.mark.parametrize("qber", [0.06, 0.3, 0.9])
def test_a_jump_brings_errors_and_no_light(draw: Draw, gate_share: float, qber: float) -> None:
    disturbances = Disturbances(gate_share)
    for _ in range(20):
        disturbances.look(draw())
    finding = disturbances.look(draw(qber=qber))
    assert (finding.cause, finding.is_frozen) == ("jump", False)
    assert "as much light as before" in finding.text


def test_a_jump_behind_a_leaky_cover_is_a_jump(draw: Draw, watched: Disturbances) -> None:
    finding = watched.look(draw(qber=0.2, stray_hz=(100.0,) * 4))
    assert finding.cause == "jump"


def test_a_qber_that_stays_risen_becomes_usual(draw: Draw, watched: Disturbances) -> None:
    found = [watched.look(draw(qber=0.05)) for _ in range(round(SETTLING_S / WINDOW_S) + 2)]
    assert found[-1] == UNDISTURBED


def test_the_first_windows_are_compared_with_nothing(draw: Draw) -> None:
    assert Disturbances().look(draw(qber=0.5)) == Finding()
