"""Asymptotic decoy-state BB84 on the fibre link of X. Ma et al., Phys. Rev. A 72, 012326 (2005)."""

import numpy as np
import pytest
from scipy.optimize import brentq

from keyrate.decoy_bb84 import (
    DecoyBB84,
    Decoys,
    best_signal,
    decoy_bb84,
    efficient_sifting,
    one_weak,
    two_weak,
    vacuum_and_weak,
)
from keyrate.entropy import binary_entropy
from keyrate.link import WeakCoherentLink, fibre_transmittance

LENGTHS_KM = np.array([0.0, 20, 50, 100, 140])
PROTOCOL = DecoyBB84(signal=0.48, weak=0.05, correction=1.22)


def gys(length_km: float | np.ndarray) -> WeakCoherentLink:
    return WeakCoherentLink(0.045 * fibre_transmittance(length_km, 0.21), 1.7e-6, 0.033)


@pytest.mark.parametrize(
    ("decoys", "rates"),
    [
        ("infinite", [2.5546e-3, 9.6245e-4, 2.2260e-4, 1.7184e-5, 2.465e-7]),
        ("vacuum+weak", [2.4142e-3, 9.0777e-4, 2.0962e-4, 1.6020e-5, 7.378e-8]),
        ("two weak", [2.4142e-3, 9.0777e-4, 2.0962e-4, 1.6020e-5, 7.378e-8]),
    ],
)
def test_rates_over_distance(decoys: Decoys, rates: list[float]) -> None:
    assert decoy_bb84(gys(LENGTHS_KM), PROTOCOL, decoys).bits_per_pulse == pytest.approx(
        rates, rel=1e-3
    )


@pytest.mark.parametrize(("decoys", "length_km"), [("infinite", 142.05), ("vacuum+weak", 140.55)])
def test_the_longest_distance_is_the_published_one(decoys: Decoys, length_km: float) -> None:
    farthest_km = brentq(
        lambda km: float(decoy_bb84(gys(km), PROTOCOL, decoys).unclipped), 100, 160
    )

    assert farthest_km == pytest.approx(length_km, abs=0.2)


def test_gains_and_error_rates_at_50_km() -> None:
    link = gys(50.0)

    assert link.gain([0.48, 0.05]) == pytest.approx([1.92495e-3, 2.02211e-4], rel=1e-5)
    assert link.qber([0.48, 0.05]) == pytest.approx([3.34124e-2, 3.69261e-2], rel=1e-5)


def test_single_photons_at_50_km_are_bounded_as_others_bound_them() -> None:
    link = gys(50.0)

    singles = vacuum_and_weak(
        0.48, 0.05, link.gain(0.48), link.gain(0.05), link.error_gain(0.05), 1.7e-6
    )

    assert float(singles.yield_1) == pytest.approx(3.954807e-3, rel=1e-5)
    assert float(singles.error_1) == pytest.approx(3.539849e-2, rel=1e-5)


@pytest.mark.parametrize(("misalignment", "signal"), [(0.033, 0.4789), (0.01, 0.7687)])
def test_the_best_signal_is_the_published_one(misalignment: float, signal: float) -> None:
    assert best_signal(misalignment, 1.22) == pytest.approx(signal, abs=1e-4)


def test_there_is_no_best_signal_where_there_is_no_key() -> None:
    with pytest.raises(ValueError, match="leaves no key"):
        best_signal(0.2)


@pytest.mark.parametrize(("correction", "ceiling"), [(1.0, 0.1100), (1.16, 0.0981), (1.22, 0.0942)])
def test_the_largest_error_rate_of_an_ideal_source(correction: float, ceiling: float) -> None:
    found = brentq(lambda e: float(1 - (1 + correction) * binary_entropy(e)), 0.01, 0.2)

    assert found == pytest.approx(ceiling, abs=5e-5)


@pytest.mark.parametrize("seed", range(20))
def test_bounds_hold_the_truth(seed: int) -> None:
    draw = np.random.default_rng(seed)
    link = WeakCoherentLink(
        10 ** -draw.uniform(0, 5), 10 ** -draw.uniform(4, 8), draw.uniform(0, 0.1)
    )
    mu, nu = draw.uniform(0.4, 0.9), draw.uniform(0.02, 0.2)
    nu_2 = nu * draw.uniform(0, 0.5)
    gain, errors = link.gain, link.error_gain

    bounds = [
        vacuum_and_weak(mu, nu, gain(mu), gain(nu), errors(nu), gain(0)),
        one_weak(mu, nu, gain(mu), errors(mu), gain(nu), errors(nu)),
        two_weak(mu, nu, nu_2, gain(mu), gain(nu), gain(nu_2), errors(nu), errors(nu_2)),
    ]

    for singles in bounds:
        assert singles.yield_1 <= link.yield_of(1) * (1 + 1e-9)
        assert singles.error_1 >= link.error_of(1) * (1 - 1e-9)


def test_one_decoy_makes_key_where_background_is_low() -> None:
    quiet = WeakCoherentLink(0.1, 1e-7, 0.005)

    rates = [
        float(decoy_bb84(quiet, PROTOCOL, decoys).bits_per_pulse)
        for decoys in ("infinite", "vacuum+weak", "one weak")
    ]

    assert rates[0] > rates[1] > rates[2] > 0


def test_a_favoured_basis_wastes_less() -> None:
    assert float(efficient_sifting(0.9)) == pytest.approx(0.81)


def test_a_link_without_a_click_errs_in_half_and_makes_no_key() -> None:
    dead = WeakCoherentLink(0.0, 0.0, 0.01)

    assert dead.qber(0.5) == 0.5
    assert dead.error_of(1) == 0.5
    assert decoy_bb84(dead, PROTOCOL, "infinite").bits_per_pulse == 0
