import numpy as np
import pytest

from calibration.measured_key import KeyCounts, KeyRate, measured_key_rate
from keyrate.decoy_bb84 import DecoyBB84, decoy_bb84
from keyrate.link import WeakCoherentLink

MEAN_PHOTONS, TRANSMITTANCE, BACKGROUND, ERROR = 0.5, 0.02, 1e-4, 0.015


def counts_of(pulses: float, noise: np.random.Generator | None = None) -> KeyCounts:
    """Count at a link of those parameters; what is expected, without noise."""
    arriving = -np.expm1(-TRANSMITTANCE * MEAN_PHOTONS)
    gain = 1 - (1 - BACKGROUND) * (1 - arriving)
    qber = (BACKGROUND / 2 + ERROR * arriving) / gain
    if noise is None:
        clicks = round(pulses * gain)
        sifted = clicks // 2
        return KeyCounts(
            pulses, clicks, sifted, round(sifted * qber), pulses, round(pulses * BACKGROUND)
        )
    clicks = int(noise.poisson(pulses * gain))
    sifted = int(noise.binomial(clicks, 0.5))
    errors = int(noise.binomial(sifted, qber))
    return KeyCounts(
        pulses, clicks, sifted, errors, pulses, int(noise.poisson(pulses * BACKGROUND))
    )


def test_many_counts_give_the_key_rate_of_the_formula() -> None:
    rate = measured_key_rate(counts_of(1e10), MEAN_PHOTONS)

    link = WeakCoherentLink(TRANSMITTANCE, BACKGROUND, ERROR)
    expected = decoy_bb84(link, DecoyBB84(signal=MEAN_PHOTONS), "infinite").unclipped
    assert rate.value == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("pulses", [3e5, 3e6])
def test_the_variance_is_that_of_repeated_counts(pulses: float) -> None:
    noise = np.random.default_rng(3)
    rates = [measured_key_rate(counts_of(pulses, noise), MEAN_PHOTONS) for _ in range(400)]

    spread = np.var([rate.value for rate in rates])
    assert np.mean([rate.variance for rate in rates]) == pytest.approx(spread, rel=0.25)


def test_settings_without_key_are_told_apart_below_zero() -> None:
    def at(errors: int) -> KeyRate:
        return measured_key_rate(KeyCounts(1e6, 10_000, 5000, errors), MEAN_PHOTONS)

    assert at(2000).value < at(1000).value < 0 < at(100).value


def test_no_errors_among_few_clicks_are_not_taken_for_none() -> None:
    rate = measured_key_rate(KeyCounts(1e4, 20, 10, 0), MEAN_PHOTONS)

    assert rate.variance > 0
    assert rate.value < measured_key_rate(KeyCounts(1e6, 2000, 1000, 0), MEAN_PHOTONS).value


def test_nothing_sifted_tells_no_key_rate() -> None:
    with pytest.raises(ValueError, match="0 sifted clicks"):
        measured_key_rate(KeyCounts(1e6, 10, 0, 0), MEAN_PHOTONS)
