from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom, kstest, norm

from calibration.interferometer import Encoding, Interferometer, Phases, wrapped
from calibration.observations import XX, Observations
from calibration.phase_posterior import PhasePosterior, fit, log_posterior

SPAN = (0.0, 75.0)
ENCODINGS: tuple[Encoding, ...] = ("time-bin", "four-phase")
QUARTERS = np.array([37.5, 43.5, 31.5, 40.5])


def model(encoding: Encoding = "four-phase", **changes: Any) -> Interferometer:
    return replace(Interferometer(encoding, half_wave=12.0, centre=37.5), **changes)


def truth(phase: float = 0.4, scale: float = 0.03, sign: float = 1.0) -> Phases:
    return Phases(np.array([phase]), np.array([scale]), np.log(np.array([0.01])), np.array([sign]))


def observe(
    of: Interferometer,
    at: Phases,
    drives: NDArray[np.float64],
    counts: float,
    rng: np.random.Generator | None = None,
) -> Observations:
    """Draw counts, ``counts`` in each binomial that sees the phase; without a generator exact."""
    rows = list(of.rows)
    probability = of.error_probability(at, drives)[0]
    trials, errors = np.zeros((2, len(drives), 4))
    trials[:, rows] = counts
    errors[:, rows] = counts * probability
    if rng is not None:
        trials[:, rows] = rng.poisson(counts, probability.shape)
        errors[:, rows] = rng.binomial(trials[:, rows].astype(int), probability)
    return Observations(drives[:, None], trials, errors, np.zeros(len(drives)))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_density_is_that_of_binomials_and_the_prior(encoding: Encoding) -> None:
    of, rng = model(encoding), np.random.default_rng(1)
    seen = observe(of, truth(), QUARTERS, 40, rng)

    def by_hand(phase: float, scale: float, log_floor: float) -> float:
        total = norm(0, of.scale_sigma).logpdf(scale)
        total += norm(np.log(of.floor), of.floor_log_sigma).logpdf(log_floor)
        for drive, n, k in zip(QUARTERS, seen.trials, seen.errors, strict=True):
            theta = phase + np.pi * (1 + scale) * (drive - 37.5) / 12
            cosine, sine = np.cos(theta), np.sin(theta)
            block = np.array([[cosine, -sine], [sine, cosine]])
            p = 0.5 * (1 - (1 - 2 * np.exp(log_floor)) * block)
            terms = binom(n.reshape(2, 2), p).logpmf(k.reshape(2, 2))
            total += terms[1, 1] if encoding == "time-bin" else terms.sum()
        return float(total)

    points = [(0.4, 0.0, np.log(0.01)), (0.7, 0.1, np.log(0.02)), (-2.0, -0.2, np.log(0.003))]
    phase, scale, log_floor = (np.array(values) for values in zip(*points, strict=True))
    found = log_posterior(of, seen, Phases(phase, scale, log_floor, np.ones(3)))

    expected = np.array([by_hand(*point) for point in points])
    assert found - found[0] == pytest.approx(expected - expected[0])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_exact_counts_lead_back_to_the_truth(encoding: Encoding) -> None:
    of = model(encoding)
    posterior = fit(of, observe(of, truth(), QUARTERS, 1e6), span=SPAN)

    best = posterior.modes
    assert best.phase[0] == pytest.approx(0.4, abs=2e-3)
    assert best.scale[0] == pytest.approx(0.03, abs=2e-3)
    assert best.floor[0] == pytest.approx(0.01, rel=0.02)
    assert posterior.weights[0] > 0.999


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_counts_of_mismatched_bases_tell_a_rising_from_a_falling_phase(sign: float) -> None:
    of = model("four-phase")
    posterior = fit(of, observe(of, truth(sign=sign), QUARTERS[:2], 1000), span=SPAN)
    assert posterior.slope == sign
    assert posterior.modes.sign[0] == sign


def test_error_counts_alone_do_not_tell_the_slope() -> None:
    of = model("time-bin")
    posterior = fit(of, observe(of, truth(sign=-1.0), QUARTERS, 1000), span=SPAN)
    assert posterior.slope == 0


def test_one_setting_of_error_counts_leaves_two_phases() -> None:
    of = model("time-bin")
    posterior = fit(of, observe(of, truth(phase=1.0), QUARTERS[:1], 1000), span=SPAN)

    assert sorted(posterior.modes.phase) == pytest.approx([-1.0, 1.0], abs=0.05)
    assert posterior.weights == pytest.approx([0.5, 0.5], abs=0.05)


