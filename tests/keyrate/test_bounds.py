"""Ceilings by their published values; and that no rate exceeds them on any of 100 000 links."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keyrate.bbm92 import PairLink, bbm92
from keyrate.bounds import one_node, plob, tgw
from keyrate.decoy_bb84 import DecoyBB84, decoy_bb84
from keyrate.gg02 import GaussianLink, gg02
from keyrate.link import WeakCoherentLink, fibre_transmittance
from keyrate.mdi import RelayLink, mdi
from keyrate.phase_reference import PulseTrain, dps
from keyrate.sarg04 import sarg04
from keyrate.twin_field import TwinLink, curty_azuma_lo, phase_matching, sending_or_not

LINKS = 100_000


def test_plob_at_distances() -> None:
    ceiling = plob(fibre_transmittance([50, 100, 200, 300]))

    assert ceiling == pytest.approx([1.520e-1, 1.450e-2, 1.443e-4, 1.443e-6], rel=1e-3)


def test_three_decibels_carry_one_bit() -> None:
    assert float(plob(10**-0.301)) == pytest.approx(1, rel=1e-3)


def test_a_channel_without_loss_has_no_ceiling() -> None:
    assert np.isinf(plob(1.0))


def test_the_older_ceiling_is_the_looser_one() -> None:
    eta = np.linspace(0.01, 0.99, 50)

    assert np.all(tgw(eta) > plob(eta))


def drawn(seed: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray, np.ndarray]:
    """Draw links: transmittances of the fibre, dark counts, misalignments."""
    draw = np.random.default_rng(seed)
    eta = 10 ** -draw.uniform(0, 8, LINKS)
    return draw, eta, 10 ** -draw.uniform(4, 12, LINKS), draw.uniform(0, 0.1, LINKS)


def bb84_of(draw: Any, eta: Any, dark: Any, wrong: Any) -> Any:
    link = WeakCoherentLink(eta * draw.uniform(0.05, 1, LINKS), 2 * dark, wrong)
    protocol = DecoyBB84(draw.uniform(0.01, 1.5, LINKS), correction=1.0, sifting=1.0)
    return decoy_bb84(link, protocol, "infinite")


def sarg_of(draw: Any, eta: Any, dark: Any, wrong: Any) -> Any:
    return sarg04(WeakCoherentLink(eta, 2 * dark, wrong), draw.uniform(0.01, 1.5, LINKS), 1.0)


def pairs_of(draw: Any, eta: Any, dark: Any, wrong: Any) -> Any:
    arm = np.sqrt(eta)
    link = PairLink(draw.uniform(0.001, 1, LINKS), arm, arm, 2 * dark, 2 * dark, wrong)
    return bbm92(link, 1.0, 1.0)


def relay_of(draw: Any, eta: Any, dark: Any, wrong: Any) -> Any:
    share = draw.uniform(0, 1, LINKS)
    signals = draw.uniform(0.01, 1.5, (2, LINKS))
    return mdi(RelayLink(eta**share, eta ** (1 - share), dark, wrong), *signals, 1.0)


def train_of(draw: Any, eta: Any, dark: Any, wrong: Any) -> Any:
    return dps(PulseTrain(eta, dark, wrong), draw.uniform(0.01, 0.5, LINKS), 1.0)


def gaussian_of(draw: Any, eta: Any, dark: Any, wrong: Any) -> Any:
    link = GaussianLink(
        10 ** draw.uniform(-1, 3, LINKS),
        eta,
        draw.uniform(0, 0.05, LINKS),
        draw.uniform(0.3, 1, LINKS),
        draw.uniform(0, 0.2, LINKS),
    )
    return gg02(link, reconciliation=draw.uniform(0.8, 1, LINKS))


@pytest.mark.parametrize("rate_of", [bb84_of, sarg_of, pairs_of, relay_of, train_of, gaussian_of])
def test_no_point_to_point_rate_exceeds_the_capacity_of_its_fibre(
    rate_of: Callable[..., Any],
) -> None:
    draw, eta, dark, wrong = drawn(1)

    rate = rate_of(draw, eta, dark, wrong).bits_per_pulse

    assert np.all(rate <= plob(eta))
    assert np.mean(rate > 0) > 0.03


def matched_of(draw: Any, eta: Any, dark: Any, wrong: Any) -> Any:
    return phase_matching(TwinLink(np.sqrt(eta), dark), draw.uniform(0.01, 1, LINKS), 16, 1.0)


def cats_of(draw: Any, eta: Any, dark: Any, wrong: Any) -> Any:
    some = slice(LINKS // 10)
    amplitude = draw.uniform(0.01, 1, LINKS)[some]
    return curty_azuma_lo(TwinLink(np.sqrt(eta[some]), dark[some]), amplitude, correction=1.0)


def sending_of(draw: Any, eta: Any, dark: Any, wrong: Any) -> Any:
    signal, sending = draw.uniform(0.01, 1, LINKS), 10 ** -draw.uniform(0.5, 3, LINKS)
    return sending_or_not(TwinLink(np.sqrt(eta), dark), signal, sending, wrong, 1.0)


@pytest.mark.parametrize("rate_of", [matched_of, cats_of, sending_of])
def test_no_twin_field_rate_exceeds_the_ceiling_of_one_node(rate_of: Callable[..., Any]) -> None:
    draw, eta, dark, wrong = drawn(2)

    rate = rate_of(draw, eta, dark, wrong).bits_per_pulse

    assert np.all(rate <= one_node(eta[: rate.size]))
    assert np.mean(rate > 0) > 0.03
