"""Asymptotic rates of the other protocols against published curves and cut-offs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from keyrate.bbm92 import PairLink, bbm92
from keyrate.bounds import plob
from keyrate.entropy import binary_entropy
from keyrate.gg02 import Detection, GaussianLink, gg02
from keyrate.link import (
    WeakCoherentLink,
    double_clicks,
    fibre_transmittance,
    registered_rate,
)
from keyrate.mdi import RelayLink, mdi
from keyrate.phase_reference import PulseTrain, cow_ceiling, dps, rrdps
from keyrate.sarg04 import one_photon_fraction, sarg04, two_photon_fraction
from keyrate.trojan_horse import leaked_phase_error
from keyrate.twin_field import TwinLink, curty_azuma_lo, phase_matching, sending_or_not


def best(rate_of: Callable[[float], Any], least: float, most: float) -> tuple[float, float]:
    """Return where the rate is highest, and how high."""
    found = minimize_scalar(
        lambda x: -float(rate_of(x).unclipped),
        bounds=(least, most),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(found.x), -float(found.fun)


def pairs(brightness: float, loss_db: float, share_of_loss: float = 0.5) -> Any:
    a = 0.145 * 10 ** (-share_of_loss * loss_db / 10)
    b = 0.145 * 10 ** (-(1 - share_of_loss) * loss_db / 10)
    return bbm92(PairLink(brightness, a, b, 6.02e-6, 6.02e-6, 0.015), 1.22)


@pytest.mark.parametrize(
    ("loss_db", "brightness", "rate"), [(0, 0.0586, 4.114e-4), (20, 0.0514, 3.621e-6)]
)
def test_pairs_with_the_source_in_the_middle(
    loss_db: float, brightness: float, rate: float
) -> None:
    found = best(lambda b: pairs(b, loss_db), 1e-3, 0.3)

    assert found == pytest.approx((brightness, rate), rel=5e-3)


@pytest.mark.parametrize(("share", "cut_off_db"), [(0.5, 61.6), (0.0, 36.6)])
def test_the_cut_off_of_pairs(share: float, cut_off_db: float) -> None:
    farthest = brentq(
        lambda db: best(lambda b: pairs(b, db, share), 1e-4, 0.3)[1], 20, 70, xtol=1e-3
    )

    assert farthest == pytest.approx(cut_off_db, abs=0.06)


@pytest.mark.parametrize(("loss_db", "rate"), [(0, 2.924561e-3), (4, 1.092146e-3)])
def test_pairs_with_perfect_optics(loss_db: float, rate: float) -> None:
    arm = 0.2 * 10 ** (-loss_db / 20)

    _, found = best(lambda b: bbm92(PairLink(b, arm, arm, 1e-5, 1e-5, 0.0), 1.0, 1.0), 1e-3, 0.5)

    assert found == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize(
    ("fraction", "threshold"), [(one_photon_fraction, 0.09689), (two_photon_fraction, 0.02710)]
)
def test_thresholds_of_sarg04(fraction: Callable[[float], Any], threshold: float) -> None:
    found = brentq(lambda e: float(fraction(e) - binary_entropy(e)), 0.005, 0.2)

    assert found == pytest.approx(threshold, abs=1e-5)


def gys_sarg(signal: float, length_km: float) -> Any:
    link = WeakCoherentLink(0.045 * fibre_transmittance(length_km, 0.21), 1.7e-6, 0.033)
    return sarg04(link, signal, 1.22)


@pytest.mark.parametrize(("length_km", "rate"), [(0, 2.526e-4), (50, 2.001e-5), (90, 9.34e-7)])
def test_sarg04_over_distance(length_km: float, rate: float) -> None:
    assert best(lambda mu: gys_sarg(mu, length_km), 0.01, 0.9)[1] == pytest.approx(rate, rel=1e-3)


def test_the_cut_off_of_sarg04() -> None:
    farthest_km = brentq(lambda km: best(lambda mu: gys_sarg(mu, km), 0.01, 0.9)[1], 80, 120)

    assert farthest_km == pytest.approx(97.3, abs=0.1)


@pytest.mark.parametrize(
    ("length_km", "signal", "rate"),
    [
        (0, 0.60, 5.715e-4),
        (50, 0.56, 5.182e-5),
        (100, 0.54, 4.579e-6),
        (150, 0.49, 3.157e-7),
        (200, None, 1.285e-9),
    ],
)
def test_the_relay_over_distance(length_km: float, signal: float | None, rate: float) -> None:
    arm = 0.145 * float(fibre_transmittance(length_km / 2))

    mu, found = best(lambda mu: mdi(RelayLink(arm, arm, 6.02e-6, 0.015), mu, mu), 0.01, 1)

    assert found == pytest.approx(rate, rel=2e-3)
    assert signal is None or mu == pytest.approx(signal, abs=0.005)


@pytest.mark.parametrize(
    ("length_km", "rate"), [(100, 1.115e-4), (200, 1.100e-5), (300, 1.013e-6), (400, 3.286e-8)]
)
def test_phase_matching_over_distance(length_km: float, rate: float) -> None:
    link = TwinLink(0.145 * fibre_transmittance(length_km / 2), 8e-8)

    mu, found = best(lambda mu: phase_matching(link, mu, 16, 1.15), 0.01, 1)

    assert found == pytest.approx(rate, rel=1e-3)
    assert mu == pytest.approx(0.2, abs=0.01)


def test_phase_matching_overtakes_the_repeaterless_bound_of_its_fibre() -> None:
    def beyond(km: float) -> float:
        link = TwinLink(0.145 * fibre_transmittance(km / 2), 8e-8)
        rate = best(lambda mu: phase_matching(link, mu, 16, 1.15), 0.01, 1)[1]
        return rate - float(plob(fibre_transmittance(km)))

    assert brentq(beyond, 250, 350, xtol=0.1) == pytest.approx(317, abs=1)


@pytest.mark.parametrize(
    ("length_km", "rate"), [(100, 4.147e-3), (200, 3.861e-4), (300, 3.680e-5), (400, 3.116e-6)]
)
def test_cat_states_over_distance(length_km: float, rate: float) -> None:
    link = TwinLink(fibre_transmittance(length_km / 2), 1e-8)

    found = best(lambda a: curty_azuma_lo(link, a, correction=1.15), 0.01, 0.8)[1]

    assert found == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize(("length_km", "rate"), [(200, 3.118e-4), (300, 2.590e-5)])
def test_cat_states_with_misalignment(length_km: float, rate: float) -> None:
    link = TwinLink(fibre_transmittance(length_km / 2), 1e-7)
    turned_rad = float(np.arcsin(np.sqrt(0.02)))

    found = best(lambda a: curty_azuma_lo(link, a, 0.02 * np.pi, turned_rad), 0.01, 0.8)[1]

    assert found == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize(
    ("misalignment", "length_km", "sending", "rate"),
    [
        (0.15, 300, 0.02, 1.29e-6),
        (0.15, 500, 0.02, 1.28e-8),
        (0.15, 700, 0.02, 1.9e-11),
        (0.25, 600, 0.01, 1.0e-10),
    ],
)
def test_sending_or_not_over_distance(
    misalignment: float, length_km: float, sending: float, rate: float
) -> None:
    link = TwinLink(0.8 * fibre_transmittance(length_km / 2), 1e-11)

    found = best(lambda mu: sending_or_not(link, mu, sending, misalignment, 1.1), 0.05, 0.9)[1]

    assert found == pytest.approx(rate, rel=0.02)


def test_sending_or_not_ends_before_700_km_where_a_quarter_is_misaligned() -> None:
    link = TwinLink(0.8 * fibre_transmittance(350.0), 1e-11)
    mu, sending = np.meshgrid(np.linspace(0.01, 0.9, 90), np.geomspace(1e-3, 0.5, 60))

    assert np.all(sending_or_not(link, mu, sending, 0.25, 1.1).unclipped < 0)


@pytest.mark.parametrize(("length_km", "signal", "rate"), [(0, 0.22, 8.07e-3), (50, 0.23, 6.89e-4)])
def test_differential_phase_shift_against_individual_attacks(
    length_km: float, signal: float, rate: float
) -> None:
    train = PulseTrain(0.1 * fibre_transmittance(length_km), 1e-5, 0.01)

    mu, found = best(lambda mu: dps(train, mu), 0.01, 0.5)

    assert (mu, found) == pytest.approx((signal, rate), rel=0.02)
    assert dps(train, mu).security_class == "individual"


def test_no_key_is_told_where_the_formula_of_dps_does_not_hold() -> None:
    assert dps(PulseTrain(0.1, 1e-5, 0.2), 0.2).bits_per_pulse == 0


def test_round_robin_needs_no_error_rate_to_know_what_eve_knows() -> None:
    quiet, noisy = (rrdps(0.1, qber, 128, 6, 1.0).unclipped for qber in (0.0, 0.05))

    assert float(quiet) == pytest.approx(0.1 * (1 - float(binary_entropy(6 / 127))))
    assert float(quiet - noisy) == pytest.approx(0.1 * float(binary_entropy(0.05)))


def test_coherent_one_way_falls_with_the_square_of_the_transmittance() -> None:
    assert cow_ceiling([1e-1, 1e-3]).tolist() == pytest.approx([1e-2, 1e-6])


@pytest.mark.parametrize(
    ("detection", "rates"),
    [
        ("homodyne", [0.711092, 0.084483, 0.021005, 0.001807]),
        ("heterodyne", [0.892321, 0.085379, 0.020903, 0.001805]),
    ],
)
def test_gaussian_modulation_over_distance(detection: Detection, rates: list[float]) -> None:
    link = GaussianLink(4.0, fibre_transmittance([0.0, 25, 50, 100]))

    assert gg02(link, detection).bits_per_pulse == pytest.approx(rates, rel=5e-4)


def test_an_ideal_homodyne_detector_at_25_km() -> None:
    link = GaussianLink(4.0, fibre_transmittance(25.0), 0.01, 1.0, 0.0)

    assert float(gg02(link).bits_per_pulse) == pytest.approx(0.147977, rel=1e-5)


def test_strong_modulation_without_noise_reaches_half_the_capacity() -> None:
    rate = gg02(GaussianLink(1e7, 0.1, 0.0, 1.0, 0.0), reconciliation=1.0).bits_per_pulse

    assert float(rate) == pytest.approx(float(plob(0.1)) / 2, rel=1e-5)


def test_light_that_does_not_leak_costs_nothing() -> None:
    assert float(leaked_phase_error(0.02, 0.0)) == pytest.approx(0.02)
    assert float(leaked_phase_error(0.02, 1e-6)) == pytest.approx(0.02, abs=1e-3)
    assert float(leaked_phase_error(0.02, 10.0)) == 0.5


def test_a_dead_time_halves_a_rate_of_one_click_each() -> None:
    assert float(registered_rate(1e6, 1e-6)) == pytest.approx(5e5)


def test_two_detectors_click_together_most_often_in_the_other_basis() -> None:
    matched = float(double_clicks(0.1, 1e-6, 0.01, is_matched=True))
    mismatched = float(double_clicks(0.1, 1e-6, 0.01, is_matched=False))

    assert matched == pytest.approx((1 - np.exp(-0.099)) * (1 - np.exp(-0.001)), rel=0.01)
    assert mismatched == pytest.approx((1 - np.exp(-0.05)) ** 2, rel=1e-3)
