import numpy as np
import pytest

from keyrate.decoy_bb84 import DecoyBB84, decoy_bb84
from keyrate.link import WeakCoherentLink
from keyrate.measured import DecoyCounts, measured_rate

MEANS = np.array([0.5, 0.1, 5e-4])
LINK = WeakCoherentLink(0.005, 1e-6, 0.006)
SHARES = np.array([0.6, 0.2, 0.2])


def counted(pulses: float, noise: np.random.Generator | None = None) -> DecoyCounts:
    """Count at the link; what is to be expected, or with noise."""
    sent = pulses * SHARES
    clicks = sent * LINK.gain(MEANS)
    if noise is None:
        return DecoyCounts(sent, clicks, clicks / 2, clicks / 2 * LINK.qber(MEANS))
    seen = noise.poisson(clicks)
    sifted = noise.binomial(seen, 0.5)
    errors = noise.binomial(sifted, LINK.qber(MEANS))
    return DecoyCounts(sent, *(each.astype(float) for each in (seen, sifted, errors)))


def expected() -> float:
    protocol = DecoyBB84(*MEANS)
    return float(decoy_bb84(LINK, protocol, "two weak").bits_per_pulse)


def test_exact_counts_give_the_rate_of_the_formula() -> None:
    assert measured_rate(counted(1e12), MEANS).value == pytest.approx(expected(), rel=1e-6)


def test_nine_intervals_of_ten_hold_the_truth() -> None:
    noise = np.random.default_rng(7)
    rates = [measured_rate(counted(3e9, noise), MEANS) for _ in range(300)]

    held = np.mean([rate.low <= expected() <= rate.high for rate in rates])

    assert held == pytest.approx(0.9, abs=0.04)


def test_a_hundred_times_the_counts_make_the_interval_ten_times_as_narrow() -> None:
    few, many = (measured_rate(counted(pulses), MEANS) for pulses in (1e8, 1e10))

    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(10, rel=0.1)


def test_windows_add_up_and_fade() -> None:
    both = counted(1e9).plus(counted(3e9), fading=0.5)

    assert both.pulses == pytest.approx(3.5e9 * SHARES)
    assert measured_rate(both, MEANS).value == pytest.approx(expected(), rel=1e-6)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (DecoyCounts(*np.ones((4, 2))), "three intensities"),
        (DecoyCounts(np.ones(3), np.ones(3), np.zeros(3), np.zeros(3)), "none of its clicks"),
    ],
    ids=["two intensities", "nothing sifted"],
)
def test_counts_that_tell_no_rate_are_refused(counts: DecoyCounts, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        measured_rate(counts, MEANS)