def test_an_alias_of_the_half_wave_voltage_stays_a_mode_until_it_is_told_apart() -> None:
    of = model("four-phase", scale_sigma=0.25, sign=1)
    far = np.array([37.5, 37.5 + 60.0])  # 5 pi apart: 2 pi more or less is a scale of 40 %
    ambiguous = fit(of, observe(of, truth(scale=0.0), far, 1000), span=SPAN)
    told_apart = fit(of, observe(of, truth(scale=0.0), np.append(far, 50.0), 1000), span=SPAN)

    assert len(ambiguous.weights) >= 3
    assert min(np.round(ambiguous.modes.scale, 1)) == -0.4
    assert len(told_apart.weights) == 1


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("counts", [15, 400])
def test_the_truth_ranks_anywhere_among_posterior_samples(encoding: Encoding, counts: int) -> None:
    """Simulation-based calibration: S. Talts et al., arXiv:1804.06788."""
    of, rng, ranks = model(encoding), np.random.default_rng(5), []
    for _ in range(120):
        true = Phases(
            phase=rng.uniform(-np.pi, np.pi, 1),
            scale=of.scale_sigma * rng.normal(size=1),
            log_floor=np.log(of.floor) + of.floor_log_sigma * rng.normal(size=1),
            sign=rng.choice(of.signs, 1).astype(float),
        )
        drives = rng.uniform(*SPAN, rng.integers(2, 6))
        posterior = fit(of, observe(of, true, drives, counts, rng), span=SPAN)
        samples = posterior.samples(rng, 200)
        at = rng.uniform(*SPAN, 1)
        excess, true_excess = of.excess(samples, at)[:, 0], of.excess(true, at)[0, 0]
        ranks.append(
            [
                np.mean(samples.scale < true.scale),
                np.mean(samples.log_floor < true.log_floor),
                np.mean(excess < true_excess),
            ]
        )
    for ranked in np.transpose(ranks):
        assert kstest(ranked, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_without_counts_the_posterior_is_the_prior(encoding: Encoding) -> None:
    of, rng = model(encoding), np.random.default_rng(2)
    posterior = fit(of, observe(of, truth(), QUARTERS, 0.0), span=SPAN)

    samples = posterior.samples(rng, 4000)

    assert kstest(wrapped(samples.phase), "uniform", (-np.pi, 2 * np.pi)).pvalue > 1e-3
    assert np.std(samples.scale) == pytest.approx(of.scale_sigma, rel=0.1)


def test_zero_errors_and_nothing_but_errors_are_no_trouble() -> None:
    of = model("time-bin")
    seen = observe(of, truth(), np.array([37.5, 49.5]), 200)
    seen.errors[:, XX] = 0, 200

    posterior = fit(of, seen, span=SPAN)

    assert abs(posterior.modes.phase[0]) < 0.2
    assert np.isfinite(posterior.covariance).all()


def test_saturated_counts_lead_to_a_misfit_instead_of_a_claim() -> None:
    of = model("four-phase")
    drives = np.linspace(5, 70, 8)
    seen = observe(of, truth(), drives, 2000)
    flattened = np.clip(seen.errors, 500, 1500)  # both detectors of a basis at their ceiling

    posterior = fit(of, replace(seen, errors=flattened), span=SPAN, reference=37.5)

    assert posterior.chi2_per_dof > 4


def test_old_counts_weigh_less_where_the_phase_drifts() -> None:
    of = model("four-phase", sign=1)
    before = observe(of, truth(phase=0.0, scale=0.0), QUARTERS[:2], 1000)
    now = observe(of, truth(phase=0.5, scale=0.0), QUARTERS[:2], 1000)
    age_s = np.array([100.0, 100.0, 0.0, 0.0])
    both = Observations(
        drives=np.concatenate([before.drives, now.drives]),
        trials=np.concatenate([before.trials, now.trials]),
        errors=np.concatenate([before.errors, now.errors]),
        age_s=age_s,
    )
    drifting = fit(of, both, span=SPAN, drift_rad=0.05)
    standing = fit(of, both, span=SPAN)

    assert drifting.modes.phase[0] == pytest.approx(0.5, abs=0.05)
    assert standing.modes.phase[0] == pytest.approx(0.25, abs=0.05)


def stored() -> dict[str, Any]:
    of = model("time-bin")
    return fit(of, observe(of, truth(), QUARTERS, 500), span=SPAN).to_dict()


def test_a_stored_posterior_is_restored() -> None:
    restored = PhasePosterior.from_dict(stored())
    assert restored.to_dict() == stored()
    assert abs(np.mean(restored.samples(np.random.default_rng(0), 400).phase) - 0.4) < 0.1


@pytest.mark.parametrize(
    "damage",
    [
        {"kind": "rotation"},
        {"weights": [0.5]},
        {"weights": []},
        {"covariance": [[1.0]]},
        {"model": {"encoding": "time-bin"}},
        {"z_errors": [1.0]},
        {"modes": None},
    ],
)
def test_a_damaged_posterior_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises((KeyError, ValueError)):
        PhasePosterior.from_dict(stored() | damage)


def test_what_was_learnt_of_the_device_becomes_a_narrower_prior_for_another_phase() -> None:
    of = model("four-phase")
    learnt = fit(of, observe(of, truth(), QUARTERS, 20_000), span=SPAN).interferometer_prior()
    assert learnt.scale == pytest.approx(0.03, abs=0.02)
    assert learnt.scale_sigma < of.scale_sigma
    assert learnt.sign == 1
